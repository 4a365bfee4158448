# SPDX-License-Identifier: Apache-2.0
"""Tests of the readings of a price: integrals, closed forms, and bounds on each other."""

import doctest
import math
from collections.abc import Sequence

import numpy as np
import pytest
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    PoissonSampledDpEvent,
)
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from consilium.dp import readings
from consilium.dp.accounting import epsilon, poisson_gaussian
from consilium.dp.plan import Plan, View, alone
from consilium.dp.readings import (
    group_bound,
    group_epsilon,
    in_words,
    privacy_curve,
    replacement_epsilon,
    steps_left,
)
from consilium.errors import UnsupportedEvent

DELTA = 1e-5


def training(q: float, z: float, steps: int) -> DpEvent:
    return poisson_gaussian(sampling_probability=q, noise_multiplier=z, steps=steps)


# -- Oracles --------------------------------------------------------------------------


def gaussian_delta(z: float, eps: float) -> float:
    """Balle and Wang 2018, Theorem 8 (arXiv:1805.06530): the Gaussian mechanism, exactly."""
    tail = special.log_ndtr(-1 / (2 * z) - eps * z)
    return float(special.ndtr(1 / (2 * z) - eps * z) - math.exp(eps + tail))


def divergence(first: NDArray[np.float64], second: NDArray[np.float64], eps: float) -> float:
    """Both hockey-stick divergences of two densities on a grid, the larger."""
    one = np.maximum(0, first - math.exp(eps) * second).sum()
    other = np.maximum(0, second - math.exp(eps) * first).sum()
    return float(max(one, other))


def mixture(q: float, z: float, group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Densities without and with a group of patients whose gradients all agree."""
    x, width = np.linspace(-12 * z, group + 12 * z, 100_001, retstep=True)
    chances = stats.binom.pmf(range(group + 1), group, q)
    with_group = sum(c * stats.norm.pdf(x, k, z) for k, c in enumerate(chances))
    return stats.norm.pdf(x, 0, z) * width, np.asarray(with_group) * width


def plane(q: float, z: float, shift: Sequence[float]) -> NDArray[np.float64]:
    """Density in the plane of one patient's gradient, drawn with probability q, and noise."""
    x, width = np.linspace(-1 - 6 * z, 1 + 6 * z, 301, retstep=True)
    there = np.outer(stats.norm.pdf(x, shift[0], z), stats.norm.pdf(x, shift[1], z))
    gone = np.outer(stats.norm.pdf(x, 0, z), stats.norm.pdf(x, 0, z))
    mixed: NDArray[np.float64] = (q * there + (1 - q) * gone) * width**2
    return mixed


# -- The curve ------------------------------------------------------------------------


@pytest.mark.parametrize("z", [0.7, 9.0])
def test_the_curve_of_a_gaussian_is_the_closed_form(z: float) -> None:
    asked = [0.0, 0.1, 0.5, 1.0]

    found = privacy_curve(GaussianDpEvent(z), asked)

    exact = np.maximum([gaussian_delta(z, eps) for eps in asked], 1e-12)
    assert (found >= exact * (1 - 1e-9)).all()
    assert found == pytest.approx(exact, rel=2e-3, abs=2e-12)


def test_the_curve_passes_through_the_price() -> None:
    event = training(0.1, 1.0, 50)

    (delta,) = privacy_curve(event, [epsilon(event, DELTA)])

    assert delta == pytest.approx(DELTA, rel=1e-2)


def test_the_curve_falls_and_ends_at_what_doubles_can_say() -> None:
    found = privacy_curve(training(0.1, 2.0, 50), [0, 0.5, 1, 2, 50])

    assert (np.diff(found[:-1]) < 0).all()
    assert found[-1] == 1e-12


def test_no_privacy_is_the_curve_one() -> None:
    assert privacy_curve(NonPrivateDpEvent(), [0.0, 1e9]).tolist() == [1, 1]


@pytest.mark.parametrize("asked", [-0.1, math.nan])
def test_an_epsilon_out_of_range_is_refused(asked: float) -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        privacy_curve(GaussianDpEvent(1.0), [asked])


# -- Groups ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", [GaussianDpEvent(2.0), training(0.05, 2.0, 20)])
def test_a_group_of_one_is_a_patient(event: DpEvent) -> None:
    assert group_epsilon(event, DELTA, size=1) == pytest.approx(epsilon(event, DELTA), rel=1e-4)


@pytest.mark.parametrize("size", [2, 5])
def test_a_group_in_a_sum_of_everybody_moves_it_size_times_as_far(size: int) -> None:
    price = group_epsilon(GaussianDpEvent(6.0), DELTA, size=size)

    assert gaussian_delta(6.0 / size, price) == pytest.approx(DELTA, rel=1e-2)


@pytest.mark.parametrize(("q", "z", "size"), [(0.3, 2.0, 3), (0.01, 1.5, 8)])
def test_a_group_in_one_sample_has_the_price_of_the_integral(q: float, z: float, size: int) -> None:
    price = group_epsilon(training(q, z, 1), 1e-4, size=size)

    assert divergence(*mixture(q, z, size), price) <= 1e-4
    assert divergence(*mixture(q, z, size), price * 0.998) >= 1e-4


def test_the_theorem_on_groups_is_within_the_bound_that_needs_none() -> None:
    event = training(0.1, 2.0, 30)

    bound, delta = group_bound(epsilon(event, 1e-8), 1e-8, size=3)

    assert group_epsilon(event, delta, size=3) <= bound


def test_different_steps_are_priced_together() -> None:
    parts = ComposedDpEvent([GaussianDpEvent(6.0), training(1.0, 16.0, 4)])  # 1/36 + 4/256

    price = group_epsilon(parts, DELTA, size=3)

    assert gaussian_delta(4.8 / 3, price) == pytest.approx(DELTA, rel=1e-2)


@given(st.floats(0, 5), st.integers(1, 6))
def test_the_bound_is_within_the_textbook_form(eps: float, size: int) -> None:
    total, delta = group_bound(eps, 1e-12, size=size)

    assert total == size * eps
    assert 1e-12 <= delta <= size * math.exp((size - 1) * eps) * 1e-12 * (1 + 1e-12)


def test_the_bound_of_very_much_is_no_bound_and_no_overflow() -> None:
    assert group_bound(900.0, 1e-5, size=3) == (2700.0, 1.0)


def test_a_mechanism_without_a_theorem_on_groups_is_refused() -> None:
    with pytest.raises(UnsupportedEvent, match="use group_bound"):
        group_epsilon(LaplaceDpEvent(1.0), DELTA, size=2)


@pytest.mark.parametrize("size", [0, 1001])
def test_a_group_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="size"):
        group_epsilon(GaussianDpEvent(1.0), DELTA, size=size)


