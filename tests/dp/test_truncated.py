# SPDX-License-Identifier: Apache-2.0
"""Tests of truncated Poisson samples: their shape, the exact tail, and the lemma."""

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent, TruncatedSubsampledGaussianDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from consilium.dp.accounting import epsilon, poisson_gaussian
from consilium.dp.sampling import poisson_sample
from consilium.dp.truncated import delta_left, least_most, overflow, truncated_poisson_sample
from consilium.errors import PrivacyError
from consilium.keystream import Keystream


def stream(key: int = 1) -> Keystream:
    return Keystream(key.to_bytes(32, "big"))


def exact_tail(count: int, probability: float, most: int) -> Fraction:
    """Pr[Binomial > most] in fractions: slow, and obviously what is meant."""
    q = Fraction(probability)
    terms = (
        math.comb(count, k) * q**k * (1 - q) ** (count - k) for k in range(most + 1, count + 1)
    )
    return sum(terms, Fraction(0))


# -- The sample -----------------------------------------------------------------------


@given(st.integers(0, 60), st.floats(0, 1), st.integers(0, 70), st.integers(1, 99))
def test_a_cut_sample_is_a_part_of_the_whole_one(
    count: int, probability: float, most: int, key: int
) -> None:
    cut = truncated_poisson_sample(count, probability, most, stream(key))

    whole = poisson_sample(count, probability, stream(key))
    found = cut.positions[cut.present].tolist()
    assert cut.positions.shape == cut.present.shape == (most,)
    assert len(found) == min(most, len(whole))
    assert set(found) <= set(whole.tolist())
    assert found == sorted(found)
    assert not cut.positions[~cut.present].any()


def test_a_cut_favours_nobody() -> None:
    coins = stream()

    kept = [truncated_poisson_sample(12, 1.0, 4, coins).positions for _ in range(3000)]

    found = np.bincount(np.concatenate(kept), minlength=12)
    assert stats.chisquare(found).pvalue > 1e-6


def test_negative_places_are_refused() -> None:
    with pytest.raises(ValueError, match="most"):
        truncated_poisson_sample(4, 0.5, -1, stream())


def test_a_sample_never_shows_who_is_in_it() -> None:
    assert repr(truncated_poisson_sample(4, 1, 4, stream())) == "FixedSample()"


# -- The price of the cut -------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 80), st.floats(0.001, 0.9), st.integers(0, 80))
def test_the_chance_of_a_cut_is_the_exact_tail_of_one_patient_more(
    count: int, probability: float, most: int
) -> None:
    found, exact = overflow(count, probability, most), exact_tail(count + 1, probability, most)

    assert exact <= found <= float(exact) * (1 + 1e-8)


def test_cuts_happen_as_often_as_stated() -> None:
    coins = stream()

    cut = np.mean([poisson_sample(201, 0.1, coins).size > 24 for _ in range(20_000)])

    chance = overflow(200, 0.1, 24)
    assert abs(cut - chance) < 5 * math.sqrt(chance / 20_000)


def test_the_cut_and_the_rest_make_up_delta() -> None:
    left = delta_left(1e-5, steps=1000, count=200, probability=0.05, most=32)

    total = Fraction(left) + 1000 * exact_tail(201, 0.05, 32)
    assert left < 0.999e-5
    assert Fraction(1e-5) * (1 - Fraction(1, 10**8)) < total <= Fraction(1e-5)


def test_a_cut_that_costs_all_of_delta_is_refused_with_a_better_number() -> None:
    with pytest.raises(PrivacyError, match=r"cut at 60 cost delta .* raise most to 101"):
        delta_left(1e-5, steps=1000, count=5000, probability=0.01, most=60)

    assert delta_left(1e-5, steps=1000, count=5000, probability=0.01, most=101) > 0.99e-5


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(0.001, 1), st.floats(1e-12, 1), st.integers(1, 10_000))
def test_one_place_fewer_would_cost_more(
    count: int, probability: float, delta: float, steps: int
) -> None:
    most = least_most(delta, steps=steps, count=count, probability=probability)

    assert steps * overflow(count, probability, most) <= delta
    assert most == 0 or steps * overflow(count, probability, most - 1) > delta


@pytest.mark.parametrize("delta", [0.0, 1.0, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        delta_left(delta, steps=1, count=10, probability=0.1, most=5)


# -- Against another theorem ----------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "probability", "most", "noise", "steps", "delta"),
    [
        (5000, 0.01, 101, 1.1, 1000, 1e-5),
        (5000, 0.01, 94, 1.1, 100, 1e-5),
        (600, 0.1, 104, 1.5, 300, 1e-4),
        (300, 0.3, 130, 3.0, 50, 1e-4),
    ],
)
def test_the_price_is_next_to_that_of_the_library_for_a_random_cut(  # noqa: PLR0917 - a row
    count: int, probability: float, most: int, noise: float, steps: int, delta: float
) -> None:
    step = TruncatedSubsampledGaussianDpEvent(count + 1, probability, most, noise)
    whole = poisson_gaussian(sampling_probability=probability, noise_multiplier=noise, steps=steps)
    left = delta_left(delta, steps=steps, count=count, probability=probability, most=most)

    ours = epsilon(whole, left)

    theirs = epsilon(SelfComposedDpEvent(step, steps), delta)
    assert epsilon(whole, delta) <= theirs <= ours <= 1.03 * theirs


# -- The lemma ------------------------------------------------------------------------

GRID = np.linspace(-6, 12, 6001)


def law(shifts: list[float], q: float, most: int, z: float) -> NDArray[np.float64]:
    """Density of one step: the cut sum of `shifts` over all their coins, plus noise."""
    total = np.zeros(GRID.size)
    for coins in product((0, 1), repeat=len(shifts)):
        chance = math.prod(q if coin else 1 - q for coin in coins)
        kept = [shift for shift, coin in zip(shifts, coins, strict=True) if coin][:most]
        total += chance * stats.norm.pdf(GRID, sum(kept), z)
    density: NDArray[np.float64] = total * (GRID[1] - GRID[0])
    return density


def excess(first: NDArray[np.float64], second: NDArray[np.float64], eps: float) -> float:
    return float(np.maximum(0, first - math.exp(eps) * second).sum())


@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("most", [0, 1, 2, 4])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_a_cut_step_is_within_the_poisson_step_and_the_tail(
    eps: float, most: int, place: int
) -> None:
    others = [-1.0, 1.0, 1.0, -1.0, 1.0]
    without = law(others, 0.3, most, 0.8)
    with_one = law([*others[:place], 1.0, *others[place:]], 0.3, most, 0.8)

    one, gone = stats.norm.pdf(GRID, 1, 0.8), stats.norm.pdf(GRID, 0, 0.8)
    drawn = (0.3 * one + 0.7 * gone) * (GRID[1] - GRID[0])
    whole = gone * (GRID[1] - GRID[0])
    tail = float(exact_tail(6, 0.3, most))
    assert excess(with_one, without, eps) <= excess(drawn, whole, eps) + tail
    assert excess(without, with_one, eps) <= excess(whole, drawn, eps) + tail
