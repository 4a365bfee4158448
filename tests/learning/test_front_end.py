# SPDX-License-Identifier: Apache-2.0
"""Tests of the front end: which layers are fixed, and that computing them once changes nothing."""

import pytest
import torch
from torch import nn

from consilium.learning.front_end import apply_front_end, split_front_end


def test_leading_layers_without_parameters_are_fixed() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(4, 2), nn.Tanh())

    fixed, rest = split_front_end(model)

    assert [type(layer).__name__ for layer in fixed.children()] == ["Flatten", "Tanh"]
    assert list(rest.parameters()) == list(model.parameters())


def test_leading_layers_that_are_frozen_are_fixed() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)

    fixed, _ = split_front_end(model)

    assert list(fixed.children()) == [model[0]]


@pytest.mark.parametrize(
    "model", [nn.Sequential(nn.Linear(4, 2)), nn.Linear(4, 2), nn.Sequential(nn.Tanh())]
)
def test_a_model_may_have_no_front_end(model: nn.Module) -> None:
    fixed, rest = split_front_end(model)

    assert isinstance(fixed, nn.Identity)
    assert rest is model


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_fixed_layers_and_rest_equal_the_model(batch_size: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(4, 2))
    inputs = torch.randn(7, 1, 2, 2)
    fixed, rest = split_front_end(model)

    features = apply_front_end(fixed, inputs, batch_size)

    torch.testing.assert_close(rest(features), model(inputs))


def test_without_a_front_end_the_inputs_come_back() -> None:
    inputs = torch.randn(7, 4)

    assert apply_front_end(nn.Identity(), inputs) is inputs


def test_frozen_layers_that_blow_records_up_are_not_kept() -> None:
    model = nn.Sequential(nn.Conv2d(1, 64, 3, padding=1), nn.Flatten(), nn.Linear(64 * 32 * 32, 2))
    model[0].requires_grad_(requires_grad=False)

    kept, _ = split_front_end(model)
    front_end, rest = split_front_end(model, (1, 32, 32))

    assert isinstance(kept, nn.Sequential)
    assert isinstance(front_end, nn.Identity)
    assert rest is model
