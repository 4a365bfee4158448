# SPDX-License-Identifier: Apache-2.0
"""Tests of the sentences about budgets: nothing is understated, nothing that remains overstated."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import mpmath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.web.pages import words
from consilium.web.pages.words import Odds, odds

epsilons = st.floats(0, 60)
deltas = st.floats(0, 0.01)


@pytest.mark.parametrize(
    ("epsilon", "right", "of"),
    [(0.5, 63, 100), (1.0, 74, 100), (1.9, 87, 100), (3.0, 96, 100), (8.0, 9997, 10_000)],
)
def test_odds_are_those_of_the_bound_rounded_up(epsilon: float, right: int, of: int) -> None:
    assert odds(epsilon, 1e-6) == Odds(right, of)


@given(epsilons, deltas)
def test_odds_are_never_below_the_exact_bound(epsilon: float, delta: float) -> None:
    with mpmath.workdps(60):
        exact = (mpmath.e**epsilon + delta) / (1 + mpmath.e**epsilon)

        shown = odds(epsilon, delta)

        assert mpmath.mpf(shown.right) / shown.of >= exact or shown == Odds(100, 100)


@given(epsilons, deltas)
def test_odds_are_at_most_one_step_above_the_bound(epsilon: float, delta: float) -> None:
    shown = odds(epsilon, delta)

    assert shown.right / shown.of <= words.guessing_bound(epsilon, delta) + 1 / shown.of


def test_an_unbounded_epsilon_is_certainty() -> None:
    assert odds(math.inf, 0.0) == Odds(100, 100)
    assert "says nothing" in words.meaning(math.inf, 0.0, "patient")


@pytest.mark.parametrize(("epsilon", "delta"), [(-0.1, 0.0), (math.nan, 0.0), (1.0, 1.1)])
def test_what_is_no_guarantee_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        words.guessing_bound(epsilon, delta)


def test_the_sentence_names_number_unit_and_the_coin() -> None:
    sentence = words.meaning(1.9, 1e-6, "patient")

    assert "one patient" in sentence
    assert "at most 87 times in 100" in sentence
    assert "50 times in 100" in sentence


def test_before_any_release_the_guess_is_a_coin() -> None:
    assert "as a coin is" in words.meaning(0.0, 1e-6, "patient")


@given(st.floats(0, 1000))
def test_what_remains_is_never_overstated(value: float) -> None:
    assert Decimal(words.remaining(value)) <= Decimal(repr(value))


@given(st.floats(0, 10), st.floats(0.1, 10))
def test_a_share_is_never_understated(part: float, whole: float) -> None:
    shown = words.percent_of(part, whole)

    assert shown == 100 or shown >= Fraction(part) / Fraction(whole) * 100 - Fraction(1, 10**9)


@pytest.mark.parametrize(
    ("free", "said"), [(8.0, "high"), (5.0, "medium"), (1.0, "low"), (0.0, "low")]
)
def test_who_has_no_grant_sees_a_level(free: float, said: str) -> None:
    assert words.level(free, 8.0) == said


def test_a_dataset_without_a_cap_has_nothing_free() -> None:
    assert words.level(0.0, 0.0) == "low"


def test_the_forecast_follows_the_rate() -> None:
    months = ((date(2026, 1, 1), 0.0), (date(2026, 3, 1), 2.0))

    assert words.forecast(months, 8.0) == date(2026, 9, 1)


@pytest.mark.parametrize(
    "months",
    [(), ((date(2026, 1, 1), 1.0),), ((date(2026, 1, 1), 1.0), (date(2026, 2, 1), 1.0))],
)
def test_without_a_rate_there_is_no_forecast(months: tuple[tuple[date, float], ...]) -> None:
    assert words.forecast(months, 8.0) is None
    assert "Too little" in words.forecast_sentence(months, 8.0)


def test_a_forecast_says_that_it_is_a_guess() -> None:
    months = ((date(2026, 1, 1), 0.0), (date(2026, 3, 1), 2.0))

    assert "September 2026" in words.forecast_sentence(months, 8.0)
    assert "guess" in words.forecast_sentence(months, 8.0)


@pytest.mark.parametrize(
    ("minutes", "said"), [(0, "just now"), (12, "12 min"), (120, "2 h"), (60 * 72, "3 days")]
)
def test_how_long_something_waits(minutes: int, said: str) -> None:
    now = datetime(2026, 11, 20, tzinfo=UTC)

    assert words.since(now - timedelta(minutes=minutes), now) == said


@pytest.mark.parametrize(("days", "said"), [(12, "in 12 days"), (0, "today"), (-1, "ended")])
def test_when_something_ends(days: int, said: str) -> None:
    today = date(2026, 11, 20)

    assert words.expires(today + timedelta(days=days), today) == said