# -- Replacement ----------------------------------------------------------------------


def test_replacing_in_a_sum_of_everybody_moves_it_twice_as_far() -> None:
    price = replacement_epsilon(GaussianDpEvent(4.0), DELTA)

    assert gaussian_delta(2.0, price) == pytest.approx(DELTA, rel=1e-2)


def test_replacing_costs_more_than_removing_and_less_than_a_group_of_two_walks() -> None:
    event = training(0.1, 2.0, 30)
    bound, delta = group_bound(epsilon(event, 1e-7), 1e-7, size=2)

    price = replacement_epsilon(event, delta)

    assert epsilon(event, delta) < price <= bound


@pytest.mark.parametrize(("q", "z"), [(0.1, 1.0), (0.5, 0.7)])
def test_no_two_patients_are_worse_than_opposite_ones(q: float, z: float) -> None:
    price = replacement_epsilon(training(q, z, 1), 1e-3)
    first = plane(q, z, (1, 0))
    others = [(r * math.cos(t), r * math.sin(t)) for r in (0.3, 0.7, 1) for t in (1.5, 2.5, 3.1)]

    worst = divergence(first, plane(q, z, (-1, 0)), price)

    assert worst == pytest.approx(1e-3, rel=2e-2)
    assert all(divergence(first, plane(q, z, other), price) < worst * 1.005 for other in others)


def test_no_privacy_has_no_price_for_a_replaced_patient() -> None:
    assert replacement_epsilon(GaussianDpEvent(1e-9), DELTA) == math.inf


@pytest.mark.parametrize(
    "event", [LaplaceDpEvent(1.0), PoissonSampledDpEvent(0.1, LaplaceDpEvent(1.0))]
)
def test_a_mechanism_without_a_theorem_on_replacement_is_refused(event: DpEvent) -> None:
    with pytest.raises(UnsupportedEvent, match="no theorem"):
        replacement_epsilon(event, DELTA)


# -- What is left, and what it means --------------------------------------------------


def a_plan() -> Plan:
    return Plan(
        sampling_probability=0.1,
        patients=1000,
        l2_clip_norm=1.0,
        noise_multiplier=2.0,
        steps=60,
        delta=1e-4,
        dimension=10,
        shares=alone(1),
    )


def test_the_steps_that_are_left_fit_and_one_more_does_not() -> None:
    left = steps_left(a_plan(), charged=7, budget_epsilon=1.5)

    assert a_plan().epsilon(7 + left, View.PARTICIPANT) <= 1.5
    assert a_plan().epsilon(7 + left + 1, View.PARTICIPANT) > 1.5


@pytest.mark.parametrize(("charged", "budget", "left"), [(60, 99.0, 0), (90, 99.0, 0), (0, 0.1, 0)])
def test_nothing_is_left_of_what_is_spent(charged: int, budget: float, left: int) -> None:
    assert steps_left(a_plan(), charged=charged, budget_epsilon=budget) == left


def test_a_negative_charge_is_refused() -> None:
    with pytest.raises(ValueError, match="charged"):
        steps_left(a_plan(), charged=-1, budget_epsilon=1)


@pytest.mark.parametrize(
    ("eps", "words"),
    [
        (0.0, "51 of 100 cases (a coin: 50)"),
        (0.0, "at most 1.0 times"),
        (3.0, "96 of 100 cases"),
        (3.0, "at most 20.1 times"),
        (8.9, "at most 7,332 times"),
        (50.0, "at most 10^22 times"),
        (50.0, "100 of 100"),
        (3.0, "plus a chance of 1 in 100,000."),
        (math.inf, "There is no bound"),
        (math.nan, "There is no bound"),
    ],
)
def test_words_say_what_the_numbers_say(eps: float, words: str) -> None:
    assert words in in_words(eps, DELTA)


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(readings).failed == 0
