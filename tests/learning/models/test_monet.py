# SPDX-License-Identifier: Apache-2.0
"""Tests of MoNet: the published size, skips that are used, and sides that halve."""

import pytest
import torch
from torch import Tensor, nn

from consilium.errors import ConfigError
from consilium.learning.models.monet import WIDTHS, MoNet
from consilium.learning.models.registry import build


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 16, 24, generator=torch.Generator().manual_seed(0))


def monet() -> nn.Module:
    return build("monet", shape=(1, 16, 24), classes=3, seed=0, label_maps=True)


def test_the_size_is_the_published_one_with_batch_norms_four_numbers_a_channel() -> None:
    parameters = dict(MoNet((1, 16, 16), 1).named_parameters())

    weights = sum(p.numel() for name, p in parameters.items() if p.ndim == 4)
    channels = sum(p.numel() for name, p in parameters.items() if name.endswith("norm.weight"))

    assert weights + 4 * (channels + 1) == 403_556  # the last layer's, one channel, had one too
    assert sum(p.numel() for p in parameters.values()) == weights + 2 * channels + 1 == 401_665


def test_a_logit_for_every_class_and_pixel() -> None:
    assert monet()(images(2)).shape == (2, 3, 16, 24)


@pytest.mark.parametrize("level", range(len(WIDTHS) - 1))
def test_removing_a_skip_changes_the_output(level: int) -> None:
    whole, cut = monet(), monet()
    weight = cut.get_parameter(f"join.{level}.convolution.weight")

    with torch.no_grad():
        weight[:, -WIDTHS[level] :] = 0

    assert not torch.allclose(whole(images(2)), cut(images(2)), atol=1e-3)


@pytest.mark.parametrize("step", range(4))
def test_every_dilated_convolution_is_used(step: int) -> None:
    whole, cut = monet(), monet()

    with torch.no_grad():
        cut.get_parameter(f"bottom.steps.{step}.norm.weight").zero_()

    assert not torch.allclose(whole(images(2)), cut(images(2)), atol=1e-3)


def test_sides_that_do_not_halve_twice_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 4"):
        build("monet", shape=(1, 16, 18), classes=3, seed=0, label_maps=True)
