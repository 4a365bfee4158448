# SPDX-License-Identifier: Apache-2.0
"""Tests of the ResNets: the published sizes and names, and the stem that fits the image."""

import pytest
import torch
from torch import nn

from consilium.learning.front_end import split_front_end
from consilium.learning.models.registry import build
from consilium.learning.models.resnet import resnet

# Of torchvision's models, 11,689,512 and 25,557,032 at a thousand classes, at five.
PUBLISHED = {(2, 2, 2, 2): 11_179_077, (3, 4, 6, 3): 23_518_277}


def large(blocks: tuple[int, ...]) -> nn.Sequential:
    with torch.device("meta"):
        return resnet((3, 224, 224), 5, blocks=blocks, bottleneck=blocks == (3, 4, 6, 3))


@pytest.mark.parametrize(("blocks", "expected"), PUBLISHED.items())
def test_sizes_are_the_published_ones(blocks: tuple[int, ...], expected: int) -> None:
    assert sum(parameter.numel() for parameter in large(blocks).parameters()) == expected


def test_parameters_bear_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(p.shape) for name, p in large((3, 4, 6, 3)).named_parameters()}

    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.conv1.weight"] == (64, 64, 1, 1)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer1.0.downsample.1.bias"] == (256,)
    assert shapes["layer4.2.bn3.weight"] == (2048,)
    assert shapes["fc.weight"] == (5, 2048)
    assert "layer1.0.downsample.0.weight" not in dict(large((2, 2, 2, 2)).named_parameters())


@pytest.mark.parametrize(("side", "left"), [(224, 7), (128, 4), (64, 8), (32, 4)])
def test_small_images_are_halved_less(side: int, left: int) -> None:
    model = build("resnet18", shape=(1, side, side), classes=2, seed=0)
    until = list(dict(model.named_children())).index("avgpool")
    assert isinstance(model, nn.Sequential)

    maps = model[:until](torch.zeros(1, 1, side, side))

    assert maps.shape == (1, 512, left, left)


def test_frozen_first_layers_are_a_fixed_front_end() -> None:
    model = build("resnet18", shape=(1, 32, 32), classes=2, seed=0)
    model.requires_grad_(requires_grad=False)
    model.get_submodule("layer4").requires_grad_()
    model.get_submodule("fc").requires_grad_()

    front, trained = split_front_end(model)

    assert front(torch.zeros(1, 1, 32, 32)).shape == (1, 256, 8, 8)
    assert trained(front(torch.zeros(1, 1, 32, 32))).shape == (1, 2)
