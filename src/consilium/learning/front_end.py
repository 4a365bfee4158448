# SPDX-License-Identifier: Apache-2.0
"""Layers that are never trained, applied once: their outputs take the place of the inputs.

A network that starts with fixed layers gives the same gradients on precomputed features, at a
fraction of the cost. Each record is treated alone, so nothing crosses patients.
"""

import math
from itertools import takewhile
from typing import Final

import torch
from torch import Tensor, nn

_GROWTH: Final = 4  # times the values of a record: what frozen layers may make of it, to be kept,
_FEW: Final = 16_384  # or this many values


def split_front_end(
    model: nn.Module, shape: tuple[int, ...] | None = None
) -> tuple[nn.Module, nn.Module]:
    """Returns (fixed layers, rest) of a sequential model, sharing its parameters.

    The fixed layers are the first ones without a trainable parameter; a model that is not
    `nn.Sequential`, or that starts with a trainable layer, has none (an `nn.Identity`). With the
    shape of a record, frozen layers that would blow it up are computed each time: then only
    those before the first one with parameters are fixed.
    """
    if not isinstance(model, nn.Sequential):
        return nn.Identity(), model
    layers = list(model)
    fixed = len(list(takewhile(_is_fixed, layers)))
    if shape is not None and _blows_up(nn.Sequential(*layers[:fixed]), shape):
        fixed = len(list(takewhile(_is_constant, layers)))
    if fixed in (0, len(layers)):
        return nn.Identity(), model
    return nn.Sequential(*layers[:fixed]), nn.Sequential(*layers[fixed:])


def apply_front_end(front_end: nn.Module, inputs: Tensor, batch_size: int = 256) -> Tensor:
    """Returns the outputs of fixed layers, shape (n, ...), for inputs (n, ...)."""
    if isinstance(front_end, nn.Identity):
        return inputs
    front_end.eval()
    with torch.no_grad():
        return torch.cat([front_end(part) for part in torch.split(inputs, batch_size)])


def _blows_up(frozen: nn.Sequential, shape: tuple[int, ...]) -> bool:
    if _is_constant(frozen):
        return False
    made = apply_front_end(frozen, torch.zeros(1, *shape)).numel()
    return made > max(_GROWTH * math.prod(shape), _FEW)


def _is_constant(layer: nn.Module) -> bool:
    return not any(True for _ in layer.parameters())


def _is_fixed(layer: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in layer.parameters())
