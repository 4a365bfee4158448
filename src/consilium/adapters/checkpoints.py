# SPDX-License-Identifier: Apache-2.0
"""Progress on disk: one safetensors file whose header holds the rest as JSON; never pickle.

Guarantees: a file is either the old one or the new one, whole (written beside, synced, then
renamed). A checkpoint that was damaged, or is of another project, data, arm or seed, is refused;
one that was changed on purpose is not noticed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, DataError
from consilium.federation.progress import Progress, Validation
from consilium.learning.averaging import WeightAverage
from consilium.learning.optimisers import OptimiserState
from consilium.wire import digest

NAME: Final = "checkpoint.safetensors"
_VERSION: Final = 2  # raised whenever the same project file has another digest than before

_DAMAGE: Final = (SafetensorError, msgspec.MsgspecError, OSError, TypeError, AttributeError)

Arrays = Mapping[str, NDArray[np.generic]]


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    terms: str
    seed: int
    round: int
    attempts: int
    history: tuple[Validation, ...]
    digest: str = ""


def save_progress(path: Path, progress: Progress, *, terms: bytes, seed: int) -> None:
    """Writes `progress` so that it survives a crash at any moment."""
    arrays: dict[str, NDArray[np.generic]] = {"weights": progress.weights}
    arrays |= {f"optimiser.{k}": v for k, v in progress.optimiser.to_arrays().items()}
    arrays |= {f"average.{k}": v for k, v in progress.average.to_arrays().items()}
    if progress.best is not None:
        arrays["best"] = progress.best
    header = _Header(
        version=_VERSION,
        terms=terms.hex(),
        seed=seed,
        round=progress.round,
        attempts=progress.attempts,
        history=progress.history,
    )
    whole = replace(header, digest=_digest(header, arrays).hex())
    write_whole(path, save(arrays, {"consilium": msgspec.json.encode(whole).decode()}))


def load_progress(path: Path, *, terms: bytes, seed: int) -> Progress:
    """Returns the progress in the file at `path`.

    Raises:
        DataError: The file is damaged or not a checkpoint of this version.
        ConfigError: It belongs to another project, data, arm or seed.
    """
    header, arrays = _read(path)
    if (header.terms, header.seed) != (terms.hex(), seed):
        raise ConfigError(
            f"{path.name} belongs to another project, data, arm or seed; expected "
            f"terms {terms.hex()[:12]}, found {header.terms[:12]}: resume with what it began with"
        )
    return Progress(
        round=header.round,
        attempts=header.attempts,
        weights=arrays["weights"].astype(np.float32),
        optimiser=OptimiserState.from_arrays(_group(arrays, "optimiser.")),
        average=WeightAverage.from_arrays(_group(arrays, "average.")),
        history=header.history,
        best=arrays["best"].astype(np.float32) if "best" in arrays else None,
    )


def _read(path: Path) -> tuple[_Header, Arrays]:
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get("consilium", "")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = msgspec.json.decode(text, type=_Header)
    except _DAMAGE as error:
        raise DataError(
            f"checkpoint {path.name} cannot be read ({type(error).__name__}); expected a file "
            "that consilium wrote: restore a copy or start anew"
        ) from None
    if header.version != _VERSION:
        raise DataError(
            f"checkpoint {path.name} has version {header.version}; expected {_VERSION}: resume "
            "with the release of consilium that wrote it"
        )
    if header.digest != _digest(replace(header, digest=""), arrays).hex():
        raise DataError(
            f"checkpoint {path.name} holds something else than was written; expected a whole "
            "file: restore a copy or start anew"
        )
    return header, arrays


def _digest(header: _Header, arrays: Arrays) -> bytes:
    """Returns 32 bytes that stand for the header and every array with its type and shape."""
    parts = [(name, a.dtype.str, a.shape, a.tobytes()) for name, a in sorted(arrays.items())]
    return digest("checkpoint", msgspec.json.encode(header), *parts)


def _group(arrays: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
