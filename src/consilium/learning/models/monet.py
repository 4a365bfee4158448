# SPDX-License-Identifier: Apache-2.0
"""MoNet: a small U-Net of dilated convolutions, for label maps.

Blocks of four 3x3 convolutions with falling dilation see near and far at once; two halvings down,
two doublings up, and on the way up each block also reads the maps of its own size from the way
down (the skips). 401,953 parameters at three channels and one class: the published 403,556 are at
one channel, with two affine values and two running statistics a channel of batch normalisation.
Here it is GroupNorm, in groups of eight channels, and a bias in the place of the last one; no
dropout. Height and width are multiples of 4.

Source: Knolle et al. 2021, figure 1 (doi 10.1371/journal.pone.0255397).
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

WIDTHS: Final = (16, 32, 64)  # channels on the way down, and at the bottom
DILATIONS: Final = (4, 3, 2, 1)  # of the convolutions of a block
SIDES: Final = 2 ** (len(WIDTHS) - 1)  # height and width are multiples of this
LEAST_SIDE: Final = 8  # pixels
_IN_A_GROUP: Final = 8  # channels that are normalised together


@final
class Convolution(nn.Module):
    """Convolution, group normalisation, ELU."""

    def __init__(self, layer: nn.Conv2d | nn.ConvTranspose2d) -> None:
        super().__init__()
        self.convolution = layer
        self.norm = nn.GroupNorm(layer.out_channels // _IN_A_GROUP, layer.out_channels)
        nn.init.kaiming_uniform_(layer.weight)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the activated maps."""
        return F.elu(self.norm(self.convolution(maps)))


@final
class DilatedBlock(nn.Module):
    """Four convolutions of falling dilation, with three sums around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            Convolution(nn.Conv2d(channels, channels, 3, padding=apart, dilation=apart, bias=False))
            for apart in DILATIONS
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of the same shape."""
        first, second, third, fourth = self.steps
        middle = second(first(maps) + maps)
        end: Tensor = fourth(third(middle) + middle)
        return end + maps


@final
class MoNet(nn.Module):
    """Down through two halvings and up again, a logit a class and pixel."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        *sides, bottom = WIDTHS
        before = (shape[0], *WIDTHS)
        self.enter = nn.ModuleList(_same(*pair) for pair in zip(before, WIDTHS, strict=False))
        self.down = nn.ModuleList(DilatedBlock(width) for width in sides)
        self.halving = nn.ModuleList(
            Convolution(nn.Conv2d(width, width, 4, 2, padding=1, bias=False)) for width in sides
        )
        self.bottom = DilatedBlock(bottom)
        self.doubling = nn.ModuleList(
            Convolution(nn.ConvTranspose2d(width, width, 4, 2, padding=1, bias=False))
            for width in WIDTHS[1:]
        )
        self.join = nn.ModuleList(
            _same(below + width, width) for width, below in zip(sides, WIDTHS[1:], strict=True)
        )
        self.up = nn.ModuleList(DilatedBlock(width) for width in sides)
        self.last = nn.Conv2d(WIDTHS[0], classes, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns logits (n, classes, h, w) for images (n, channels, h, w)."""
        skips = []
        for enter, block, halve in zip(self.enter, self.down, self.halving, strict=False):
            maps = block(enter(maps))
            skips.append(maps)
            maps = halve(maps)
        maps = self.bottom(self.enter[-1](maps))
        for level in reversed(range(len(skips))):
            wide = torch.cat([self.doubling[level](maps), skips[level]], dim=1)
            maps = self.up[level](self.join[level](wide))
        logits: Tensor = self.last(maps)
        return logits


def _same(channels: int, filters: int) -> Convolution:
    return Convolution(nn.Conv2d(channels, filters, 3, padding=1, bias=False))
