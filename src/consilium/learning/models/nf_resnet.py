# SPDX-License-Identifier: Apache-2.0
"""Residual networks without normalisation: a small one for 28 to 64 pixels, and ResNet-18.

Standardised weights and three constants keep the variance of the signal known at every
depth, where a ResNet measures it over the batch: ReLU is scaled by `GAMMA` to preserve
variance, a residual branch adds `ALPHA` of its output, and its input is divided by the
standard deviation that these constants predict.

They are private to train, because no value depends on another record, and cheap to compute on
shares, because nothing but ReLU and one maximum is not linear.

The small one has about 175,000 parameters; `nf_resnet18` has the widths and strides of ResNet-18,
11,179,077 parameters at three channels and five classes, from 64 pixels on.

Source: Brock et al. 2021a, section 3 (arXiv:2101.08692v1); He et al. 2016 (arXiv:1512.03385v1).
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.learning.models.standardised_convolution import StandardisedConv2d

WIDTHS: Final = (16, 32, 64)  # channels of each stage of the small one
RESNET18_WIDTHS: Final = (64, 128, 256, 512)
BLOCKS: Final = 2  # residual blocks a stage
ALPHA: Final = 0.2  # share of a branch that is added to its input
GAMMA: Final = math.sqrt(2 / (1 - 1 / math.pi))  # 1 / standard deviation of ReLU(N(0, 1))
FULL_SIZE_UNTIL: Final = 32  # pixels; the first convolution of the small one halves larger images
LARGE_FROM: Final = 64  # pixels; from here ResNet-18's first convolution and a pooling halve twice


@final
class ScaledReLU(nn.Module):
    """ReLU times gamma: variance in, variance out, for normal inputs."""

    def forward(self, maps: Tensor) -> Tensor:
        """Returns the activated maps, the same shape."""
        return GAMMA * F.relu(maps)


@final
class Block(nn.Module):
    """shortcut(x) + alpha * branch(x / beta): pre-activated, two 3x3 convolutions.

    Args:
        channels: Of the input.
        filters: Of the output; where these differ the shortcut is a 1x1 convolution.
        stride: Of the first convolution and of the shortcut.
        beta: The predicted standard deviation of the input.
    """

    def __init__(self, channels: int, filters: int, *, stride: int, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.activate = ScaledReLU()
        self.first = StandardisedConv2d(channels, filters, 3, stride=stride)
        self.second = StandardisedConv2d(filters, filters, 3)
        self.project = (
            StandardisedConv2d(channels, filters, 1, stride=stride) if channels != filters else None
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `filters` channels, height and width divided by the stride."""
        activated = self.activate(maps) / self.beta
        shortcut = maps if self.project is None else self.project(activated)
        branch = self.second(self.activate(self.first(activated)))
        total: Tensor = shortcut + ALPHA * branch
        return total


@final
class NfResNet(nn.Module):
    """A stem, stages of residual blocks, global average, linear layer.

    Args:
        stem: The first layers.
        widths: Channels of the stages; the stem makes the first.
        classes: Of the answer.
    """

    def __init__(self, stem: nn.Module, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*_blocks(widths))
        self.activate = ScaledReLU()
        self.linear = nn.Linear(widths[-1], classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        maps = self.activate(self.blocks(self.stem(images)))
        logits: Tensor = self.linear(torch.mean(maps, dim=(2, 3)))
        return logits


def nf_resnet(shape: tuple[int, ...], classes: int) -> NfResNet:
    """Returns the small one: three stages behind one convolution."""
    stride = 1 if max(shape[1:]) <= FULL_SIZE_UNTIL else 2
    return NfResNet(StandardisedConv2d(shape[0], WIDTHS[0], 3, stride=stride), WIDTHS, classes)


def nf_resnet18(shape: tuple[int, ...], classes: int) -> NfResNet:
    """Returns ResNet-18's; small images keep their size in the stem, as in `resnet`."""
    large = min(shape[1:]) >= LARGE_FROM
    side, stride = (7, 2) if large else (3, 1)
    stem = nn.Sequential(
        StandardisedConv2d(shape[0], RESNET18_WIDTHS[0], side, stride=stride),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity(),
    )
    return NfResNet(stem, RESNET18_WIDTHS, classes)


def _blocks(widths: Sequence[int]) -> Iterator[Block]:
    """Yields the blocks in order; each adds alpha^2 to the variance, a projection resets it."""
    channels, variance = widths[0], 1.0
    for filters in widths:
        for _ in range(BLOCKS):
            changes = filters != channels
            yield Block(channels, filters, stride=2 if changes else 1, beta=math.sqrt(variance))
            variance = (1.0 if changes else variance) + ALPHA**2
            channels = filters
