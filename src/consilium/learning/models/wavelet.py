# SPDX-License-Identifier: Apache-2.0
"""Fixed wavelet features with a trainable linear layer, for images from 8 pixels up.

The features are public constants: |image * wavelet| at two scales and several angles, blurred
to a coarse grid, each map standardised over its own places. Only the linear layer learns: few
parameters are clipped and noised, and the problem is convex, so that under differential
privacy this beats small networks trained end to end. The features of a record never change;
`front_end` computes them once.

Source: Bruna and Mallat 2013 (arXiv:1203.1513v2), for the features; Tramer and Boneh 2021
(arXiv:2011.11660v3), for their use under differential privacy.
"""

import math
from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

WAVELET_SIDE: Final = 7  # pixels
WAVELET_WIDTH: Final = 0.8  # standard deviation of the envelope along the wave, pixels
FREQUENCY: Final = 3 * math.pi / 4  # of the wave, radians a pixel
BLUR_SIDE: Final = 5  # pixels; a Gaussian of standard deviation 1
LEAST_SIDE: Final = 28  # pixels; images are averaged down to 28..55 before anything else
NORM: Final = 4.0  # L2 norm of the features of an image without a constant map
FLATTEST: Final = 1e-3  # added to the standard deviation of a map, and (squared) to moduli


def wavelet(
    shape: tuple[int, ...], classes: int, *, angles: int, second_order: bool
) -> nn.Sequential:
    """Returns fixed features, then a linear layer that starts at zero."""
    features = WaveletFeatures(shape, angles=angles, second_order=second_order)
    linear = nn.Linear(features(torch.zeros(1, *shape)).shape[1], classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(features, linear)


@final
class WaveletFeatures(nn.Module):
    """The maps, on a grid a quarter as high and wide as the image that is left to transform.

    A channel gives 2 * angles + 1 maps; with `second_order`, wavelet maps of the finer wavelet
    maps add angles**2.
    """

    wavelets: Tensor
    blur: Tensor

    def __init__(self, shape: tuple[int, ...], *, angles: int, second_order: bool) -> None:
        super().__init__()
        self.shrink = max(1, min(shape[1:]) // LEAST_SIDE)
        self.second_order = second_order
        self.register_buffer("wavelets", morlet(angles))
        self.register_buffer("blur", gaussian())

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (n, dimension) of images (n, channels, h, w)."""
        fine = F.avg_pool2d(images, self.shrink)
        coarse = halved(fine, self.blur)
        fine_moduli = halved(moduli(fine, self.wavelets), self.blur)
        maps = [
            halved(fine_moduli, self.blur),
            halved(moduli(coarse, self.wavelets), self.blur),
        ]
        if self.second_order:
            maps.append(halved(moduli(fine_moduli, self.wavelets), self.blur))
        features = _standardised(torch.cat([*maps, halved(coarse, self.blur)], dim=1)).flatten(1)
        return features * (NORM / math.sqrt(features.shape[1]))


def moduli(maps: Tensor, wavelets: Tensor) -> Tensor:
    """Returns |map * wavelet| for each map and angle, the same height and width."""
    count, _, height, width = maps.shape
    parts = _each_map(maps, wavelets, stride=1)
    real, imaginary = parts.reshape(count, maps.shape[1], 2, -1, height, width).unbind(dim=2)
    return torch.sqrt(real**2 + imaginary**2 + FLATTEST**2).flatten(1, 2)


def halved(maps: Tensor, blur: Tensor) -> Tensor:
    """Returns each map blurred, every second row and column of it."""
    return _each_map(maps, blur, stride=2)


def _each_map(maps: Tensor, kernels: Tensor, stride: int) -> Tensor:
    """Convolves every map with every kernel, mirrored at the border: (n, maps * kernels, ..)."""
    margin = kernels.shape[-1] // 2
    mirrored = F.pad(maps, (margin, margin, margin, margin), mode="reflect")
    found = F.conv2d(mirrored.flatten(0, 1)[:, None], kernels, stride=stride)
    return found.reshape(len(maps), -1, *found.shape[2:])


def _standardised(maps: Tensor) -> Tensor:
    """Returns each map of each record with mean 0 and standard deviation 1 over its places."""
    centred = maps - maps.mean(dim=(2, 3), keepdim=True)
    spread = torch.sqrt(torch.mean(centred**2, dim=(2, 3), keepdim=True))
    return centred / (spread + FLATTEST)


# -- Kernels --------------------------------------------------------------------------


def morlet(angles: int) -> Tensor:
    """Returns Morlet wavelets, real parts then imaginary, shape (2 * angles, 1, side, side).

    Guarantees: each sums to zero, so that an even image has no response.
    """
    rows, columns = _places(WAVELET_SIDE)
    slant = 4 / angles  # the more angles, the longer the wave fronts
    kernels = []
    for angle in torch.arange(angles, dtype=torch.float64) * (math.pi / angles):
        along = columns * torch.cos(angle) + rows * torch.sin(angle)
        across = rows * torch.cos(angle) - columns * torch.sin(angle)
        envelope = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * WAVELET_WIDTH**2))
        wave = torch.polar(envelope, FREQUENCY * along)
        kernels.append(wave - envelope * (wave.sum() / envelope.sum()))
    bank = torch.stack(kernels) * (slant / (2 * math.pi * WAVELET_WIDTH**2))
    return torch.cat([bank.real, bank.imag])[:, None].float()


def gaussian() -> Tensor:
    """Returns a Gaussian of standard deviation 1 that sums to one, shape (1, 1, side, side)."""
    rows, columns = _places(BLUR_SIDE)
    bell = torch.exp(-(rows**2 + columns**2) / 2)
    return (bell / bell.sum())[None, None].float()


def _places(side: int) -> tuple[Tensor, Tensor]:
    """Returns the row and the column of each pixel, counted from the middle, float64."""
    steps = torch.arange(side, dtype=torch.float64) - side // 2
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return rows, columns
