# SPDX-License-Identifier: Apache-2.0
"""What leaves the house computes what was trained."""

import numpy as np
import pytest
import torch
from torch import nn

from consilium.learning.deployed import Deployed
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing

PICTURES = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)


@pytest.mark.parametrize("own_moments", [False, True])
def test_preprocessing_is_bit_equal(*, own_moments: bool) -> None:
    rule = Preprocessing(mean=0.48, std=0.235, standardise_each_image=own_moments)
    images = np.concatenate([PICTURES, np.zeros_like(PICTURES[:1]), PICTURES[:1] // 255])

    found, _ = Deployed(nn.Flatten(), rule)(torch.from_numpy(images))

    assert torch.equal(found, rule.inputs(images).flatten(1))


def test_network_is_the_trained_one_folded() -> None:
    model = build("nf-resnet", shape=(3, 32, 32), classes=4, seed=0)
    rule = Preprocessing()

    logits, probabilities = Deployed(model, rule)(torch.from_numpy(PICTURES))

    expected = model.eval()(rule.inputs(PICTURES))
    assert torch.allclose(logits, expected, atol=1e-5)
    assert torch.allclose(probabilities, torch.softmax(expected, 1), atol=1e-6)


def test_temperature_divides_logits() -> None:
    rule = Preprocessing()

    logits, _ = Deployed(nn.Flatten(), rule, temperature=2.0)(torch.from_numpy(PICTURES))

    assert torch.equal(logits, rule.inputs(PICTURES).flatten(1) / 2)


def test_temperature_is_positive() -> None:
    with pytest.raises(ValueError, match=r"temperature=0\.0 must be > 0"):
        Deployed(nn.Flatten(), Preprocessing(), temperature=0.0)
