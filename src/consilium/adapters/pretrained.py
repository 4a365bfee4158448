# SPDX-License-Identifier: Apache-2.0
"""Reads a file of weights that a project names, if it is the one that was agreed on.

Guarantees: the digest is checked before anything of the file is interpreted, and a pickle never
runs code: only tensors in plain containers are read (`torch.load(weights_only=True)`). A name of
torchvision's stands for the file that torchvision has downloaded before; nothing is downloaded
here, and the digest binds it as any other file.
"""

import hashlib
import io
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

import safetensors
import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from consilium.errors import DataError

TORCHVISION: Final = "torchvision:"
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


def weights_path(named: str, folder: Path | None) -> Path:
    """Returns where the weights lie that a project names.

    Args:
        named: A path, or "torchvision:NAME": what `torchvision.models` calls the network.
        folder: That paths are relative to; None takes them as they are.

    Raises:
        DataError: torchvision is not installed, or knows no such network.
    """
    if not named.startswith(TORCHVISION):
        return Path(named) if folder is None else folder / named
    network = named.removeprefix(TORCHVISION)
    try:
        models = import_module("torchvision.models")
        url = models.get_model_weights(network).DEFAULT.url
    except ImportError:
        raise DataError(
            f"model.weights is {named!r} but torchvision is not installed; expected it: pip "
            "install torchvision, or name a file"
        ) from None
    except ValueError:
        raise DataError(
            f"torchvision has no weights for {network!r}; expected a network such as resnet18: "
            "name one of torchvision.models.list_models()"
        ) from None
    return Path(torch.hub.get_dir()) / "checkpoints" / str(url).rpartition("/")[2]


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
            "model.weights names: put it into the data folder, or let torchvision download its own"
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
