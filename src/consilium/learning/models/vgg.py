# SPDX-License-Identifier: Apache-2.0
"""VGG11 and VGG16, with group normalisation or with none, for images of 32 pixels and more.

From 128 pixels the published classifier of three linear layers: 128,786,821 and 134,281,029
parameters at three channels and five classes. Below, one linear layer after a global average:
9,223,045 and 14,717,253. No dropout, so that a record has one gradient; without normalisation
Kaiming's initial weights keep the size of the signal.

Parameters bear torchvision's names (of `vgg11` and `vgg16`, or of `vgg11_bn` and `vgg16_bn`), so
that its published weights fit.

Source: Simonyan and Zisserman 2015, table 1, A and D (arXiv:1409.1556v6).
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from torch import nn

from consilium.dp.conversion import groups

VGG11: Final = ((64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16: Final = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LARGE_FROM: Final = 128  # pixels; smaller images have one linear layer for classifier
GRID: Final = 7  # side of the maps that the large classifier sees
HIDDEN: Final = 4096  # units of each of its two hidden layers


def vgg(
    shape: tuple[int, ...], classes: int, *, stages: tuple[tuple[int, ...], ...], normalised: bool
) -> nn.Sequential:
    """Returns convolutions with a pooling after each of `stages`, then the classifier."""
    large = min(shape[1:]) >= LARGE_FROM
    width = stages[-1][-1]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        features=nn.Sequential(*_features(shape[0], stages, normalised=normalised)),
        avgpool=nn.AdaptiveAvgPool2d(GRID if large else 1),
        flatten=nn.Flatten(),
        classifier=_large_head(width, classes) if large else nn.Linear(width, classes),
    )
    model = nn.Sequential(layers)
    _initialise(model)
    return model


def _features(
    channels: int, stages: tuple[tuple[int, ...], ...], *, normalised: bool
) -> Iterator[nn.Module]:
    for stage in stages:
        for filters in stage:
            yield nn.Conv2d(channels, filters, 3, padding=1)
            if normalised:
                yield nn.GroupNorm(groups(filters), filters)
            yield nn.ReLU()
            channels = filters
        yield nn.MaxPool2d(2)


def _large_head(width: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width * GRID**2, HIDDEN),
        nn.ReLU(),
        nn.Identity(),  # where the paper has dropout, as is the next one
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Identity(),
        nn.Linear(HIDDEN, classes),
    )


def _initialise(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
