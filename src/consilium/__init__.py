# SPDX-License-Identifier: Apache-2.0
"""Privacy-preserving machine learning for hospitals.

    import consilium
    project = consilium.load_project("recipes/pneumonia64.toml")
    trained = consilium.train(project, "runs/pneumonia")
    trained.result().test.roc_auc, trained.result().statement.guarantees

The names here come from `consilium.sdk` when they are first used: importing the package alone
loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consilium.sdk import Options, Trained, load_project, train

__version__ = "0.1.0"
__all__ = ["Options", "Trained", "load_project", "train"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'consilium' has no attribute {name!r}")
    return getattr(import_module("consilium.sdk"), name)
