# SPDX-License-Identifier: Apache-2.0
"""Reads a file of weights that a project names, if it is the one that was agreed on.

Guarantees: the digest is checked before anything of the file is interpreted, and a pickle never
runs code: only tensors in plain containers are read (`torch.load(weights_only=True)`).
"""

import hashlib
import io
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import safetensors
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from consilium.errors import DataError

_SAFETENSORS: Final = ".safetensors"
_BROKEN: Final = (
    UnpicklingError,
    safetensors.SafetensorError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
)


def read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    """Returns the tensors of a .safetensors file or of a state dict that PyTorch saved, by name.

    Args:
        path: Of the file.
        sha256: Digest of its bytes, hexadecimal.

    Raises:
        DataError: It is not there, is another file, or holds anything but tensors.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"weights {path.name} cannot be read ({type(error).__name__}); expected the file that "
            "model.weights names, in the data folder: put it there"
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise DataError(
            f"weights {path.name} have the digest {found}; expected model.weights_sha256 "
            f"{sha256.lower()}: every party needs the file that the project agreed on"
        )
    try:
        tensors = load_tensors(data) if path.suffix == _SAFETENSORS else _unpickled(data)
    except _BROKEN as error:
        raise DataError(
            f"weights {path.name} are refused ({type(error).__name__}); expected tensors and "
            "nothing else: save model.state_dict() by torch.save or as .safetensors"
        ) from None
    return tensors


def _unpickled(data: bytes) -> dict[str, Tensor]:
    held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(held, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in held.items()
    ):
        raise TypeError("not a state dict")
    return dict(held)
