# SPDX-License-Identifier: Apache-2.0
"""Tests of the standardised convolution: what its filters are, and that folding changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from consilium.learning.models.registry import build
from consilium.learning.models.standardised_convolution import StandardisedConv2d, folded


def trained(channels: int, filters: int, side: int, stride: int) -> StandardisedConv2d:
    """A layer whose gain and bias are no longer the initial ones."""
    layer = StandardisedConv2d(channels, filters, side, stride=stride)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter))
    return layer


def test_filters_have_zero_mean_and_norm_gain() -> None:
    layer = trained(4, 5, 3, 1)

    filters = layer.standardised().flatten(start_dim=1)

    torch.testing.assert_close(filters.mean(dim=1), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(filters.norm(dim=1), layer.gain.flatten().abs(), atol=1e-4, rtol=0)


def test_a_shift_or_scale_of_a_filter_changes_nothing() -> None:
    layer = trained(4, 5, 3, 1)
    before = layer.standardised()

    with torch.no_grad():
        layer.weight.mul_(3).add_(2)

    torch.testing.assert_close(layer.standardised(), before, atol=1e-4, rtol=1e-3)


@given(
    channels=st.integers(1, 4),
    filters=st.integers(1, 4),
    side=st.sampled_from([1, 3, 5]),
    stride=st.integers(1, 3),
)
@settings(max_examples=20, deadline=None)
def test_folded_layer_gives_equal_outputs(
    channels: int, filters: int, side: int, stride: int
) -> None:
    layer = trained(channels, filters, side, stride)
    maps = torch.randn(2, channels, 9, 9)

    torch.testing.assert_close(layer.fold()(maps), layer(maps), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 64, 64)])
def test_folded_network_gives_equal_outputs(shape: tuple[int, ...]) -> None:
    network = build("nf-resnet", shape=shape, classes=3, seed=0)
    images = torch.randn(4, *shape)

    plain = folded(network)

    torch.testing.assert_close(plain(images), network(images), atol=1e-5, rtol=1e-4)
    assert not [layer for layer in plain.modules() if isinstance(layer, StandardisedConv2d)]


def test_folding_leaves_the_network_as_it_was() -> None:
    network = build("nf-resnet", shape=(1, 28, 28), classes=3, seed=0)

    folded(network)

    assert [layer for layer in network.modules() if isinstance(layer, StandardisedConv2d)]


def test_a_layer_alone_is_folded_too() -> None:
    assert isinstance(folded(StandardisedConv2d(1, 2, 3)), nn.Conv2d)
