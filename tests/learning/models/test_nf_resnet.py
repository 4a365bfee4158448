# SPDX-License-Identifier: Apache-2.0
"""Tests of the normaliser-free network: its signal keeps the variance that it predicts."""

import torch

from consilium.learning.models.nf_resnet import Block, NfResNet, ScaledReLU, nf_resnet
from consilium.learning.models.registry import build


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_scaled_relu_keeps_the_variance_of_normal_inputs() -> None:
    activated = ScaledReLU()(noise(100_000))

    assert abs(activated.var().item() - 1) < 0.03


def test_each_block_divides_by_the_predicted_deviation() -> None:
    network = nf_resnet((1, 28, 28), 2)

    betas = [block.beta**2 for block in network.blocks if isinstance(block, Block)]

    torch.testing.assert_close(
        torch.tensor(betas), torch.tensor([1.0, 1.04, 1.08, 1.04, 1.08, 1.04])
    )


def test_variance_of_the_signal_stays_near_one_through_the_depth() -> None:
    network = build("nf-resnet", shape=(3, 32, 32), classes=2, seed=0)
    assert isinstance(network, NfResNet)

    maps = network.blocks(network.stem(noise(16, 3, 32, 32)))

    assert 0.5 < maps.var().item() < 2
