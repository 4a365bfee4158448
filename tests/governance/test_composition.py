# SPDX-License-Identifier: Apache-2.0
import math

import pytest
from dp_accounting import TruncatedSubsampledGaussianDpEvent
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st

from consilium.dp.accounting import epsilon
from consilium.errors import ConfigError, DataError, UnsupportedEvent
from consilium.governance.composition import (
    ORDERS,
    UNBOUNDED,
    UNIT,
    Cap,
    Step,
    added,
    best_guess,
    curve_of,
    epsilon_of,
    fixed_epsilon,
)
from consilium.governance.events import decode_event, encode_event

DP_SGD = PoissonSampledDpEvent(0.01, GaussianDpEvent(1.0))
EVENTS = [
    DP_SGD,
    GaussianDpEvent(3.0),
    LaplaceDpEvent(20.0),
    ZCDpEvent(0.01, 0.001),
    ComposedDpEvent([GaussianDpEvent(5.0), LaplaceDpEvent(9.0)]),
    SelfComposedDpEvent(DP_SGD, 7),
]
CAPS = [0.1, 0.5, 1.0, 2.0, 8.0, 20.0]


def _step(event: DpEvent, slack: float = 0.0) -> Step:
    return Step(event=encode_event(event), slack=slack)


# -- Events ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_event_comes_back_as_it_was(event: DpEvent) -> None:
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"type":"gaussian","noise_multiplier":1}',  # a second spelling of 1.0
        b'{"type": "gaussian","noise_multiplier":1.0}',
        b'{"noise_multiplier":1.0,"type":"gaussian"}',
        b'{"type":"gaussian","noise_multiplier":1.0,"more":1}',
        b'{"type":"gaussian","noise_multiplier":-1.0}',
        b'{"type":"gaussian","noise_multiplier":0.0}',
        b'{"type":"gaussian","noise_multiplier":1e999}',
        b'{"type":"unknown","noise_multiplier":1.0}',
        b'{"type":"together","events":[]}',
        b'{"type":"repeated","event":{"type":"laplace","noise_multiplier":1.0},"count":0}',
        b'{"type":"gaussian","noise_multiplier":1.0}x',
        b" " * 70_000,
    ],
)
def test_what_is_no_canonical_event_is_refused(data: bytes) -> None:
    with pytest.raises(DataError):
        decode_event(data)


def test_an_event_of_unknown_kind_is_refused() -> None:
    event = TruncatedSubsampledGaussianDpEvent(10, 0.1, 5, 1.0)

    with pytest.raises(UnsupportedEvent, match="does not keep"):
        encode_event(event)


def test_events_that_are_too_deep_are_refused() -> None:
    event: DpEvent = GaussianDpEvent(1.0)
    for _ in range(9):
        event = SelfComposedDpEvent(event, 2)

    with pytest.raises(DataError, match="deep"):
        encode_event(event)


# -- Prices ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_a_curve_is_the_divergences_rounded_up(event: DpEvent) -> None:
    expected = RdpAccountant(list(ORDERS)).compose(event).rdp

    found = [units * UNIT for units in curve_of(_step(event))]

    assert all(0 <= a - b < 1e-11 + 1e-11 * b for a, b in zip(found, expected, strict=True))


def test_slack_adds_what_pointwise_closeness_can() -> None:
    plain, slack = curve_of(_step(DP_SGD)), curve_of(_step(DP_SGD, 1e-3))

    for order, a, b in zip(ORDERS, plain, slack, strict=True):
        assert (b - a) * UNIT == pytest.approx(1e-3 * (2 * order - 1) / (order - 1), rel=1e-6)


def test_next_to_no_noise_has_no_finite_price() -> None:
    assert set(curve_of(_step(GaussianDpEvent(1e-9)))) == {UNBOUNDED}
    assert epsilon_of(curve_of(_step(GaussianDpEvent(1e-9))), 1e-6) == math.inf


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 1000)), max_size=5))
def test_sums_do_not_depend_on_the_order(lines: list[tuple[DpEvent, int]]) -> None:
    curves = [(curve_of(_step(event)), times) for event, times in lines]

    assert added(curves) == added(reversed(curves))


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("times", [1, 50])
def test_epsilon_is_never_below_the_accountant(event: DpEvent, times: int) -> None:
    many = SelfComposedDpEvent(event, times)
    composed = added([(curve_of(_step(event)), times)])

    assert epsilon_of(composed, 1e-6) >= epsilon(many, 1e-6, "rdp")


def test_a_contract_is_priced_tightly_and_its_slack_added() -> None:
    exact = fixed_epsilon([(_step(DP_SGD), 1000)], 1e-6)
    slack = fixed_epsilon([(_step(DP_SGD, 1e-6), 1000)], 1e-6)

    assert exact == epsilon(SelfComposedDpEvent(DP_SGD, 1000), 1e-6, "pld")
    assert exact < epsilon_of(added([(curve_of(_step(DP_SGD)), 1000)]), 1e-6)
    assert slack == pytest.approx(exact + 2e-3, abs=1e-3)
    assert slack >= exact + 2e-3


def test_what_has_no_loss_distribution_is_summed() -> None:
    step = _step(ZCDpEvent(0.01))

    assert fixed_epsilon([(step, 3)], 1e-6) == epsilon_of(added([(curve_of(step), 3)]), 1e-6)


def test_nothing_costs_nothing() -> None:
    assert (fixed_epsilon([], 1e-6), epsilon_of(added([]), 1e-6)) == (0.0, 0.0)


# -- Caps -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", CAPS)
def test_units_that_fit_convert_to_no_more_than_the_cap(value: float) -> None:
    cap = Cap(epsilon=value, delta=1e-6)

    for place, order in enumerate(ORDERS):
        units = cap.units(place)
        shift = math.log1p(-1 / order) - math.log(1e-6 * order) / (order - 1)
        assert units == 0 or units * UNIT + shift <= value


@pytest.mark.parametrize("value", CAPS)
def test_the_order_is_the_one_of_most_gaussian_noise(value: float) -> None:
    cap = Cap(epsilon=value, delta=1e-6)

    best = max(cap.units(place) / order for place, order in enumerate(ORDERS))

    assert cap.units(cap.place()) / ORDERS[cap.place()] == best


def test_a_full_account_is_within_its_cap_by_a_tight_accountant() -> None:
    cap, step = Cap(epsilon=8.0, delta=1e-6), _step(DP_SGD)
    steps = cap.units(cap.place()) // curve_of(step)[cap.place()]

    assert 0.9 * 8 < fixed_epsilon([(step, steps)], 1e-6) <= 8


@pytest.mark.parametrize(
    ("value", "delta"), [(0, 1e-6), (-1, 1e-6), (51, 1e-6), (math.nan, 1e-6), (1, 0), (1, 1)]
)
def test_a_cap_out_of_range_is_refused(value: float, delta: float) -> None:
    with pytest.raises(ConfigError, match="a cap of"):
        Cap(epsilon=value, delta=delta)


@pytest.mark.parametrize(("value", "guess"), [(0, 0.5), (0.5, 0.6225), (1.9, 0.8699), (3, 0.9526)])
def test_epsilon_in_words(value: float, guess: float) -> None:
    assert best_guess(value, 0.0) == pytest.approx(guess, abs=1e-4)
    assert best_guess(1e6, 0.0) == 1.0
