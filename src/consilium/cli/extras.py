# SPDX-License-Identifier: Apache-2.0
"""Modules that need an extra of the package, with a refusal that names it."""

from importlib import import_module
from types import ModuleType

from consilium.errors import ConfigError


def imported(module: str, extra: str) -> ModuleType:
    """Returns `module`.

    Raises:
        ConfigError: A package of the extra is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("consilium"):
            raise
        raise ConfigError(
            f"package {error.name} is missing; expected the extra: pip install 'consilium[{extra}]'"
        ) from None
