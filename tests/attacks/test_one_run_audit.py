# SPDX-License-Identifier: Apache-2.0
"""Tests of the one-run audit: the p-value against a slow sum, and bounds that hold and bite."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng

from consilium.attacks.one_run_audit import Guesses, guess, lower_bound, p_value


def slow_p_value(guesses: Guesses, epsilon: float, delta: float) -> float:
    """The theorem in fractions, term by term."""
    chance = Fraction(math.exp(epsilon)) / (1 + Fraction(math.exp(epsilon)))
    r, v = guesses.made, guesses.right
    law = [math.comb(r, w) * chance**w * (1 - chance) ** (r - w) for w in range(r + 1)]
    spread = max((sum(law[v - i : v], Fraction()) / i for i in range(1, v + 1)), default=0)
    return min(1.0, float(sum(law[v:]) + 2 * guesses.canaries * Fraction(delta) * spread))


def randomized_response(epsilon: float, seed: int, count: int = 1000) -> Guesses:
    """The mechanism that every epsilon allows at best: it tells each coin, or lies."""
    random = default_rng(seed)
    coins = random.random(count) < 0.5
    told = coins ^ (random.random(count) > 1 / (1 + math.exp(-epsilon)))
    return Guesses(canaries=count, made=count, right=int((told == coins).sum()))


# -- The p-value ----------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(st.integers(0, 25), st.integers(0, 25), st.integers(0, 25)).map(sorted),
    st.floats(0, 4),
    st.sampled_from([0.0, 1e-6, 1e-2]),
)
def test_the_p_value_is_the_slow_sum(counts: list[int], epsilon: float, delta: float) -> None:
    guesses = Guesses(right=counts[0], made=counts[1], canaries=counts[2])

    found = p_value(guesses, epsilon=epsilon, delta=delta)

    assert found == pytest.approx(slow_p_value(guesses, epsilon, delta), rel=1e-9, abs=1e-12)


@given(st.integers(0, 200), st.floats(0, 3), st.floats(0, 1))
def test_a_larger_claim_is_never_less_likely(right: int, epsilon: float, more: float) -> None:
    guesses = Guesses(canaries=300, made=200, right=right)

    small = p_value(guesses, epsilon=epsilon, delta=0)

    assert p_value(guesses, epsilon=epsilon + more, delta=0) >= small * (1 - 1e-9)


# -- The bound ------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 4.0])
def test_the_bound_holds_as_often_as_stated_and_is_close(epsilon: float) -> None:
    bounds = [lower_bound(randomized_response(epsilon, k), delta=1e-5) for k in range(30)]

    assert sum(bound > epsilon for bound in bounds) <= 6  # 1.5 expected, more is one in a thousand
    assert min(bounds) > 0.6 * epsilon - 0.1


def test_a_coin_shows_nothing() -> None:
    assert lower_bound(Guesses(canaries=1000, made=100, right=50), delta=1e-5) == 0


def test_nobody_can_be_right_without_guessing() -> None:
    assert lower_bound(Guesses(canaries=1000, made=0, right=0), delta=0) == 0


def test_all_right_shows_what_so_many_can_show() -> None:
    bound = lower_bound(Guesses(canaries=500, made=500, right=500), delta=0)

    assert (1 / (1 + math.exp(-bound))) ** 500 == pytest.approx(0.05, rel=1e-6)


# -- Guessing -------------------------------------------------------------------------


def test_the_highest_are_named_in_and_the_lowest_out() -> None:
    included = np.array([True, False, True, False, True, False])
    scores = np.array([9.0, 8.0, 5.0, 4.0, 2.0, 1.0])

    assert guess(included, scores, made=4) == Guesses(canaries=6, made=4, right=2)


@pytest.mark.parametrize("made", [-2, 3, 8])
def test_another_number_of_guesses_is_refused(made: int) -> None:
    with pytest.raises(ValueError, match="even number of guesses"):
        guess(np.zeros(6, bool), np.zeros(6), made=made)


@pytest.mark.parametrize("counts", [(1, 2, 1), (2, 3, 1), (2, 1, -1)])
def test_impossible_guesses_are_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="impossible"):
        Guesses(canaries=counts[0], made=counts[1], right=counts[2])


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(-0.1, 0.0), (math.nan, 0.0), (1.0, -0.1), (1.0, 1.1)]
)
def test_a_claim_out_of_range_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        p_value(Guesses(canaries=2, made=2, right=1), epsilon=epsilon, delta=delta)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_out_of_range_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        lower_bound(Guesses(canaries=2, made=2, right=1), delta=0, confidence=confidence)
