# SPDX-License-Identifier: Apache-2.0
"""Tests of Poisson sampling: frequency, independence, edges, and the exact threshold."""

from fractions import Fraction
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from consilium.dp.sampling import poisson_sample
from consilium.keystream import Keystream


class Scripted:
    """A stream that gives the words it was given."""

    def __init__(self, *words: int) -> None:
        self._words = np.array(words, np.uint64)

    def words(self, count: int, kind: type[np.uint64]) -> NDArray[np.uint64]:
        return self._words[:count].astype(kind)


def scripted(*words: int) -> Keystream:
    return cast("Keystream", Scripted(*words))


def stream(key: int = 1) -> Keystream:
    return Keystream(key.to_bytes(32, "big"))


# -- Frequency and independence -------------------------------------------------------


@pytest.mark.parametrize("probability", [0.01, 0.03425, 0.5, 0.9])
def test_each_position_is_drawn_as_often_as_stated(probability: float) -> None:
    source = stream()

    draws = [poisson_sample(500, probability, source) for _ in range(4000)]

    frequency = np.bincount(np.concatenate(draws), minlength=500) / 4000
    spread = np.sqrt(probability * (1 - probability) / 4000)
    assert np.abs(frequency - probability).max() < 5 * spread


def test_the_size_of_the_sample_varies_as_independent_coins_do() -> None:
    source = stream()

    sizes = np.array([poisson_sample(293, 0.03425, source).size for _ in range(20_000)])

    variance = 293 * 0.03425 * (1 - 0.03425)
    assert abs(sizes.mean() - 293 * 0.03425) < 5 * np.sqrt(variance / 20_000)
    assert abs(sizes.var() / variance - 1) < 0.06


def test_two_positions_are_drawn_together_as_often_as_independence_says() -> None:
    source = stream()

    together = sum({3, 4} <= set(poisson_sample(8, 0.5, source).tolist()) for _ in range(10_000))

    assert abs(together / 10_000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 10_000)


def test_samples_under_two_keys_differ() -> None:
    first, second = (poisson_sample(1000, 0.5, stream(key)) for key in (1, 2))

    assert first.tolist() != second.tolist()


def test_the_same_key_gives_the_same_sample() -> None:
    first, second = (poisson_sample(1000, 0.5, stream()) for _ in range(2))

    assert first.tolist() == second.tolist()


# -- Edges ----------------------------------------------------------------------------


def test_probability_zero_takes_nobody() -> None:
    assert poisson_sample(4, 0, scripted(0, 0, 0, 0)).tolist() == []


def test_probability_one_takes_everybody() -> None:
    assert poisson_sample(4, 1, scripted(*[2**64 - 1] * 4)).tolist() == [0, 1, 2, 3]


def test_nobody_is_drawn_from_nobody() -> None:
    assert poisson_sample(0, 0.5, stream()).tolist() == []


@pytest.mark.parametrize("probability", [-1e-9, 1.0000001, float("nan"), float("inf")])
def test_a_probability_out_of_range_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        poisson_sample(4, probability, stream())


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="count"):
        poisson_sample(-1, 0.5, stream())


# -- The threshold --------------------------------------------------------------------


@given(st.floats(2**-60, 1, exclude_max=True))
def test_the_threshold_is_the_exact_probability_rounded_down(probability: float) -> None:
    threshold = int(Fraction(probability) * 2**64)

    drawn = poisson_sample(2, probability, scripted(threshold - 1, threshold))

    assert drawn.tolist() == [0]
    assert Fraction(threshold, 2**64) <= Fraction(probability)


def test_a_probability_below_the_last_bit_takes_nobody() -> None:
    assert poisson_sample(2, 2.0**-65, scripted(0, 1)).tolist() == []
