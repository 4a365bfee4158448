# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and ResNet-50 with group normalisation, for images from 32 pixels up.

11,689,512 and 25,557,032 parameters at three channels and 1,000 classes, as the originals:
group normalisation has the weights of batch normalisation and looks at one record alone.
Parameters bear torchvision's names, so that its published convolutions fit.

Noise grows with the root of the number of weights: under differential privacy these pay only
with many patients or with most layers frozen; `nf-resnet` is the small one.

Source: He et al. 2016, table 1 (arXiv:1512.03385v1), stride in the 3x3 convolution of a
bottleneck; Wu and He 2018 (arXiv:1803.08494v3), 32 groups.
"""

from collections.abc import Iterator
from typing import Final, TypeAlias, final

import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

WIDTHS: Final = (64, 128, 256, 512)  # of each stage, before a bottleneck's expansion
GROUPS: Final = 32
EXPANSION: Final = 4  # of a bottleneck
BLOCKS_18: Final = (2, 2, 2, 2)
BLOCKS_50: Final = (3, 4, 6, 3)

Blocks: TypeAlias = "type[Basic] | type[Bottleneck]"


@final
class Basic(nn.Module):
    """Two 3x3 convolutions beside the shortcut."""

    expansion: Final = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(channels, width, 3, stride), _norm(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, 1), _norm(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `width` channels, height and width divided by the stride."""
        branch = F.relu(self.bn1(self.conv1(maps)))
        total: Tensor = self.bn2(self.conv2(branch)) + self.downsample(maps)
        return F.relu(total)


@final
class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, beside the shortcut."""

    expansion: Final = EXPANSION

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        wide = EXPANSION * width
        self.conv1, self.bn1 = _convolution(channels, width, 1, 1), _norm(width)
        self.conv2, self.bn2 = _convolution(width, width, 3, stride), _norm(width)
        self.conv3, self.bn3 = _convolution(width, wide, 1, 1), _norm(wide)
        self.downsample = _shortcut(channels, wide, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of 4 * `width` channels, height and width divided by the stride."""
        branch = F.relu(self.bn1(self.conv1(maps)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        total: Tensor = self.bn3(self.conv3(branch)) + self.downsample(maps)
        return F.relu(total)


@final
class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average, linear layer."""

    def __init__(
        self, shape: tuple[int, ...], classes: int, *, block: Blocks, blocks: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.conv1, self.bn1 = _convolution(shape[0], WIDTHS[0], 7, 2), _norm(WIDTHS[0])
        stages = [nn.Sequential(*stage) for stage in _stages(block, blocks)]
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.fc = nn.Linear(WIDTHS[-1] * block.expansion, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Returns one logit a class, shape (n, classes), for images (n, channels, h, w)."""
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, padding=1)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(torch.mean(maps, dim=(2, 3)))
        return logits


def _stages(block: Blocks, blocks: tuple[int, ...]) -> Iterator[Iterator[nn.Module]]:
    channels = WIDTHS[0]
    for stage, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
        yield _stage(block, channels, width, count=count, stride=2 if stage else 1)
        channels = width * block.expansion


def _stage(
    block: Blocks, channels: int, width: int, *, count: int, stride: int
) -> Iterator[nn.Module]:
    yield block(channels, width, stride)
    for _ in range(count - 1):
        yield block(width * block.expansion, width, 1)


def _convolution(channels: int, filters: int, side: int, stride: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, filters, side, stride, padding=side // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels)


def _shortcut(channels: int, filters: int, stride: int) -> nn.Module:
    if stride == 1 and channels == filters:
        return nn.Identity()
    return nn.Sequential(_convolution(channels, filters, 1, stride), _norm(filters))
