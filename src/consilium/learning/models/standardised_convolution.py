# SPDX-License-Identifier: Apache-2.0
"""A convolution whose weights are standardised instead of its activations.

It does for signal propagation what batch normalisation does, but looks at the weights only,
never at the records; and for inference it folds into a plain convolution at no cost.

Source: Brock et al. 2021a, equations 3 and 4 (arXiv:2101.08692v1).
"""

import copy
import math
from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

EPSILON: Final = 1e-4  # least variance of a filter times its fan-in


@final
class StandardisedConv2d(nn.Module):
    """A square convolution with filters of zero mean and of norm `gain`, padded to keep size."""

    def __init__(self, channels: int, filters: int, side: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.padding = side // 2
        self.weight = nn.Parameter(torch.empty(filters, channels, side, side))
        self.gain = nn.Parameter(torch.ones(filters, 1, 1, 1))
        self.bias = nn.Parameter(torch.zeros(filters))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels * side * side))

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the convolution of maps (n, channels, h, w), shape (n, filters, h', w')."""
        return F.conv2d(maps, self.standardised(), self.bias, self.stride, self.padding)

    def standardised(self) -> Tensor:
        """Returns the filters in use: gain * (w - mean) / sqrt(fan_in * variance + epsilon)."""
        fan_in = self.weight[0].numel()
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = self.weight.var(dim=(1, 2, 3), keepdim=True, correction=0)
        return self.gain * (self.weight - mean) / torch.sqrt(fan_in * variance + EPSILON)

    def fold(self) -> nn.Conv2d:
        """Returns the plain convolution that gives the same outputs, its weights copied."""
        filters, channels, side, _ = self.weight.shape
        plain = nn.Conv2d(channels, filters, side, self.stride, self.padding)
        plain.to(self.weight.device, self.weight.dtype)
        with torch.no_grad():
            plain.weight.copy_(self.standardised())
            if plain.bias is not None:
                plain.bias.copy_(self.bias)
        return plain


def folded(model: nn.Module) -> nn.Module:
    """Returns a copy of `model` with every standardised convolution folded into a plain one.

    Guarantees: the same outputs up to float32 rounding; `model` is unchanged. For inference
    and export: training the copy is training another model.
    """
    if isinstance(model, StandardisedConv2d):
        return model.fold()
    plain = copy.deepcopy(model)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, StandardisedConv2d):
            plain.set_submodule(name, layer.fold())
    return plain
