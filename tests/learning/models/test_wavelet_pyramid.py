# SPDX-License-Identifier: Apache-2.0
"""Tests of the wavelets of three scales: how many features, of what length, and of what."""

import pytest
import torch
from torch import Tensor

from consilium.learning.front_end import split_front_end
from consilium.learning.models.wavelet_pyramid import PyramidFeatures, wavelet_pyramid
from consilium.learning.parameters import flatten


def images(count: int, side: int = 28, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(count, channels, side, side, generator=generator)


@pytest.mark.parametrize(
    ("side", "channels", "expected"),
    [(16, 1, 13 * 16), (28, 1, 13 * 49), (28, 3, 3 * 13 * 49), (55, 1, 13 * 196), (224, 1, 637)],
)
def test_count_of_features(side: int, channels: int, expected: int) -> None:
    features = PyramidFeatures((channels, side, side))

    assert features(images(2, side, channels)).shape == (2, expected)


def test_features_of_every_image_have_length_four() -> None:
    lengths = PyramidFeatures((1, 28, 28))(images(5) * 100 - 30).norm(dim=1)

    torch.testing.assert_close(lengths, torch.full((5,), 4.0))


def test_a_brighter_place_is_seen() -> None:
    even = torch.full((2, 1, 28, 28), 0.5)
    even[1, :, :14] = 0.8

    first, second = PyramidFeatures((1, 28, 28))(even)

    assert (first - second).norm() > 0.1


def test_an_image_of_nothing_is_finite() -> None:
    assert PyramidFeatures((1, 28, 28))(torch.zeros(1, 1, 28, 28)).isfinite().all()


def test_only_the_linear_layer_learns() -> None:
    model = wavelet_pyramid((1, 28, 28), 5)
    _, rest = split_front_end(model)

    assert len(flatten(rest)) == len(flatten(model)) == 637 * 5 + 5
    assert model(images(4)).abs().max() == 0
