# SPDX-License-Identifier: Apache-2.0
"""Tests of the plan: what it refuses, the lattice's room, the price, and what attackers gain."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from dp_accounting import (
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
    TruncatedSubsampledGaussianDpEvent,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from consilium.dp.accounting import Accountant
from consilium.dp.clip_kinds import FLAT, Automatic, Clipping, PerLayer, Quantile
from consilium.dp.noise import LEAST_SIGMA, Ring
from consilium.dp.plan import (
    Lattice,
    NoiseShares,
    Plan,
    View,
    alone,
    calibrated_noise,
    membership_advantage,
)
from consilium.dp.readings import group_epsilon
from consilium.dp.truncated import overflow
from consilium.errors import ConfigError, PrivacyError, UnsupportedEvent
from consilium.keystream import Keystream

TEN = NoiseShares(members=10, least=9, colluders=1)
GOOD: Mapping[str, Any] = {
    "sampling_probability": 0.2,
    "patients": 2588,
    "l2_clip_norm": 1.0,
    "noise_multiplier": 2.375,
    "steps": 60,
    "delta": 1e-4,
    "dimension": 1089,
    "shares": TEN,
    "accountant": "rdp",
}


def plan(**changes: Any) -> Plan:  # noqa: ANN401 - also what a plan must refuse
    return Plan(**{**GOOD, **changes})


built = cache(plan)  # many lattices of a few plans, as a plan prices itself


@st.composite
def shares(draw: st.DrawFn) -> NoiseShares:
    members = draw(st.integers(1, 60))
    least = draw(st.integers(1, members))
    return NoiseShares(members=members, least=least, colluders=draw(st.integers(0, least - 1)))


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["patients", "noise_multiplier", "l2_clip_norm", "steps", "dimension"]
)
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf])
def test_a_number_that_is_not_positive_and_finite_is_refused(name: str, value: float) -> None:
    with pytest.raises(PrivacyError, match=f"{name} is"):
        plan(**{name: value})


@pytest.mark.parametrize("noise", [1e-300, 1e-12, 1e-6, 1e-3])
def test_noise_that_is_next_to_none_is_refused(noise: float) -> None:
    with pytest.raises(PrivacyError, match="lattice units, expected"):
        plan(noise_multiplier=noise)


@pytest.mark.parametrize("noise", [0.02, 0.05])
@pytest.mark.parametrize("accountant", ["pld", "rdp"])
def test_a_step_that_costs_more_than_epsilon_100_is_refused(noise: float, accountant: str) -> None:
    with pytest.raises(PrivacyError, match="one step costs epsilon"):
        plan(noise_multiplier=noise, bits=24, accountant=accountant)


@pytest.mark.parametrize("clip", [100.1, 1e6])
def test_a_clip_norm_that_clips_nothing_is_refused(clip: float) -> None:
    with pytest.raises(PrivacyError, match="nothing would be clipped"):
        plan(l2_clip_norm=clip)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1 / 2588, 1e-3, 1.0, math.nan])
def test_a_delta_that_allows_publishing_a_patient_is_refused(delta: float) -> None:
    with pytest.raises(PrivacyError, match="delta is"):
        plan(delta=delta)


@pytest.mark.parametrize("probability", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_a_sampling_probability_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(ConfigError, match="sampling probability"):
        plan(sampling_probability=probability)


@pytest.mark.parametrize("bits", [0, 11, 33, 64])
def test_a_ring_that_is_too_narrow_or_too_wide_is_refused(bits: int) -> None:
    with pytest.raises(ConfigError, match="bits is"):
        plan(bits=bits)


def test_a_lattice_too_coarse_for_the_lemma_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"is 1.\d\d lattice units, expected >= 2.5"):
        plan(bits=12)


@pytest.mark.parametrize(("members", "least", "colluders"), [(3, 0, 0), (3, 4, 1), (3, 2, 2)])
def test_shares_without_an_honest_site_are_refused(
    members: int, least: int, colluders: int
) -> None:
    with pytest.raises(ConfigError, match="colluders < least <= members"):
        NoiseShares(members=members, least=least, colluders=colluders)


# -- Samples of one shape -------------------------------------------------------------

ALONE: Mapping[str, Any] = {"shares": alone(1), "bits": 32}


def test_a_plan_that_cuts_samples_prices_the_cut() -> None:
    whole, cut = plan(**ALONE), plan(**ALONE, most_drawn=620)

    cost = 60 * overflow(2588, 0.2, 620)
    assert 0 < cost < 0.5e-4
    assert cut.priced_delta == pytest.approx(1e-4 - cost)
    for view in View:
        assert cut.epsilon(60, view) > whole.epsilon(60, view)
        assert cut.epsilon(60, view) == plan(**ALONE, delta=cut.priced_delta).epsilon(60, view)


def test_the_steps_that_fit_are_those_of_the_delta_that_is_left() -> None:
    cut = plan(**ALONE, most_drawn=620)

    fitting = cut.steps_within(1.0)

    assert cut.epsilon(fitting, View.PARTICIPANT) <= 1.0 < cut.epsilon(fitting + 1, View.OUTSIDER)


def test_a_plan_that_ignores_the_cut_cannot_be_built() -> None:
    with pytest.raises(PrivacyError, match="60 steps of samples cut at 540 cost delta"):
        plan(**ALONE, most_drawn=540)


def test_cut_samples_have_an_event_that_says_so() -> None:
    event = plan(**ALONE, most_drawn=620).event(60, View.PARTICIPANT)

    step = TruncatedSubsampledGaussianDpEvent(2589, 0.2, 620, 2.375)
    assert event == SelfComposedDpEvent(step, 60)
    with pytest.raises(UnsupportedEvent):
        group_epsilon(event, 1e-4, size=2)


def test_several_sites_draw_whole_samples_and_clip_flat() -> None:
    with pytest.raises(ConfigError, match="only a party alone"):
        plan(most_drawn=2588)
    with pytest.raises(ConfigError, match="only a party alone"):
        plan(clipping=Automatic())


def test_a_quantile_without_room_for_its_coordinate_is_refused() -> None:
    with pytest.raises(ConfigError, match="dimension is 1"):
        plan(**ALONE, clipping=Quantile(), dimension=1)


@pytest.mark.parametrize("clipping", [FLAT, PerLayer(), Automatic(), Quantile()])
def test_every_kind_of_clipping_has_the_price_of_the_same_noise(clipping: Clipping) -> None:
    own = plan(**ALONE, clipping=clipping)

    assert own.event(60, View.PARTICIPANT) == plan().event(60, View.PARTICIPANT)
    assert own.epsilon(60, View.PARTICIPANT) == plan().epsilon(60, View.PARTICIPANT)


@pytest.mark.parametrize("most", [None, 620, 2589])
def test_a_plan_of_shuffled_batches_cannot_be_built(most: int | None) -> None:
    event = plan(**ALONE, most_drawn=most).event(1, View.PARTICIPANT)

    named = {field.name for field in fields(Plan)}
    assert not [name for name in named if "shuffl" in name or "batch" in name]
    kinds = (PoissonSampledDpEvent, TruncatedSubsampledGaussianDpEvent)
    assert isinstance(event, SelfComposedDpEvent)
    assert isinstance(event.event, kinds)


# -- The lattice ----------------------------------------------------------------------


@settings(deadline=None)
@given(
    shares=shares(),
    bits=st.sampled_from([16, 17, 23, 24, 28, 32]),
    clip=st.sampled_from([0.01, 1.0, 100.0]),
)
def test_the_widest_sum_and_8_deviations_of_noise_stay_inside_the_ring(
    shares: NoiseShares, bits: int, clip: float
) -> None:
    lattice = built(bits=bits, l2_clip_norm=clip).lattice(shares)

    one = np.float32(lattice.clamp) * np.float32(lattice.scale)
    sums = shares.members * (float(one) + 0.5)
    assert sums + 8 * lattice.sigma * math.sqrt(shares.members) < 2 ** (bits - 1)


@pytest.mark.parametrize("bits", [14, 16, 20, 24, 32])
@pytest.mark.parametrize("sign", [-1, 1])
def test_sums_that_are_as_large_as_they_can_be_do_not_wrap(bits: int, sign: int) -> None:
    lattice = plan(bits=bits).lattice(TEN)
    worst = np.full(3, sign * 1e30, np.float32)

    total = sum_of([lattice.encode(worst, stream(k)) for k in range(10)], lattice)

    noise = 8 * lattice.sigma * math.sqrt(10) / lattice.scale
    assert np.abs(lattice.decode(total) - sign * 10 * lattice.clamp).max() < noise


@pytest.mark.parametrize("bits", [14, 16, 17, 24, 32])
def test_decoding_undoes_encoding_but_for_the_noise(bits: int) -> None:
    lattice = plan(bits=bits).lattice(TEN)
    values = np.linspace(-lattice.clamp, lattice.clamp, 101, dtype=np.float32)

    noise_alone = lattice.decode(lattice.encode(np.zeros(101, np.float32), stream()))

    found = lattice.decode(lattice.encode(values, stream()))
    assert np.abs(found - noise_alone - values).max() <= 1.001 / lattice.scale


def test_decoding_reads_signed_numbers_of_any_width() -> None:
    lattice = Lattice(scale=1.0, sigma=3.0, clamp=9.0, bits=12)

    found = lattice.decode(np.array([0, 1, 2047, 2048, 4095, 4096, 65535], np.uint16))

    assert found.tolist() == [0, 1, 2047, -2048, -1, 0, -1]
    assert found.dtype == np.float32


@settings(deadline=None)
@given(shares())
def test_honest_noise_of_the_smallest_sum_is_the_planned_noise(shares: NoiseShares) -> None:
    lattice = built().lattice(shares)

    deviation = lattice.sigma * math.sqrt(shares.honest) / lattice.scale

    assert deviation == pytest.approx(2.375 * 1.0)


@settings(deadline=None)
@given(st.integers(3, 40), st.integers(0, 5), st.data())
def test_a_smaller_round_has_no_coarser_lattice(n: int, drops: int, data: st.DataObject) -> None:
    threshold = max((n + 1) // 2 + 1, 3)
    members = data.draw(st.integers(threshold, n))

    def sigma(count: int) -> float:
        least = max(threshold, count - min(drops, n - threshold))
        return built().lattice(NoiseShares(members=count, least=least, colluders=1)).sigma

    assert sigma(members) >= sigma(n) * (1 - 1e-12)


@pytest.mark.parametrize("bits", range(12, 33))
def test_noise_of_every_width_is_within_what_the_sampler_takes(bits: int) -> None:
    own = plan(bits=bits, patients=50, delta=1e-3)

    assert LEAST_SIGMA <= own.lattice(TEN).sigma <= 2**22


def stream(key: int = 1) -> Keystream:
    return Keystream(key.to_bytes(32, "big"))


def sum_of(parts: list[Ring], lattice: Lattice) -> Ring:
    total: Ring = np.stack(parts).sum(axis=0, dtype=lattice.word)
    return total


# -- The price ------------------------------------------------------------------------


def test_the_normaliser_is_a_public_constant() -> None:
    assert plan().normaliser == pytest.approx(517.6)


@pytest.mark.parametrize("accountant", ["pld", "rdp"])
@pytest.mark.parametrize("view", View)
def test_epsilon_never_falls_with_steps(accountant: str, view: View) -> None:
    own = plan(accountant=accountant)

    prices = [own.epsilon(steps, view) for steps in (0, 1, 2, 30, 60)]

    assert prices[0] == 0
    assert prices == sorted(prices)


@pytest.mark.parametrize("colluders", [0, 1, 4])
def test_an_outsider_never_learns_more_than_a_participant(colluders: int) -> None:
    own = built(shares=replace(TEN, colluders=colluders))

    assert own.epsilon(60, View.OUTSIDER) <= own.epsilon(60, View.PARTICIPANT)


def test_an_outsider_meets_the_noise_of_every_site_in_the_smallest_sum() -> None:
    assert plan().noise_seen(View.OUTSIDER) == pytest.approx(2.375 * math.sqrt(9 / 8))


def test_the_participant_meets_the_stated_noise() -> None:
    assert plan().noise_seen(View.PARTICIPANT) == 2.375


def test_sites_that_trust_nobody_have_one_price() -> None:
    own = plan(shares=alone(10))

    assert own.epsilon(60, View.OUTSIDER) == own.epsilon(60, View.PARTICIPANT)
    assert own.slack(60) == 0


def test_the_price_of_rounding_is_in_epsilon_and_next_to_nothing() -> None:
    coarse = plan(bits=13, dimension=31_000_000)

    assert 0 < coarse.slack(60) < 1e-12


@pytest.mark.parametrize(("budget", "accountant"), [(0.3, "rdp"), (2.0, "rdp"), (1.0, "pld")])
def test_the_steps_that_fit_a_budget_are_the_most_that_do(budget: float, accountant: str) -> None:
    own = plan(accountant=accountant)

    fitting = own.steps_within(budget)

    assert own.epsilon(fitting, View.PARTICIPANT) <= budget
    assert own.epsilon(fitting + 1, View.PARTICIPANT) > budget


def test_no_step_fits_a_budget_of_nothing() -> None:
    assert plan().steps_within(1e-6) == 0


def test_never_more_steps_fit_than_were_planned() -> None:
    assert plan().steps_within(50.0) == 60


@pytest.mark.parametrize(("target", "accountant"), [(0.5, "rdp"), (2.59, "pld")])
def test_calibrated_noise_keeps_the_whole_plan_within_the_target(
    target: float, accountant: Accountant
) -> None:
    noise = calibrated_noise(
        target_epsilon=target,
        delta=1e-4,
        sampling_probability=0.2,
        steps=60,
        accountant=accountant,
    )

    own = plan(noise_multiplier=noise, accountant=accountant)

    assert 0.99 * target < own.epsilon(60, View.PARTICIPANT) <= target
    assert own.steps_within(target) == 60


@pytest.mark.parametrize(
    ("probability", "noise", "steps", "delta", "epsilon"),
    [
        (0.2, 2.375, 60, 1e-4, 2.5872),  # pneumonia
        (0.05, 1.314, 200, 1e-5, 2.8973),  # mnist
        (0.2, 1.533, 150, 1e-4, 7.9735),  # retina
    ],
)
def test_recipes_cost_what_was_measured(
    probability: float, noise: float, steps: int, delta: float, epsilon: float
) -> None:
    own = plan(
        sampling_probability=probability,
        noise_multiplier=noise,
        steps=steps,
        delta=delta,
        accountant="pld",
    )

    assert own.epsilon(steps, View.PARTICIPANT) == pytest.approx(epsilon, abs=2e-3)


# -- Attackers ------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0, 20.0])
def test_no_test_on_a_gaussian_beats_the_bound(noise: float, delta: float) -> None:
    best = max(stats.norm.sf(t, 0) - stats.norm.sf(t, 1 / noise) for t in np.linspace(-9, 9, 999))
    worst = max(stats.norm.sf(t, 1 / noise) - stats.norm.sf(t, 0) for t in np.linspace(-9, 9, 999))

    bound = membership_advantage(exact_epsilon(noise, delta), delta)

    assert max(best, worst) <= bound <= 1


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_the_bound_is_the_total_variation_where_epsilon_is_zero(noise: float) -> None:
    total_variation = 2 * stats.norm.cdf(1 / noise / 2) - 1

    assert membership_advantage(0.0, total_variation) == pytest.approx(total_variation)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 5.0])
def test_randomised_response_attains_the_bound(epsilon: float) -> None:
    truth = math.exp(epsilon) / (1 + math.exp(epsilon))

    assert membership_advantage(epsilon, 0.0) == pytest.approx(truth - (1 - truth))


@pytest.mark.parametrize("epsilon", [700.0, 701.0, 1e308, math.inf])
def test_no_privacy_gives_the_attacker_everything(epsilon: float) -> None:
    assert membership_advantage(epsilon, 1e-5) == pytest.approx(1.0)


def exact_epsilon(noise: float, delta: float) -> float:
    """Returns epsilon of one Gaussian release, exactly. Source: Balle and Wang 2018, theorem 8."""

    def excess(epsilon: float) -> float:
        a, b = 1 / (2 * noise), epsilon * noise
        found: float = stats.norm.cdf(a - b) - math.exp(epsilon) * stats.norm.cdf(-a - b) - delta
        return found

    return 0.0 if excess(0) <= 0 else float(optimize.brentq(excess, 0, 200))
