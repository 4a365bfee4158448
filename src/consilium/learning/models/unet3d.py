# SPDX-License-Identifier: Apache-2.0
"""U-Nets for volumes: a class for every voxel, from what is near and what is far.

As `unet`, with 3x3x3 convolutions: the volume is folded first (a cube of 2x2x2 voxels becomes one
place with eight times the channels), three fixed maps say where a place is, two halvings and two
doublings with skips, no normalisation. Depth, height and width are multiples of 8.

Source: Cicek et al. 2016 (arXiv:1606.06650v1); the rest as `unet`.
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.learning.models.unet import DEPTH, FOLD, LAST_STD

DIRECTIONS: Final = 3


def unet3d(shape: tuple[int, ...], classes: int, *, width: int) -> nn.Sequential:
    """Returns fixed folding, then the network; `width` is the channels of the first block."""
    channels = FOLD**DIRECTIONS * shape[0] + DIRECTIONS
    return nn.Sequential(FoldedVolume(), UNet3d(channels, classes, width=width))


@final
class FoldedVolume(nn.Module):
    """Volumes (n, c, d, h, w) as (n, 8 * c + 3, d / 2, h / 2, w / 2): cubes, and positions."""

    def forward(self, volumes: Tensor) -> Tensor:
        """Returns the folded volumes and where each place is."""
        count, channels, *sides = volumes.shape
        halves = [part for side in sides for part in (side // FOLD, FOLD)]
        cubes = volumes.reshape(count, channels, *halves).permute(0, 1, 3, 5, 7, 2, 4, 6)
        folded = cubes.reshape(count, -1, *halves[::2])
        lines = [
            torch.linspace(-1, 1, side, device=volumes.device, dtype=volumes.dtype)
            for side in halves[::2]
        ]
        places = torch.stack(torch.meshgrid(*lines, indexing="ij"))
        return torch.cat([folded, places.expand(count, -1, -1, -1, -1)], dim=1)


@final
class VolumeBlock(nn.Module):
    """Convolution, ReLU, twice."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.first = _convolution(channels, filters)
        self.second = _convolution(filters, filters)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `filters` channels, the same depth, height and width."""
        return F.relu(self.second(F.relu(self.first(maps))))


@final
class UNet3d(nn.Module):
    """Down through `DEPTH` halvings and up again, a logit a class and voxel."""

    def __init__(self, channels: int, classes: int, *, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            VolumeBlock(before, after)
            for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            VolumeBlock(widths[level] + widths[level + 1], widths[level])
            for level in reversed(range(DEPTH))
        )
        self.last = nn.Conv3d(width, classes * FOLD**DIRECTIONS, 1)
        nn.init.normal_(self.last.weight, std=LAST_STD)
        _zero_bias(self.last)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns logits (n, classes, 2 * d, 2 * h, 2 * w) of folded volumes."""
        skips = []
        for level, block in enumerate(self.down):
            maps = block(F.max_pool3d(maps, 2) if level else maps)
            skips.append(maps)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0), skip], dim=1))
        return _unfolded(self.last(maps))


def _unfolded(maps: Tensor) -> Tensor:
    """Returns (n, c, 2 * d, 2 * h, 2 * w) of (n, 8 * c, d, h, w): what `FoldedVolume` undoes."""
    count, channels, depth, height, width = maps.shape
    cubes = maps.reshape(
        count, channels // FOLD**DIRECTIONS, FOLD, FOLD, FOLD, depth, height, width
    )
    apart = cubes.permute(0, 1, 5, 2, 6, 3, 7, 4)
    return apart.reshape(count, -1, FOLD * depth, FOLD * height, FOLD * width)


def _convolution(channels: int, filters: int) -> nn.Conv3d:
    layer = nn.Conv3d(channels, filters, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    _zero_bias(layer)
    return layer


def _zero_bias(layer: nn.Conv3d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
