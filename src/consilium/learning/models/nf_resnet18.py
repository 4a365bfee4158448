# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 without normalisation, for images of 32 pixels and more.

The widths and strides of ResNet-18 with the blocks of `nf_resnet`: private to train, because no
value depends on another record, and cheap to compute on shares, because nothing but ReLU and one
maximum is not linear. Below 64 pixels a 3x3 first convolution keeps the size and no pooling
follows, as in `resnet`.

11,179,077 parameters at three channels and five classes, from 64 pixels on.

Source: He et al. 2016 (arXiv:1512.03385v1); Brock et al. 2021a, section 3 (arXiv:2101.08692v1).
"""

import math
from collections.abc import Iterator
from typing import Final, final

import torch
from torch import Tensor, nn

from consilium.learning.models.nf_resnet import ALPHA, Block, ScaledReLU
from consilium.learning.models.standardised_convolution import StandardisedConv2d

WIDTHS: Final = (64, 128, 256, 512)  # channels of each stage
BLOCKS: Final = 2  # residual blocks a stage
LARGE_FROM: Final = 64  # pixels; from here the first convolution and a pooling halve twice


@final
class NfResNet18(nn.Module):
    """Stem, four stages of residual blocks, global average, linear layer."""

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        large = min(shape[1:]) >= LARGE_FROM
        side, stride = (7, 2) if large else (3, 1)
        self.stem = nn.Sequential(
            StandardisedConv2d(shape[0], WIDTHS[0], side, stride=stride),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity(),
        )
        self.blocks = nn.Sequential(*_blocks())
        self.activate = ScaledReLU()
        self.linear = nn.Linear(WIDTHS[-1], classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        maps = self.activate(self.blocks(self.stem(images)))
        logits: Tensor = self.linear(torch.mean(maps, dim=(2, 3)))
        return logits


def _blocks() -> Iterator[Block]:
    """Yields the blocks in order; each adds alpha^2 to the variance, a projection resets it."""
    channels, variance = WIDTHS[0], 1.0
    for filters in WIDTHS:
        for _ in range(BLOCKS):
            changes = filters != channels
            yield Block(channels, filters, stride=2 if changes else 1, beta=math.sqrt(variance))
            variance = (1.0 if changes else variance) + ALPHA**2
            channels = filters
