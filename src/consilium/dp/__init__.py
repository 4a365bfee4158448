# SPDX-License-Identifier: Apache-2.0
"""Differential privacy: sampling, clipping, noise, and the price of them together.

    from consilium import dp
    plan = dp.plan_for(model, records, dp.Goal(...))
    private = dp.privatize(model, loss, records, plan, optimiser)
    for report in private.steps(plan.steps): ...

The modules are parts of one mechanism, the Poisson-sampled Gaussian with one patient as the
privacy unit. Each states its own guarantee; `plan` is where they meet, and the only place
where they should. Not here: who may spend a budget, and the ledger that remembers it.

The names here come from their modules when they are first used, so that the package alone
loads nothing heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from consilium.dp.clip_kinds import Automatic, Flat, PerLayer, Quantile
    from consilium.dp.clipping import PatientBatch
    from consilium.dp.conversion import converted
    from consilium.dp.private_training import Goal, plan_for, privatize
    from consilium.dp.watchdog import Watchdog

__all__ = [
    "Automatic",
    "Flat",
    "Goal",
    "PatientBatch",
    "PerLayer",
    "Quantile",
    "Watchdog",
    "converted",
    "plan_for",
    "privatize",
]

_MODULES: Final = {
    "Automatic": "clip_kinds",
    "Flat": "clip_kinds",
    "Goal": "private_training",
    "PatientBatch": "clipping",
    "PerLayer": "clip_kinds",
    "Quantile": "clip_kinds",
    "Watchdog": "watchdog",
    "converted": "conversion",
    "plan_for": "private_training",
    "privatize": "private_training",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'consilium.dp' has no attribute {name!r}")
    found: object = getattr(import_module(f"consilium.dp.{_MODULES[name]}"), name)
    return found
