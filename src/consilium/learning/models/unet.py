# SPDX-License-Identifier: Apache-2.0
"""U-Nets for label maps: a class for every pixel, from what is near and what is far.

Blocks of two 3x3 convolutions halve the image twice and double the channels; on the way back
each block also reads the maps of its own size from the way down (the skips). The image is
folded first: a square of 2x2 pixels becomes one place with four times the channels, and the
last layer unfolds its answers, which costs a quarter of the arithmetic at the same number of
weights. Two fixed maps say where a place is, so that an organ's usual position can be learnt.

No normalisation: He's initial weights keep the signal's size, and every weight's gradient
belongs to one record. Group normalisation trains far worse at a few channels a group.
`unet-small` (width 4) has few weights for the noise to fall on; `unet` (width 16) is for arms
without. Height and width are multiples of 8.

Source: Ronneberger et al. 2015 (arXiv:1505.04597v1); Liu et al. 2018 for the positions
(arXiv:1807.03247v2).
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

FOLD: Final = 2  # pixels, on a side
DEPTH: Final = 2  # halvings
SIDES: Final = FOLD * 2**DEPTH  # height and width are multiples of this
POSITIONS: Final = 2  # maps: from above and from the left, -1 to 1
LAST_STD: Final = 0.1  # of the last layer's initial weights


def unet(shape: tuple[int, ...], classes: int, *, width: int) -> nn.Sequential:
    """Returns fixed folding, then the network; `width` is the channels of the first block."""
    return nn.Sequential(Folded(), UNet(FOLD**2 * shape[0] + POSITIONS, classes, width=width))


@final
class Folded(nn.Module):
    """Images (n, c, h, w) as (n, 4 * c + 2, h / 2, w / 2): squares of pixels, and positions."""

    def forward(self, images: Tensor) -> Tensor:
        """Returns the folded images and where each place is."""
        folded = F.pixel_unshuffle(images, FOLD)
        height, width = folded.shape[2:]
        down = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype)
        right = torch.linspace(-1, 1, width, device=images.device, dtype=images.dtype)
        places = torch.stack(torch.meshgrid(down, right, indexing="ij"))
        return torch.cat([folded, places.expand(len(images), -1, -1, -1)], dim=1)


@final
class Block(nn.Module):
    """Convolution, ReLU, twice."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.first = _convolution(channels, filters)
        self.second = _convolution(filters, filters)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `filters` channels, the same height and width."""
        return F.relu(self.second(F.relu(self.first(maps))))


@final
class UNet(nn.Module):
    """Down through `DEPTH` halvings and up again, a logit a class and pixel."""

    def __init__(self, channels: int, classes: int, *, width: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(
            Block(before, after) for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            Block(widths[level] + widths[level + 1], widths[level])
            for level in reversed(range(DEPTH))
        )
        self.last = nn.Conv2d(width, classes * FOLD**2, 1)
        nn.init.normal_(self.last.weight, std=LAST_STD)
        _zero_bias(self.last)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns logits (n, classes, 2 * h, 2 * w) for folded images (n, channels, h, w)."""
        skips = []
        for level, block in enumerate(self.down):
            maps = block(F.max_pool2d(maps, 2) if level else maps)
            skips.append(maps)
        for block, skip in zip(self.up, reversed(skips[:-1]), strict=True):
            maps = block(torch.cat([F.interpolate(maps, scale_factor=2.0), skip], dim=1))
        return F.pixel_shuffle(self.last(maps), FOLD)


def _convolution(channels: int, filters: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    _zero_bias(layer)
    return layer


def _zero_bias(layer: nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
