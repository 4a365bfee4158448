# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network, for images of 8 to 64 pixels.

Two convolutions and two linear layers, about 26,000 parameters whatever the image size:
noise grows with the root of that number. Tanh keeps activations and so gradients bounded,
which costs less under clipping than ReLU. Not a network for large images.

Source: Papernot et al. 2021, table 1 (arXiv:2007.14191v1); at 28 pixels the same network, and
with ReLU that of Opacus' MNIST example (26,010 parameters at ten classes).
"""

from collections.abc import Callable
from typing import Final, final

from torch import Tensor, nn

WIDTHS: Final = (16, 32)  # channels after the first and the second convolution
HIDDEN: Final = 32  # units of the hidden linear layer
GRID: Final = 4  # side of the feature map that the linear layers see
STRIDED_FROM: Final = 28  # pixels; smaller images are not subsampled by the convolutions


@final
class SmallCnn(nn.Module):
    """Convolution, activation, pooling, twice; then linear, activation, linear."""

    def __init__(
        self,
        shape: tuple[int, ...],
        classes: int,
        *,
        activation: Callable[[], nn.Module] = nn.Tanh,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        stride, padding = (2, 0) if min(height, width) >= STRIDED_FROM else (1, 1)
        self.features = nn.Sequential(
            nn.Conv2d(channels, WIDTHS[0], 8, stride, padding=3),
            activation(),
            nn.MaxPool2d(2, 1),
            nn.Conv2d(WIDTHS[0], WIDTHS[1], 4, stride, padding),
            activation(),
            nn.MaxPool2d(2, 1),
            nn.AdaptiveAvgPool2d(GRID),
            nn.Flatten(),
        )
        self.head = nn.Sequential(
            nn.Linear(WIDTHS[1] * GRID * GRID, HIDDEN), activation(), nn.Linear(HIDDEN, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        logits: Tensor = self.head(self.features(images))
        return logits
