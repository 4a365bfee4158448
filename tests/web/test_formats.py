# SPDX-License-Identifier: Apache-2.0
"""Tests of how numbers are written: guarantees never rounded down, nothing undefined a number."""

import doctest
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.web import formats
from consilium.web.summary import Spread

# -- Guarantees -----------------------------------------------------------------------


@given(st.floats(min_value=0, max_value=1e6))
def test_epsilon_is_never_rounded_down(epsilon: float) -> None:
    assert float(formats.epsilon(epsilon)) >= epsilon


@given(st.floats(min_value=0.1, max_value=1e6))
def test_epsilon_is_overstated_by_less_than_a_hundredth(epsilon: float) -> None:
    assert Decimal(formats.epsilon(epsilon)) - Decimal(repr(epsilon)) < Decimal("0.01")


@given(st.floats(min_value=1e-12, max_value=1))
def test_delta_is_never_rounded_down_and_has_no_exponent(delta: float) -> None:
    written = formats.delta(delta)

    assert "e" not in written.lower()
    assert float(written) >= delta


@given(st.floats(min_value=0, max_value=1))
def test_the_attacker_is_never_said_to_be_weaker(advantage: float) -> None:
    percent = Decimal(formats.right_guesses(advantage).removesuffix("%").strip())

    assert percent >= (1 + Decimal(repr(advantage))) * 50


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (2.3977, "2.40"),
        (2.59, "2.59"),
        (1.1, "1.10"),
        (2.5901, "2.60"),
        (0.0999, "0.0999"),
        (0.0, "0.00"),
        (math.inf, "unbounded"),
        (None, "no guarantee"),
    ],
)
def test_epsilon_by_hand(value: float | None, written: str) -> None:
    assert formats.epsilon(value) == written


def test_delta_without_a_guarantee_is_no_number() -> None:
    assert formats.delta(None) == "no guarantee"


@pytest.mark.parametrize(("value", "written"), [(0.0, "below 0.000000001"), (3.21e-7, "3.2e-07")])
def test_the_price_of_rounding(value: float, written: str) -> None:
    assert formats.slack(value) == written


# -- Quality --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.9374, ".937"), (1.0, "1.000"), (0.0, ".000"), (-0.25, "\N{MINUS SIGN}.250")],
)
def test_shares_have_three_decimals_and_no_leading_zero(value: float, written: str) -> None:
    assert formats.share(value) == written


def test_minus_nothing_has_no_sign() -> None:
    assert formats.share(-0.0001) == ".000"


def test_what_is_undefined_says_so() -> None:
    found = (formats.share(None), formats.spread(None), formats.interval(None))

    assert found == ("undefined",) * 3
    assert formats.of_hundred(None) == "undefined"


def test_a_spread_shows_its_deviation_only_if_there_is_one() -> None:
    assert formats.spread(Spread(mean=0.9374, sd=None)) == ".937"
    assert formats.spread(Spread(mean=0.9374, sd=0.0042)) == ".937 \N{PLUS-MINUS SIGN} .004"


def test_an_interval_names_both_ends() -> None:
    assert formats.interval((0.9161, 0.9552)) == ".916 to .955"


def test_almost_all_is_not_all() -> None:
    assert formats.of_hundred(0.9999) == "99 of 100"
    assert formats.of_hundred(1.0) == "100 of 100"


# -- Counts, bytes, time --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (7204, "7.2 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (9_638_470, "9.6 MB"),
        (5 * 10**12, "5,000.0 GB"),
    ],
)
def test_bytes(value: int, written: str) -> None:
    assert formats.byte_count(value).replace("\N{NO-BREAK SPACE}", " ") == written


@pytest.mark.parametrize(
    ("measured", "predicted", "written"),
    [
        (7204, 7204, "equal"),
        (7205, 7204, "+1 byte"),
        (7000, 7204, "\N{MINUS SIGN}204 bytes"),
        (7204, None, "not predicted: a site dropped"),
    ],
)
def test_differences(measured: int, predicted: int | None, written: str) -> None:
    assert formats.difference(measured, predicted) == written


@pytest.mark.parametrize(
    ("seconds", "written"), [(10.53, "10.5 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s")]
)
def test_durations(seconds: float, written: str) -> None:
    assert formats.duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == written


def test_hours_have_minutes_of_two_digits() -> None:
    assert formats.duration(3900) == "1 h 05 min"


def test_small_counts_are_words() -> None:
    found = [formats.words(number, "site") for number in (1, 10, 13)]

    assert found == ["one site", "ten sites", "13 sites"]


def test_rounds_show_a_deviation_only_where_seeds_differ() -> None:
    assert formats.rounds(Spread(mean=60, sd=0.0)) == "60"
    assert formats.rounds(Spread(mean=57.4, sd=2.06)) == "57.4 \N{PLUS-MINUS SIGN} 2.1"


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(formats).failed == 0
