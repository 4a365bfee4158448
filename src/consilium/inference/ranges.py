# SPDX-License-Identifier: Apache-2.0
"""How large the values before each ReLU can get: proved for every image, or calibrated on some.

Proved: intervals from the range of the pixels through every layer. They grow with depth, so deep
networks do not fit. Calibrated: the largest value over given images, times `MARGIN`. That is no
proof: an image that is unlike them can be answered wrongly, unnoticed. It is privacy that never
rests on a range, only correctness.
"""

from dataclasses import dataclass
from typing import Final, Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor

from consilium.errors import ConfigError
from consilium.inference.network import Layer, Linear, Network, apply, evaluate, reads

MARGIN: Final = 8.0  # times the largest magnitude that was seen
LEAST_IMAGES: Final = 64
_CHUNK: Final = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """A bound on the magnitude of every value of a network, the image first.

    Attributes:
        bounds: By value, as reals.
        basis: What they rest on.
        images: How many were looked at; 0 where they are proved.
    """

    bounds: tuple[float, ...]
    basis: Literal["proved", "calibrated"]
    images: int = 0


def prove_ranges(network: Network, low: float, high: float) -> Ranges:
    """Returns bounds that hold for every image with pixels in [low, high]."""
    shape = (1, *network.image)
    lows = [torch.full(shape, low, dtype=torch.float64)]
    highs = [torch.full(shape, high, dtype=torch.float64)]
    for layer in network.layers:
        below, above = _interval(
            layer, [lows[k] for k in reads(layer)], [highs[k] for k in reads(layer)]
        )
        lows.append(below)
        highs.append(above)
    bounds = tuple(
        float(torch.maximum(one.abs(), other.abs()).max())
        for one, other in zip(lows, highs, strict=True)
    )
    return Ranges(bounds=bounds, basis="proved")


def calibrate_ranges(network: Network, images: Tensor) -> Ranges:
    """Returns the largest magnitudes over images (n, c, h, w), times `MARGIN`.

    Raises:
        ConfigError: Fewer than `LEAST_IMAGES` images.
    """
    if len(images) < LEAST_IMAGES:
        raise ConfigError(
            f"{len(images)} images to calibrate on; expected {LEAST_IMAGES} or more, like those "
            "that will be asked about"
        )
    peaks = torch.zeros(len(network.layers) + 1, dtype=torch.float64)
    for part in torch.split(images, _CHUNK):
        seen = torch.stack([value.abs().max() for value in evaluate(network, part)])
        peaks = torch.maximum(peaks, seen)
    bounds = tuple(MARGIN * float(peak) for peak in peaks)
    return Ranges(bounds=bounds, basis="calibrated", images=len(images))


def _interval(layer: Layer, lows: list[Tensor], highs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the interval of what `layer` makes; all but `Linear` grow with their inputs."""
    if not isinstance(layer, Linear):
        return apply(layer, lows), apply(layer, highs)
    middle, radius = (lows[0] + highs[0]) / 2, (highs[0] - lows[0]) / 2
    centre = apply(layer, [middle])
    weight = layer.weight.double().abs()
    if layer.flat:
        spread = F.linear(radius.flatten(1), weight.flatten(1))[:, :, None, None]
    else:
        spread = F.conv2d(radius, weight, None, layer.stride, layer.padding)
    return centre - spread, centre + spread
