# SPDX-License-Identifier: Apache-2.0
"""A model's trainable parameters as one float32 vector, and back.

The vector is what crosses sites, what is clipped and noised, and what an optimiser moves.
Its order is that of `model.parameters()`; frozen parameters and buffers are not in it.
"""

from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Vector: TypeAlias = NDArray[np.float32]  # shape (dimension,)


def dimension(model: nn.Module) -> int:
    """Returns the number of trainable parameters."""
    return sum(parameter.numel() for parameter in _trainable(model))


def flatten(model: nn.Module) -> Vector:
    """Returns a copy of the trainable parameters, shape (dimension,), float32."""
    parts = [p.detach().reshape(-1).to("cpu", torch.float32) for p in _trainable(model)]
    joined: Vector = torch.cat([torch.zeros(0), *parts]).numpy()
    return joined


def assign(model: nn.Module, vector: Vector) -> None:
    """Copies `vector` into the trainable parameters of `model`.

    Guarantees: flatten(model) then equals `vector`, which stays the caller's own.

    Raises:
        ValueError: `vector` is not float32 of shape (dimension(model),); nothing changed.
    """
    expected = dimension(model)
    if vector.shape != (expected,) or vector.dtype != np.float32:
        raise ValueError(
            f"found a {vector.dtype} vector of shape {vector.shape}, expected float32 of "
            f"shape ({expected},); build the model with the settings it was trained with"
        )
    copied = torch.from_numpy(np.array(vector))
    trainable = _trainable(model)
    parts = torch.split(copied, [parameter.numel() for parameter in trainable])
    with torch.no_grad():
        for parameter, part in zip(trainable, parts, strict=True):
            parameter.copy_(part.view_as(parameter))


def device_of(model: nn.Module) -> torch.device:
    """Returns where the parameters of `model` are; the CPU for one without any."""
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
