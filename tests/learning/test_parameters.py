# SPDX-License-Identifier: Apache-2.0
"""Tests of the parameter vector: order, round trip, copies, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from consilium.learning.parameters import Vector, assign, dimension, flatten


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))


def count_up(model: nn.Module) -> None:
    assign(model, np.arange(dimension(model), dtype=np.float32))


def test_order_is_that_of_the_models_parameters() -> None:
    model = two_layers()

    count_up(model)

    assert [p.flatten().tolist() for p in model.parameters()] == [
        [0, 1, 2, 3],
        [4, 5],
        [6, 7],
        [8],
    ]


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=9, max_size=9))
def test_flatten_gives_back_what_was_assigned(values: list[float]) -> None:
    model = two_layers()
    vector = np.array(values, dtype=np.float32)

    assign(model, vector)

    assert flatten(model).tobytes() == vector.tobytes()


def test_flat_parameters_are_float32() -> None:
    assert flatten(two_layers().double()).dtype == np.float32


@pytest.mark.parametrize("model", [two_layers(), nn.Linear(3, 1, bias=False)])
def test_flatten_copies(model: nn.Module) -> None:
    count_up(model)

    flatten(model)[:] = -1

    assert flatten(model).min() == 0


def test_assign_copies() -> None:
    model, vector = two_layers(), np.zeros(9, dtype=np.float32)
    assign(model, vector)

    vector[:] = 1

    assert flatten(model).max() == 0


def test_assign_takes_a_vector_that_cannot_be_written_to() -> None:
    model, vector = two_layers(), np.ones(9, dtype=np.float32)
    vector.setflags(write=False)

    assign(model, vector)

    assert flatten(model).min() == 1


def test_frozen_parameters_and_buffers_are_left_out() -> None:
    model = two_layers()
    model.get_parameter("0.weight").requires_grad = False
    model.register_buffer("constant", torch.ones(3))

    assert dimension(model) == len(flatten(model)) == 5


def test_a_model_with_nothing_to_train_has_dimension_zero() -> None:
    assert flatten(nn.Tanh()).shape == (0,)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(8, dtype=np.float32),
        np.zeros(10, dtype=np.float32),
        np.zeros((9, 1), dtype=np.float32),
        np.zeros(9, dtype=np.float64),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(vector: Vector) -> None:
    model = two_layers()
    count_up(model)

    with pytest.raises(ValueError, match=r"expected float32 of shape \(9,\)"):
        assign(model, vector)

    assert flatten(model).tolist() == list(range(9))
