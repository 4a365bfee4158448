# SPDX-License-Identifier: Apache-2.0
"""ResNet-18 and ResNet-50 with group normalisation, for images of 16 pixels and more.

11,179,077 and 23,518,277 parameters at three channels and five classes. Two differences from the
paper: GroupNorm where it has batch normalisation, so that no record's output depends on another;
and below 128 pixels a 3x3 first convolution that keeps the size, without the pooling after it.

Parameters bear torchvision's names, so that its published weights fit: the affine values of a
batch normalisation become those of the group normalisation, its running statistics are left.
A sequence of layers, so that the first ones, where they are frozen, are computed once.

Source: He et al. 2016 (arXiv:1512.03385v1), the stride of a bottleneck in its 3x3 convolution as
torchvision has it; Wu and He 2018 for the groups (arXiv:1803.08494v3).
"""

from collections import OrderedDict
from typing import Final, final

import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from torch import Tensor, nn

from consilium.dp.conversion import groups

WIDTHS: Final = (64, 128, 256, 512)  # channels inside the blocks of each stage
WIDENING: Final = 4  # of a bottleneck's output
LARGE_FROM: Final = 128  # pixels; from here the first convolution and a pooling halve twice


def resnet(
    shape: tuple[int, ...], classes: int, *, blocks: tuple[int, ...], bottleneck: bool
) -> nn.Sequential:
    """Returns stem, four stages of `blocks` residual blocks each, global average, linear layer."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(_stem(shape))
    channels = WIDTHS[0]
    for number, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
        stage = nn.Sequential()
        for block in range(count):
            stride = 2 if number and not block else 1
            made = (Bottleneck if bottleneck else BasicBlock)(channels, width, stride=stride)
            channels = made.channels
            stage.append(made)
        layers[f"layer{number + 1}"] = stage
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    layers["fc"] = nn.Linear(channels, classes)
    model = nn.Sequential(layers)
    _initialise(model)
    return model


def _stem(shape: tuple[int, ...]) -> dict[str, nn.Module]:
    large = min(shape[1:]) >= LARGE_FROM
    side, stride = (7, 2) if large else (3, 1)
    stem: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(shape[0], WIDTHS[0], side, stride, padding=side // 2, bias=False),
        "bn1": _norm(WIDTHS[0]),
        "relu": nn.ReLU(),
    }
    return stem | ({"maxpool": nn.MaxPool2d(3, 2, padding=1)} if large else {})


@final
class BasicBlock(nn.Module):
    """relu(shortcut(x) + branch(x)) with two 3x3 convolutions."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.channels = width
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = _norm(width)
        self.downsample = _shortcut(channels, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `channels` channels, height and width divided by the stride."""
        branch = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        return F.relu(branch + self.downsample(maps))


@final
class Bottleneck(nn.Module):
    """relu(shortcut(x) + branch(x)) with 1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.channels = WIDENING * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = _norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = _norm(width)
        self.conv3 = nn.Conv2d(width, self.channels, 1, bias=False)
        self.bn3 = _norm(self.channels)
        self.downsample = _shortcut(channels, self.channels, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps of `channels` channels, height and width divided by the stride."""
        narrow = F.relu(self.bn1(self.conv1(maps)))
        branch = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(narrow)))))
        return F.relu(branch + self.downsample(maps))


def _shortcut(channels: int, filters: int, stride: int) -> nn.Sequential:
    if stride == 1 and channels == filters:
        return nn.Sequential()
    return nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), _norm(filters))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups(channels), channels)


def _initialise(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
