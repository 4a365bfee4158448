# SPDX-License-Identifier: Apache-2.0
"""Fixed wavelet features of three scales with a trainable linear layer, for 16 pixels and more.

As `wavelet`, with a coarser scale beside the two, and with its maps as they are: how bright a
place is and how strong its edges are is part of what is learnt, where `wavelet` keeps only how
each differs from the rest of its map. Instead the features of a record together have one length,
so that no record has larger gradients than another for its contrast alone.

Source: as `wavelet`.
"""

from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.learning.models.wavelet import (
    LEAST_SIDE,
    NORM,
    gaussian,
    halved,
    moduli,
    morlet,
)

ANGLES: Final = 4
SCALES: Final = 3
SMALLEST: Final = 16  # pixels on a side of what can be halved twice and still hold a wavelet
_LEAST_LENGTH: Final = 1e-6


def wavelet_pyramid(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Returns fixed features, then a linear layer that starts at zero."""
    features = PyramidFeatures(shape)
    linear = nn.Linear(features(torch.zeros(1, *shape)).shape[1], classes)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(features, linear)


@final
class PyramidFeatures(nn.Module):
    """`ANGLES` maps a scale and one of grey, on the grid of an image that was halved twice."""

    wavelets: Tensor
    blur: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shrink = max(1, min(shape[1:]) // LEAST_SIDE)
        self.register_buffer("wavelets", morlet(ANGLES))
        self.register_buffer("blur", gaussian())

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (n, dimension) of length `NORM` of images (n, channels, h, w)."""
        level = F.avg_pool2d(images, self.shrink)
        maps = []
        for scale in range(SCALES):
            found = moduli(level, self.wavelets)
            for _ in range(SCALES - 1 - scale):
                found = halved(found, self.blur)
            maps.append(found)
            level = halved(level, self.blur) if scale < SCALES - 1 else level
        features = torch.cat([*maps, level], dim=1).flatten(1)
        lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
        scaled: Tensor = features * (NORM / lengths.clamp(min=_LEAST_LENGTH))
        return scaled
