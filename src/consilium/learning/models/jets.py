# SPDX-License-Identifier: Apache-2.0
"""Fixed derivatives of the image with a small trainable network at each place, for label maps.

What a place looks like is a public constant: the first channel blurred by Gaussians of three
widths and its first and second derivatives at each (the local jet), the other channels blurred
alike, the pixels themselves, and where the place is. Only three 1x1 convolutions learn, on a
grid of half the height and width whose answers unfold to pixels: about a thousand weights for
the noise to fall on, where a U-Net has eight thousand or more. The features of a record never
change; `front_end` computes them once.

It sees no further than the widest Gaussian and knows no shape: without noise a U-Net is better.

Source: Koenderink and van Doorn 1987 for the jet (doi 10.1007/BF00318371).
"""

import math
from collections.abc import Iterator
from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

SCALES: Final = (1.5, 3.0, 6.0)  # standard deviations of the Gaussians, pixels
FOLD: Final = 2  # pixels, on a side of a place
HIDDEN: Final = 16  # channels of both hidden layers
ORDERS: Final = ((0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0))  # derivatives: down, right
_GAINS: Final = (1.0, 2.0, 2.0, 3.0, 3.0, 3.0)  # bring derivatives to about the size of the rest
_POSITION_GAIN: Final = 2.0
_REACH: Final = 3  # of a kernel, in standard deviations
_LAST_STD: Final = 0.1  # of the last layer's initial weights


def jets(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Returns fixed features, then three 1x1 convolutions, then the pixels of each place."""
    features = Jets()
    channels = features(torch.zeros(1, *shape)).shape[1]
    first, second = (_mixing(before, HIDDEN) for before in (channels, HIDDEN))
    last = nn.Conv2d(HIDDEN, classes * FOLD**2, 1)
    nn.init.normal_(last.weight, std=_LAST_STD)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    layers = (first, nn.ReLU(), second, nn.ReLU(), last, nn.PixelShuffle(FOLD))
    return nn.Sequential(features, *layers)


def _mixing(channels: int, filters: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, 1)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@final
class Jets(nn.Module):
    """The features: images (n, c, h, w) to (n, 27 + 3 * (c - 1), h / 2, w / 2)."""

    def forward(self, images: Tensor) -> Tensor:
        """Returns pixels, jets of every scale, and five functions of the position."""
        first, others = images[:, :1], images[:, 1:]
        maps = [F.pixel_unshuffle(first, FOLD)]
        for scale in SCALES:
            maps += [
                gain * F.avg_pool2d(derivative(first, scale, order), FOLD)
                for gain, order in zip(_GAINS, ORDERS, strict=True)
            ]
            if others.shape[1]:
                maps.append(F.avg_pool2d(derivative(others, scale, (0, 0)), FOLD))
        maps.append(_positions(maps[0]))
        return torch.cat(maps, dim=1)


def derivative(maps: Tensor, scale: float, order: tuple[int, int]) -> Tensor:
    """Returns the derivative of the blurred maps (n, c, h, w), times scale ** sum(order)."""
    count, channels, height, width = maps.shape
    reach = math.ceil(_REACH * scale)
    flat = F.pad(maps.reshape(-1, 1, height, width), (reach,) * 4, mode="replicate")
    down, right = (_kernel(scale, one).to(maps) for one in order)
    found = F.conv2d(F.conv2d(flat, down.view(1, 1, -1, 1)), right.view(1, 1, 1, -1))
    return found.view(count, channels, height, width)


def _kernel(scale: float, order: int) -> Tensor:
    """Returns a sampled Gaussian that sums to one, or its derivative; for a correlation."""
    reach = math.ceil(_REACH * scale)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64) / scale
    bell = torch.exp(-(steps**2) / 2)
    factor = (torch.ones_like(steps), steps, steps**2 - 1)[order]
    return (bell / bell.sum()) * factor


def _positions(maps: Tensor) -> Tensor:
    """Returns y, x, y^2, x y and x^2 of every place, from -1 to 1, times a gain."""
    height, width = maps.shape[2:]
    down, right = torch.meshgrid(
        torch.linspace(-1, 1, height, device=maps.device, dtype=maps.dtype),
        torch.linspace(-1, 1, width, device=maps.device, dtype=maps.dtype),
        indexing="ij",
    )
    places = torch.stack(list(_monomials(down, right)))
    return _POSITION_GAIN * places.expand(len(maps), -1, -1, -1)


def _monomials(down: Tensor, right: Tensor) -> Iterator[Tensor]:
    yield from (down, right, down**2, down * right, right**2)
