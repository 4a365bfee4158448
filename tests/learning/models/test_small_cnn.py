# SPDX-License-Identifier: Apache-2.0
"""Tests of the small network: the published one at 28 pixels, and whole at every other size."""

import pytest
import torch

from consilium.learning.models.small_cnn import SmallCnn


@pytest.mark.parametrize("side", [8, 9, 16, 27, 28, 33, 64])
def test_the_linear_layers_see_a_grid_of_16_places(side: int) -> None:
    network = SmallCnn((1, side, side), 2)

    assert network.features(torch.zeros(1, 1, side, side)).shape == (1, 512)


@pytest.mark.parametrize("side", [8, 16, 28, 64])
def test_every_edge_of_the_image_reaches_the_output(side: int) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 1, side, side, generator=generator, requires_grad=True)

    torch.autograd.backward(SmallCnn((1, side, side), 2)(image).square().sum())

    assert image.grad is not None
    pull = image.grad[0, 0].abs()
    assert min(pull[:4].sum(), pull[-4:].sum(), pull[:, :4].sum(), pull[:, -4:].sum()) > 0
