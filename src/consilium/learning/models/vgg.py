# SPDX-License-Identifier: Apache-2.0
"""VGG11 and VGG16 without normalisation, for images from 32 pixels up.

The convolutions are the originals' (9,220,480 and 14,714,688 parameters at three channels)
under torchvision's names, so that its published weights fit. In place of two linear layers of
4,096 units, nine tenths of the original's weights, the maps are averaged: noise grows with
the root of the number of weights.

Source: Simonyan and Zisserman 2015, table 1, A and D (arXiv:1409.1556v6); Lin et al. 2014 for
the average (arXiv:1312.4400v3).
"""

from collections.abc import Iterator
from typing import Final, final

import torch
from torch import Tensor, nn

# Convolutions by their number of filters; a halving of the maps follows each group.
VGG11: Final = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16: Final = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@final
class Vgg(nn.Module):
    """Groups of 3x3 convolutions and halvings, global average, linear layer."""

    def __init__(
        self, shape: tuple[int, ...], classes: int, *, groups: tuple[tuple[int, ...], ...]
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*_layers(shape[0], groups))
        self.classifier = nn.Linear(groups[-1][-1], classes)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        logits: Tensor = self.classifier(torch.mean(self.features(images), dim=(2, 3)))
        return logits


def _layers(channels: int, groups: tuple[tuple[int, ...], ...]) -> Iterator[nn.Module]:
    for group in groups:
        for filters in group:
            layer = nn.Conv2d(channels, filters, 3, padding=1)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            yield layer
            yield nn.ReLU()
            channels = filters
        yield nn.MaxPool2d(2)
