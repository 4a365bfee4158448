# SPDX-License-Identifier: Apache-2.0
"""Tests of the VGGs: the published sizes and names, and a signal that arrives."""

import pytest
import torch
from torch import nn

from consilium.learning.models.registry import build
from consilium.learning.models.vgg import VGG11, VGG16, vgg

# Of torchvision's models, 132,863,336, 132,868,840 and 138,357,544 at a thousand classes, at five.
PUBLISHED = [(VGG11, False, 128_786_821), (VGG11, True, 128_792_325), (VGG16, False, 134_281_029)]


def large(stages: tuple[tuple[int, ...], ...], *, normalised: bool) -> nn.Sequential:
    with torch.device("meta"):
        return vgg((3, 224, 224), 5, stages=stages, normalised=normalised)


@pytest.mark.parametrize(("stages", "normalised", "expected"), PUBLISHED)
def test_sizes_are_the_published_ones(
    stages: tuple[tuple[int, ...], ...], normalised: bool, expected: int
) -> None:
    model = large(stages, normalised=normalised)

    assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_parameters_bear_the_published_names() -> None:
    plain, normalised = (large(VGG11, normalised=which) for which in (False, True))

    convolutions = [f"features.{i}" for i in (0, 3, 6, 8, 11, 13, 16, 18)]
    linear = [f"classifier.{i}" for i in (0, 3, 6)]
    names = dict.fromkeys(name.rsplit(".", 1)[0] for name, _ in plain.named_parameters())
    assert list(names) == convolutions + linear
    assert normalised.get_parameter("features.25.weight").shape == (512, 512, 3, 3)
    assert normalised.get_parameter("features.26.weight").shape == (512,)


@pytest.mark.parametrize("name", ["vgg16", "vgg16-gn"])
def test_the_signal_reaches_the_classifier(name: str) -> None:
    model = build(name, shape=(3, 32, 32), classes=2, seed=0)
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    maps = model.get_submodule("features")(images)

    assert 0.1 < float(maps.detach().std()) < 10
