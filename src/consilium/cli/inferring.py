# SPDX-License-Identifier: Apache-2.0
"""What a user asked of encrypted inference, as values; and the lazy way to what does it."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import final

from consilium.cli.model import Signing
from consilium.data.framing import Frame
from consilium.errors import ConfigError


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRequest:
    """The options of `consilium inference operator`."""

    party: int
    kit: Path
    data: Path | None
    origins: tuple[str, ...]
    stock: int
    certificate: Path | None
    key: Path | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What is said of the pictures of a model.

    Attributes:
        kind: Name, or "none"; None: what its source is known for.
        frame: How they become squares, for sources that do not say it.
        data: Folder of datasets; None: the environment's.
    """

    kind: str | None = None
    frame: Frame | None = None
    data: Path | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PublishRequest:
    """The options of `consilium inference publish`."""

    model: Path
    kit: Path
    calibrate: Path | None
    ring: int
    pictures: Pictures
    signing: Signing
    json: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CostRequest:
    """The options of `consilium inference cost`."""

    model: str
    shape: str | None
    calibrate: Path | None
    ring: int
    json: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """The options of `consilium inference compare`."""

    model: Path
    images: Path
    calibrate: Path | None
    ring: int
    operators: Path | None
    spu_python: Path | None
    spu_protocol: str
    json: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """The options of `consilium infer`."""

    images: tuple[Path, ...]
    operators: Path
    mode: str
    model: str | None
    publisher: str | None
    json: bool


def imported(module: str = "consilium.cli.encrypted") -> ModuleType:
    """Returns the module that does it.

    Raises:
        ConfigError: A package of the extra `encrypted` is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("consilium"):
            raise
        raise ConfigError(
            f"package {error.name} is missing; expected the extra: pip install "
            "'consilium[encrypted]'"
        ) from None
