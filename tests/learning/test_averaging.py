# SPDX-License-Identifier: Apache-2.0
"""Tests of the weight average: against its definition, from its first round on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import ConfigError, DataError
from consilium.learning.averaging import WeightAverage, no_average_yet
from consilium.learning.parameters import Vector


def vector(*entries: float) -> Vector:
    return np.array(entries, dtype=np.float32)


def average_of(rounds: list[float], decay: float) -> WeightAverage:
    average = no_average_yet(decay, 1)
    for value in rounds:
        average = average.include(vector(value))
    return average


@given(
    rounds=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20),
    decay=st.floats(0, 0.999),
)
def test_average_is_the_weighted_mean_of_the_rounds(rounds: list[float], decay: float) -> None:
    coefficients = [decay ** (len(rounds) - i) for i in range(1, len(rounds) + 1)]

    expected = np.average(rounds, weights=coefficients)

    assert average_of(rounds, decay).weights()[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_after_one_round_the_average_is_that_round(decay: float) -> None:
    assert average_of([3.0], decay).weights()[0] == pytest.approx(3.0)


def test_decay_zero_is_the_last_round() -> None:
    assert average_of([1.0, 5.0, 2.0], 0.0).weights().tolist() == [2.0]


def test_include_changes_neither_the_average_nor_the_weights() -> None:
    weights, average = vector(1, 2), no_average_yet(0.5, 2).include(vector(4, 4))

    average.include(weights)

    assert average.weights().tolist() == [4, 4]
    assert weights.tolist() == [1, 2]


def test_a_saved_average_continues_as_if_never_saved() -> None:
    average = average_of([1.0, 2.0], 0.9)

    restored = WeightAverage.from_arrays(average.to_arrays())

    after, expected = (one.include(vector(7)).weights() for one in (restored, average))
    assert after.tobytes() == expected.tobytes()


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_out_of_range_is_refused(decay: float) -> None:
    with pytest.raises(ConfigError, match=f"decay={decay}"):
        no_average_yet(decay, 1)


def test_an_average_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="call include first"):
        no_average_yet(0.5, 1).weights()


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(2,\)"):
        no_average_yet(0.5, 2).include(vector(1, 2, 3))


@pytest.mark.parametrize("name", ["decay", "steps", "total"])
def test_a_saved_average_without_an_array_is_refused(name: str) -> None:
    arrays = no_average_yet(0.5, 2).to_arrays()
    del arrays[name]

    with pytest.raises(DataError, match="use a checkpoint of this version"):
        WeightAverage.from_arrays(arrays)


def test_a_saved_average_of_two_decays_is_refused() -> None:
    arrays = {**no_average_yet(0.5, 2).to_arrays(), "decay": np.array([0.5, 0.6])}

    with pytest.raises(DataError, match="no single decay"):
        WeightAverage.from_arrays(arrays)
