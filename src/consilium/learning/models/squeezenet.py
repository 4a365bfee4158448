# SPDX-License-Identifier: Apache-2.0
"""SqueezeNet 1.1: fire modules and a convolution for classifier, from 32 pixels up.

725,061 parameters at three channels and five classes. Two differences from the paper: no
dropout before the classifier, and no in-place activation, so that per-record gradients can
be taken. Parameters bear torchvision's names, so that its published weights fit.

With `average` the pools are means of 2x2 instead of maxima of 3x3, and logits pass no ReLU: under
encryption a mean is free, maxima and ReLUs are comparisons (docs/why/encrypted-inference.md).

Source: Iandola et al. 2016, figures 1 and 2 (arXiv:1602.07360v4), in its revision 1.1.
"""

from collections.abc import Iterator
from typing import Final, final

import torch
from torch import Tensor, nn

# Per fire module: channels after the squeeze, and after each of the two expansions.
FIRES: Final = (
    ((16, 64), (16, 64)),
    ((32, 128), (32, 128)),
    ((48, 192), (48, 192), (64, 256), (64, 256)),
)
STEM: Final = 64  # channels after the first convolution


@final
class Fire(nn.Module):
    """Squeezes the channels by a 1x1 convolution, then expands them by 1x1 and 3x3 ones."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.activation = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `2 * expanded` channels, the same height and width."""
        narrow = self.activation(self.squeeze(maps))
        wide = torch.cat([self.expand1x1(narrow), self.expand3x3(narrow)], dim=1)
        activated: Tensor = self.activation(wide)
        return activated


@final
class SqueezeNet(nn.Module):
    """Stem, three groups of fire modules with pooling before each, convolution, average."""

    def __init__(self, shape: tuple[int, ...], classes: int, *, average: bool = False) -> None:
        super().__init__()
        last = 2 * FIRES[-1][-1][1]
        self.features = nn.Sequential(*_layers(channels=shape[0], average=average))
        self.classifier = nn.Sequential(
            nn.Identity(),  # where the paper has dropout
            nn.Conv2d(last, classes, 1),
            nn.Identity() if average else nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        logits: Tensor = self.classifier(self.features(images))
        return logits

    def _initialise(self) -> None:
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        classifier = self.classifier.get_submodule("1").get_parameter("weight")
        nn.init.normal_(classifier, std=0.01)


def _layers(*, channels: int, average: bool) -> Iterator[nn.Module]:
    yield nn.Conv2d(channels, STEM, 3, stride=2)
    yield nn.ReLU()
    width = STEM
    for group in FIRES:
        yield nn.AvgPool2d(2) if average else nn.MaxPool2d(3, stride=2, ceil_mode=True)
        for squeezed, expanded in group:
            yield Fire(width, squeezed, expanded)
            width = 2 * expanded
