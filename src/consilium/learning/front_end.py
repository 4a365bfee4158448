# SPDX-License-Identifier: Apache-2.0
"""Layers that are never trained, applied once: their outputs take the place of the inputs.

A network that starts with fixed layers gives the same gradients on precomputed features, at a
fraction of the cost. Each record is treated alone, so nothing crosses patients.
"""

from itertools import takewhile

import torch
from torch import Tensor, nn


def split_front_end(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Returns (fixed layers, rest) of a sequential model, sharing its parameters.

    The fixed layers are the first ones without a trainable parameter; a model that is not
    `nn.Sequential`, or that starts with a trainable layer, has none (an `nn.Identity`).
    """
    if not isinstance(model, nn.Sequential):
        return nn.Identity(), model
    layers = list(model)
    fixed = len(list(takewhile(_is_fixed, layers)))
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


def _is_fixed(layer: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in layer.parameters())
