# SPDX-License-Identifier: Apache-2.0
"""Tests of accounting: published figures, closed forms, integrals, and the inverses."""

import logging
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SampledWithoutReplacementDpEvent,
    SelfComposedDpEvent,
    ZCDpEvent,
)
from dp_accounting.rdp import RdpAccountant
from scipy import optimize, special, stats

from consilium.dp.accounting import Accountant, calibrate, epsilon, poisson_gaussian, steps_within
from consilium.errors import PrivacyError, UnsupportedEvent

ACCOUNTANTS: list[Accountant] = ["pld", "rdp"]


class Kept(logging.Handler):
    """Keeps what the accounting library logs."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def library_log() -> Iterator[list[str]]:
    handler = Kept()
    logging.getLogger("absl").addHandler(handler)
    yield handler.messages
    logging.getLogger("absl").removeHandler(handler)


def training(q: float, z: float, steps: int) -> DpEvent:
    return poisson_gaussian(sampling_probability=q, noise_multiplier=z, steps=steps)


# -- Oracles --------------------------------------------------------------------------


def gaussian_epsilon(z: float, delta: float) -> float:
    """Balle and Wang 2018, Theorem 8 (arXiv:1805.06530): the Gaussian mechanism, exactly."""

    def excess(eps: float) -> float:
        tail = special.log_ndtr(-1 / (2 * z) - eps * z)
        return float(special.ndtr(1 / (2 * z) - eps * z) - math.exp(eps + tail)) - delta

    return float(optimize.brentq(excess, 0, 2000, xtol=1e-12)) if excess(0) > 0 else 0.0


def one_step_epsilon(q: float, z: float, delta: float) -> float:
    """One Poisson-sampled Gaussian by summing the hockey-stick divergence both ways."""
    x, step = np.linspace(-12 * z, 1 + 12 * z, 200_001, retstep=True)
    without = stats.norm.pdf(x, 0, z)
    mixed = (1 - q) * without + q * stats.norm.pdf(x, 1, z)

    def excess(eps: float) -> float:
        added = np.maximum(0, mixed - math.exp(eps) * without).sum()
        removed = np.maximum(0, without - math.exp(eps) * mixed).sum()
        return float(max(added, removed) * step) - delta

    return float(optimize.brentq(excess, 0, 20, xtol=1e-9))


def renyi(q: float, z: float, order: float) -> float:
    """Renyi divergence of one step by a sum over a fine grid, in logs."""
    x, step = np.linspace(-14 * z, order + 14 * z, 40_001, retstep=True)
    ratio = np.logaddexp(math.log1p(-q), math.log(q) + (2 * x - 1) / (2 * z * z))
    log_terms = stats.norm.logpdf(x, 0, z) + order * ratio
    return float(special.logsumexp(log_terms) + math.log(step)) / (order - 1)


def epsilon_of_2021(q: float, z: float, steps: int, delta: float) -> float:
    """RDP with the conversion of Mironov 2017, Proposition 3, as Opacus 0.9 used it."""
    orders = [*(1 + x / 10 for x in range(1, 100)), *range(12, 64)]
    return float(min(steps * renyi(q, z, a) - math.log(delta) / (a - 1) for a in orders))


# -- Published figures ----------------------------------------------------------------

SAMPLED = 10 / 293  # each of ten hospitals draws 10 of its 293 patients on average


@pytest.mark.parametrize(
    ("q", "z", "steps", "published"), [(SAMPLED, 1.15, 3001, 10.83), (50 / 2931, 1.0, 5800, 9.08)]
)
def test_published_epsilons_of_2021_are_reproduced(
    q: float, z: float, steps: int, published: float
) -> None:
    assert epsilon_of_2021(q, z, steps, 1e-4) == pytest.approx(published, abs=0.005)


@pytest.mark.parametrize(
    ("run", "delta", "rdp", "pld"),
    [
        ((SAMPLED, 1.15, 3001), 1e-4, 9.86, 8.98),  # Dopamine, seen from outside
        ((50 / 2931, 1.0, 5800), 1e-4, 8.18, 7.44),  # its central baseline
        ((50 / 293, 2.0, 1250), 1e-4, 18.02, 16.45),  # its baseline with noise at every hospital
        ((0.03425, 1.15 * math.sqrt(0.9), 3001), 1e-4, 10.92, 9.94),  # seen by one hospital
        ((0.03425, 1.15, 3001), 1e-5, 11.07, 10.24),
        ((0.03425, 1.15, 300), 1e-5, 3.30, 2.95),
        ((0.3, 1.0, 100), 1e-5, 24.51, 22.52),
    ],
)
def test_the_same_runs_cost_less_today(
    run: tuple[float, float, int], delta: float, rdp: float, pld: float
) -> None:
    event = training(*run)

    assert epsilon(event, delta, "rdp") == pytest.approx(rdp, abs=0.01)
    assert epsilon(event, delta) == pytest.approx(pld, abs=0.01)


def test_the_ten_epochs_of_deepee_are_reproduced_and_priced() -> None:
    """Its test: 50,000 records in batches of 200, noise 1, delta 1e-5, epsilon 1.30 after ten.

    That is the Gaussian limit of Bu et al. 2020 for batches of one size (arXiv:1911.11607),
    which is no bound; for Poisson samples there is one, and it is lower.
    """
    event = training(200 / 50_000, 1.0, 2500)
    spread = math.e * stats.norm.cdf(1.5) + 3 * stats.norm.cdf(-0.5) - 2
    limit = gaussian_epsilon(1 / (0.004 * math.sqrt(2 * 2500 * spread)), 1e-5)

    assert limit == pytest.approx(1.30, abs=0.01)
    assert epsilon(event, 1e-5) == pytest.approx(1.059, abs=0.001)
    assert epsilon(event, 1e-5, "rdp") == pytest.approx(1.313, abs=0.001)


# -- Against closed forms and integrals -----------------------------------------------


@pytest.mark.parametrize("delta", [1e-2, 1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize("z", [0.3, 1.0, 5.0, 40.0])
def test_the_gaussian_mechanism_costs_what_its_closed_form_says(z: float, delta: float) -> None:
    exact = gaussian_epsilon(z, delta)

    assert exact <= epsilon(training(1.0, z, 1), delta) <= 1.01 * exact + 1e-3
    assert exact <= epsilon(training(1.0, z, 1), delta, "rdp") <= 1.4 * exact + 1e-2


@pytest.mark.parametrize("steps", [2, 100, 3000])
@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_steps_without_sampling_are_one_gaussian_of_less_noise(
    steps: int, accountant: Accountant
) -> None:
    together = epsilon(training(1.0, 10.0, steps), 1e-5, accountant)
    one = epsilon(training(1.0, 10.0 / math.sqrt(steps), 1), 1e-5, accountant)

    assert together == pytest.approx(one, rel=1e-6)
    assert together >= gaussian_epsilon(10.0 / math.sqrt(steps), 1e-5)


@pytest.mark.parametrize(("q", "z"), [(0.03425, 1.15), (0.3, 0.7), (0.9, 2.0)])
def test_one_sampled_step_costs_what_its_integral_says(q: float, z: float) -> None:
    exact = one_step_epsilon(q, z, 1e-4)

    assert 0.999 * exact <= epsilon(training(q, z, 1), 1e-4) <= 1.01 * exact
    assert epsilon(training(q, z, 1), 1e-4, "rdp") >= exact


@pytest.mark.parametrize(("q", "z"), [(0.01, 0.5), (0.03425, 1.15), (0.5, 3.0)])
def test_rdp_is_at_most_the_conversion_of_an_integral(q: float, z: float) -> None:
    found = epsilon(training(q, z, 1000), 1e-5, "rdp")

    assert found <= epsilon_of_2021(q, z, 1000, 1e-5)
    assert found >= epsilon(training(q, z, 1000), 1e-5, "pld")


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_epsilon_grows_with_steps_and_sampling_and_falls_with_noise(
    accountant: Accountant,
) -> None:
    base = epsilon(training(0.05, 1.5, 200), 1e-5, accountant)

    assert epsilon(training(0.05, 1.5, 250), 1e-5, accountant) > base
    assert epsilon(training(0.06, 1.5, 200), 1e-5, accountant) > base
    assert epsilon(training(0.05, 1.6, 200), 1e-5, accountant) < base


# -- Events ---------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_a_composed_event_costs_what_its_parts_cost_together(accountant: Accountant) -> None:
    parts = ComposedDpEvent([training(0.05, 1.5, 60), training(0.05, 1.5, 140)])

    whole = epsilon(training(0.05, 1.5, 200), 1e-5, accountant)

    assert epsilon(parts, 1e-5, accountant) == pytest.approx(whole, rel=2e-3)


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_nothing_costs_nothing(accountant: Accountant) -> None:
    assert epsilon(NoOpDpEvent(), 1e-5, accountant) == 0


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(
    "event",
    [
        NonPrivateDpEvent(),
        GaussianDpEvent(0.0),
        GaussianDpEvent(1e-300),
        PoissonSampledDpEvent(0.1, GaussianDpEvent(0.0)),
        SelfComposedDpEvent(PoissonSampledDpEvent(0.1, GaussianDpEvent(1e-12)), 10),
        ComposedDpEvent([GaussianDpEvent(1.0), GaussianDpEvent(1e-9)]),
        GaussianDpEvent(1e-4),
    ],
)
def test_no_noise_worth_the_name_costs_infinity(event: DpEvent, accountant: Accountant) -> None:
    assert epsilon(event, 1e-5, accountant) == math.inf


def test_a_laplace_query_beside_a_training_is_priced() -> None:
    event = ComposedDpEvent([LaplaceDpEvent(2.0), training(0.05, 2.0, 100)])

    assert epsilon(training(0.05, 2.0, 100), 1e-5) < epsilon(event, 1e-5)
    assert epsilon(event, 1e-5) < epsilon(training(0.05, 2.0, 100), 1e-5) + 0.5


@pytest.mark.parametrize(
    ("event", "accountant"),
    [
        (SampledWithoutReplacementDpEvent(100, 10, GaussianDpEvent(1.0)), "pld"),
        (SampledWithoutReplacementDpEvent(100, 10, GaussianDpEvent(1.0)), "rdp"),
        (PoissonSampledDpEvent(0.1, LaplaceDpEvent(1.0)), "rdp"),
        (ComposedDpEvent([GaussianDpEvent(1.0), ZCDpEvent(0.1)]), "pld"),
    ],
)
def test_an_event_without_a_theorem_is_refused(event: DpEvent, accountant: Accountant) -> None:
    with pytest.raises(UnsupportedEvent, match="no theorem"):
        epsilon(event, 1e-5, accountant)


# -- What the library logs ------------------------------------------------------------


def test_the_library_warns_of_series_that_do_not_converge(library_log: list[str]) -> None:
    RdpAccountant().compose(training(0.3, 1.0, 1))

    assert "failed to converge" in library_log[0]


@pytest.mark.parametrize("z", [0.05, 0.3, 1.0, 5.0, 50.0, 1e4])
@pytest.mark.parametrize("q", [1e-6, 0.001, 0.034, 0.3, 0.5, 0.7, 0.99])
def test_no_order_is_asked_for_whose_series_does_not_converge(
    q: float, z: float, library_log: list[str]
) -> None:
    epsilon(training(q, z, 100), 1e-5, "rdp")

    assert library_log == []


# -- Inverses -------------------------------------------------------------------------


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(
    ("target", "q", "steps"),
    [(3.0, 0.03425, 3000), (0.5, 0.1, 30), (20.0, 0.2, 50), (1.0, 1.0, 1)],
)
def test_calibrated_noise_costs_the_target_and_not_more(
    target: float, q: float, steps: int, accountant: Accountant
) -> None:
    noise = calibrate(
        target_epsilon=target,
        delta=1e-5,
        sampling_probability=q,
        steps=steps,
        accountant=accountant,
    )

    assert 0.99 * target <= epsilon(training(q, noise, steps), 1e-5, accountant) <= target


def test_calibration_finds_the_noise_of_the_published_run() -> None:
    noise = calibrate(target_epsilon=8.99, delta=1e-4, sampling_probability=SAMPLED, steps=3001)

    assert noise == pytest.approx(1.15, abs=0.003)


def test_a_target_out_of_reach_is_refused() -> None:
    with pytest.raises(PrivacyError, match="fewer steps"):
        calibrate(
            target_epsilon=1e-9,
            delta=1e-12,
            sampling_probability=1.0,
            steps=10**6,
            accountant="rdp",
        )


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize(
    ("q", "z", "budget"), [(0.03425, 1.15, 3.0), (0.1, 2.0, 0.7), (1.0, 9.0, 2.0)]
)
def test_one_step_more_than_fits_costs_more_than_the_budget(
    q: float, z: float, budget: float, accountant: Accountant
) -> None:
    steps = steps_within(
        budget_epsilon=budget,
        delta=1e-5,
        sampling_probability=q,
        noise_multiplier=z,
        accountant=accountant,
    )

    assert epsilon(training(q, z, steps), 1e-5, accountant) <= budget
    assert epsilon(training(q, z, steps + 1), 1e-5, accountant) > budget


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("budget", [-1.0, 0.0, 0.1])
def test_no_step_fits_a_budget_below_the_cost_of_one(budget: float, accountant: Accountant) -> None:
    fitting = steps_within(
        budget_epsilon=budget,
        delta=1e-5,
        sampling_probability=0.5,
        noise_multiplier=1.0,
        accountant=accountant,
    )

    assert fitting == 0


def test_steps_are_capped_at_ten_million() -> None:
    fitting = steps_within(
        budget_epsilon=50.0,
        delta=1e-5,
        sampling_probability=1e-6,
        noise_multiplier=100.0,
        accountant="rdp",
    )

    assert fitting == 10_000_000


# -- Ranges ---------------------------------------------------------------------------

REFUSED: dict[str, Callable[[], object]] = {
    "sampling_probability=0": lambda: training(0, 1.0, 1),
    "sampling_probability=1.1": lambda: training(1.1, 1.0, 1),
    "sampling_probability=nan": lambda: training(math.nan, 1.0, 1),
    "noise_multiplier=0": lambda: training(0.1, 0, 1),
    "noise_multiplier=-1": lambda: training(0.1, -1, 1),
    "noise_multiplier=inf": lambda: training(0.1, math.inf, 1),
    "steps=0": lambda: training(0.1, 1.0, 0),
    "delta=0": lambda: epsilon(NoOpDpEvent(), 0),
    "delta=1": lambda: epsilon(NoOpDpEvent(), 1),
    "delta=nan": lambda: epsilon(NoOpDpEvent(), math.nan),
    "accountant='prv'": lambda: epsilon(NoOpDpEvent(), 1e-5, "prv"),  # type: ignore[arg-type]  # the refusal is the test
    "target_epsilon=0": lambda: calibrate(
        target_epsilon=0, delta=1e-5, sampling_probability=0.1, steps=1
    ),
    "budget_epsilon=nan": lambda: steps_within(
        budget_epsilon=math.nan, delta=1e-5, sampling_probability=0.1, noise_multiplier=1.0
    ),
}


@pytest.mark.parametrize("found", REFUSED)
def test_a_number_out_of_range_is_refused_by_name(found: str) -> None:
    with pytest.raises(ValueError, match=f"^{found}"):
        REFUSED[found]()
