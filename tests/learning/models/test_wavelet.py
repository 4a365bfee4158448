# SPDX-License-Identifier: Apache-2.0
"""Tests of the wavelet model: what its kernels and features are, and that they never change."""

import pytest
import torch
from torch import Tensor

from consilium.learning.front_end import apply_front_end, split_front_end
from consilium.learning.models.wavelet import (
    WaveletFeatures,
    gaussian,
    moduli,
    morlet,
    wavelet,
)
from consilium.learning.parameters import flatten


def images(count: int, side: int = 28, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(count, channels, side, side, generator=generator)


def first_order() -> WaveletFeatures:
    return WaveletFeatures((1, 28, 28), angles=8, second_order=False)


# -- Kernels --------------------------------------------------------------------------


@pytest.mark.parametrize("angles", [4, 8])
def test_wavelets_sum_to_zero(angles: int) -> None:
    sums = morlet(angles).sum(dim=(1, 2, 3))

    torch.testing.assert_close(sums, torch.zeros(2 * angles), atol=1e-6, rtol=0)


def test_the_blur_sums_to_one_and_is_symmetric() -> None:
    blur = gaussian()[0, 0]

    assert blur.sum().item() == pytest.approx(1)
    assert torch.equal(blur, blur.T)
    assert torch.equal(blur, blur.flip(0))


def test_a_wavelet_answers_to_its_own_direction() -> None:
    columns = torch.arange(28.0) * 3 * torch.pi / 4
    stripes = torch.cos(columns).expand(1, 1, 28, 28)

    found = moduli(stripes, morlet(8)).mean(dim=(2, 3))[0]

    assert found.argmax() == 0
    assert found[0] > 10 * found[4]


# -- Features -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "channels", "second_order", "expected"),
    [
        (28, 1, False, 17 * 49),
        (28, 3, False, 3 * 17 * 49),
        (28, 1, True, (17 + 64) * 49),
        (64, 1, False, 17 * 64),
        (224, 1, False, 17 * 49),
    ],
)
def test_count_of_features(side: int, channels: int, second_order: bool, expected: int) -> None:
    features = WaveletFeatures((channels, side, side), angles=8, second_order=second_order)

    assert features(images(2, side, channels)).shape == (2, expected)


def test_features_of_every_image_have_nearly_norm_four() -> None:
    norms = first_order()(images(5) * 100).norm(dim=1)

    torch.testing.assert_close(norms, torch.full((5,), 4.0), atol=0.05, rtol=0)


def test_brightness_and_contrast_hardly_matter() -> None:
    features = first_order()

    torch.testing.assert_close(
        features(images(3) * 50 + 7), features(images(3) * 25), atol=0.01, rtol=0
    )


def test_an_even_image_has_no_features() -> None:
    assert first_order()(torch.full((1, 1, 28, 28), 0.7)).abs().max() < 1e-3


def test_a_large_image_is_averaged_down_first() -> None:
    small, large = images(2), images(2).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)

    found = WaveletFeatures((1, 224, 224), angles=8, second_order=False)(large)

    torch.testing.assert_close(found, first_order()(small), atol=1e-4, rtol=0)


# -- Only the linear layer learns -----------------------------------------------------


def test_features_can_be_computed_once() -> None:
    model = wavelet((1, 28, 28), 3, angles=4, second_order=True)
    fixed, rest = split_front_end(model)

    features = apply_front_end(fixed, images(4))

    torch.testing.assert_close(rest(features), model(images(4)))
    assert len(flatten(rest)) == len(flatten(model)) == features.shape[1] * 3 + 3


def test_training_starts_from_even_odds() -> None:
    model = wavelet((1, 28, 28), 3, angles=4, second_order=True)

    assert model(images(4)).abs().max() == 0
