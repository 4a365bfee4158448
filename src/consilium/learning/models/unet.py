# SPDX-License-Identifier: Apache-2.0
"""U-Nets for label maps: a class for every pixel or voxel, from what is near and what is far.

Blocks of two 3x3 convolutions halve the image twice and double the channels; on the way back
each block also reads the maps of its own size from the way down (the skips). The image is
folded first: a square of 2x2 pixels becomes one place with four times the channels, and the
last layer unfolds its answers, which costs a quarter of the arithmetic at the same number of
weights. Fixed maps, one a direction, say where a place is, so that an organ's usual position can
be learnt. Volumes go the same way in three directions: cubes for squares, 3x3x3 for 3x3.

No normalisation: He's initial weights keep the signal's size, and every weight's gradient
belongs to one record. Group normalisation trains far worse at a few channels a group.
`unet-small` (width 4) has few weights for the noise to fall on; `unet` (width 16) is for arms
without. Every side is a multiple of 8.

Source: Ronneberger et al. 2015 (arXiv:1505.04597v1); Cicek et al. 2016 for volumes
(arXiv:1606.06650v1); Liu et al. 2018 for the positions (arXiv:1807.03247v2).
"""

from typing import Final, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

FOLD: Final = 2  # pixels, on a side
DEPTH: Final = 2  # halvings
SIDES: Final = FOLD * 2**DEPTH  # height and width (and depth) are multiples of this
LAST_STD: Final = 0.1  # of the last layer's initial weights
Convolution: TypeAlias = nn.Conv2d | nn.Conv3d


def unet(shape: tuple[int, ...], classes: int, *, width: int) -> nn.Sequential:
    """Returns fixed folding, then the network; `width` is the channels of the first block."""
    directions = len(shape) - 1
    channels = FOLD**directions * shape[0] + directions
    return nn.Sequential(Folded(), UNet(channels, classes, width=width, directions=directions))


@final
class Folded(nn.Module):
    """Squares or cubes of `FOLD` as places: (n, c, h, w) becomes (n, 4 * c + 2, h / 2, w / 2).

    Volumes (n, c, d, h, w) become (n, 8 * c + 3, d / 2, h / 2, w / 2). The channels behind are
    positions, one map a direction, from -1 to 1.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Returns the folded images and where each place is."""
        count, channels, *sides = images.shape
        halves = [side // FOLD for side in sides]
        parts = [part for half in halves for part in (half, FOLD)]
        apart = images.reshape(count, channels, *parts)
        within, places = range(3, apart.ndim, 2), range(2, apart.ndim, 2)
        folded = apart.permute(0, 1, *within, *places).reshape(count, -1, *halves)
        lines = [
            torch.linspace(-1, 1, half, device=images.device, dtype=images.dtype) for half in halves
        ]
        positions = torch.stack(torch.meshgrid(*lines, indexing="ij"))
        return torch.cat([folded, positions.expand(count, *positions.shape)], dim=1)


def unfolded(maps: Tensor) -> Tensor:
    """Returns (n, c, 2 * h, 2 * w) of (n, 4 * c, h, w), or the same of volumes."""
    count, channels, *sides = maps.shape
    directions = len(sides)
    squares = maps.reshape(count, channels // FOLD**directions, *(FOLD,) * directions, *sides)
    order = [axis for k in range(directions) for axis in (2 + directions + k, 2 + k)]
    return squares.permute(0, 1, *order).reshape(count, -1, *(FOLD * side for side in sides))


@final
class Block(nn.Module):
    """Convolution, ReLU, twice."""

    def __init__(self, channels: int, filters: int, *, directions: int) -> None:
        super().__init__()
        self.first = _convolution(channels, filters, directions)
        self.second = _convolution(filters, filters, directions)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `filters` channels, the same size."""
        return F.relu(self.second(F.relu(self.first(maps))))


@final
class UNet(nn.Module):
    """Down through `DEPTH` halvings and up again, a logit a class and pixel."""

    def __init__(self, channels: int, classes: int, *, width: int, directions: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            Block(before, after, directions=directions)
            for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Block(widths[level] + widths[level + 1], widths[level], directions=directions)
            for level in reversed(range(DEPTH))
        )
        last = nn.Conv2d if directions == 2 else nn.Conv3d
        self.last = last(width, classes * FOLD**directions, 1)
        nn.init.normal_(self.last.weight, std=LAST_STD)
        _zero_bias(self.last)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns logits (n, classes, 2 * h, 2 * w) of folded images; the same of volumes."""
        halved = F.max_pool2d if maps.ndim == 4 else F.max_pool3d
        skips = []
        for level, block in enumerate(self.down):
            maps = block(halved(maps, 2) if level else maps)
            skips.append(maps)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0), skip], dim=1))
        return unfolded(self.last(maps))


def _convolution(channels: int, filters: int, directions: int) -> Convolution:
    kind = nn.Conv2d if directions == 2 else nn.Conv3d
    layer = kind(channels, filters, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    _zero_bias(layer)
    return layer


def _zero_bias(layer: Convolution) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
