# SPDX-License-Identifier: Apache-2.0
"""What a price says: as a curve, about a family, about a replaced patient, in plain words.

`accounting` answers one question, epsilon at one delta for one patient who takes part or not.
The same event answers others, and each has its own theorem, named where it is used. None of
them changes what was done to the data, so reading costs no budget.

Events say nothing of rounding to a lattice; `Plan.slack` is what sites that share the noise
add to an epsilon from here, and it is 0 for one party.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    MixtureOfGaussiansDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import NeighboringRelation, UnsupportedEventError
from numpy.typing import NDArray
from scipy import stats

from consilium.dp.accounting import LARGEST, epsilon
from consilium.dp.plan import Plan, membership_advantage
from consilium.errors import UnsupportedEvent

LEAST_DELTA: Final = 1e-12  # nothing smaller is said: double precision rounds there
MOST_MEMBERS: Final = 1000  # of a group

_ADD_OR_REMOVE: Final = NeighboringRelation.ADD_OR_REMOVE_ONE
_INTERVALS: Final = (1e-1, 1e-2, 1e-3, 1e-4)  # of the privacy loss; each gives an upper bound
_CELLS: Final = 1e5  # of any of them
_GAIN: Final = 5e-2  # of the last refinement, for which the next one is worth its time


# -- The curve ------------------------------------------------------------------------


def privacy_curve(event: DpEvent, epsilons: Sequence[float]) -> NDArray[np.float64]:
    """Returns delta of `event` at each of `epsilons`, shape (len(epsilons),).

    Guarantees:
        Never below the true delta, nor below 1e-12, at any of them; the bounds hold together,
        as the curve is one property of the mechanism.

    Raises:
        UnsupportedEvent: The PLD accountant has no theorem for `event`.
        ValueError: An epsilon is negative or not a number.
    """
    asked = np.asarray(epsilons, np.float64)
    if not (asked >= 0).all():
        raise ValueError(f"{epsilons=} must be >= 0")
    best = np.ones(asked.shape)
    coarse = epsilon(event, 1e-6)
    if math.isinf(coarse):
        return best
    for interval in _INTERVALS:
        accountant = _composed(event, max(interval, coarse / _CELLS), _ADD_OR_REMOVE)
        found = [float(accountant.get_delta(each)) for each in asked.tolist()]
        last, best = best, np.minimum(best, np.maximum(found, LEAST_DELTA))
        if (last - best <= _GAIN * best).all():
            break
    return best


# -- Other neighbours -----------------------------------------------------------------


def group_epsilon(event: DpEvent, delta: float, *, size: int) -> float:
    """Returns epsilon of `event` at `delta` for a group of patients, such as siblings.

    Neighbours differ by all patients of one group, added or removed together.

    Args:
        event: Of Gaussian sums, Poisson-sampled or not.
        delta: The probability that the bound may be exceeded.
        size: Patients in the group.

    Guarantees:
        Never below the true epsilon. A step sees binomially many of the group, each of whom
        moves the sum by at most the clip norm; the mixture of Gaussians at those distances
        dominates the step, and dominating pairs compose. At most what `group_bound` says.
        Source: Ganesh 2024, on Poisson sampling (arXiv:2401.10294v2).

    Raises:
        UnsupportedEvent: The event holds something else; `group_bound` needs no theorem of it.
        ValueError: Not 0 < delta < 1, or `size` is outside 1..1000.
    """
    _checked_size(size)
    return _finest(_grouped(event, size), delta, _size_of(event, delta, size), _ADD_OR_REMOVE)


def group_bound(epsilon_: float, delta: float, *, size: int) -> tuple[float, float]:
    """Returns (epsilon, delta) of a group, whatever the mechanism was.

    k eps and delta (1 + e^eps + ... + e^((k-1) eps)) <= k e^((k-1) eps) delta: a walk over
    neighbours, one patient at a time. Source: Dwork and Roth 2014, theorem 2.2; Vadhan 2017,
    lemma 2.2.
    """
    terms = [float(np.exp(min(700.0, i * epsilon_))) for i in range(_checked_size(size))]
    return size * epsilon_, min(1.0, delta * math.fsum(terms))


def replacement_epsilon(event: DpEvent, delta: float) -> float:
    """Returns epsilon of `event` at `delta` for one patient replaced by another.

    The relation REPLACE_ONE: the number of patients is the same in both. It needs about twice
    the epsilon of a patient added or removed.

    Args:
        event: Of Gaussian sums, Poisson-sampled or not: what dp-accounting prices under this
            relation. Only its PLD accountant does; RDP has no theorem for a Poisson sample.
        delta: The probability that the bound may be exceeded.

    Guarantees:
        Never below the epsilon of the pair in which one patient moves the sum by the clip norm
        and the other by as much the other way, which dp-accounting takes as dominating. The
        tests find no worse pair among vectors of any length and angle; a published proof for
        Poisson samples is not known to us.

    Raises:
        UnsupportedEvent: The event holds something else.
        ValueError: Not 0 < delta < 1.
    """
    return _finest(event, delta, _size_of(event, delta, 2), NeighboringRelation.REPLACE_ONE)


def _grouped(event: DpEvent, size: int) -> DpEvent:
    """Returns the event that a group of `size` sees, as a mixture of Gaussians."""

    def seen(sampling_probability: float, noise_multiplier: float) -> DpEvent:
        drawn = np.arange(size + 1)
        chances = stats.binom.pmf(drawn, size, sampling_probability)
        return MixtureOfGaussiansDpEvent(
            noise_multiplier, drawn.tolist(), (chances / chances.sum()).tolist()
        )

    return _mapped(event, seen)


def _mapped(event: DpEvent, step: Callable[[float, float], DpEvent]) -> DpEvent:
    """Returns `event` with `step` of its sampling probability and noise for every sum."""
    match event:
        case GaussianDpEvent():
            return step(1.0, event.noise_multiplier)
        case PoissonSampledDpEvent(event=GaussianDpEvent() as whole):
            return step(event.sampling_probability, whole.noise_multiplier)
        case SelfComposedDpEvent():
            return SelfComposedDpEvent(_mapped(event.event, step), event.count)
        case ComposedDpEvent():
            return ComposedDpEvent([_mapped(part, step) for part in event.events])
        case _:
            raise UnsupportedEvent(
                f"no theorem for this relation and {event}; expected Gaussian sums, sampled "
                "by Poisson or not: use group_bound of its epsilon"
            )


def _checked_size(size: int) -> int:
    if not 1 <= size <= MOST_MEMBERS:
        raise ValueError(f"{size=} must be within 1..{MOST_MEMBERS}")
    return size


# -- What is left, and what it means --------------------------------------------------


def steps_left(plan: Plan, *, charged: int, budget_epsilon: float) -> int:
    """Returns how many steps of `plan` still fit a budget after `charged` of them.

    Guarantees: with that many more, `plan.epsilon` is at most `budget_epsilon`, for the
        participants' view; 0 once the budget is spent, or more is charged than fits.

    Raises:
        ValueError: `charged` is negative.
    """
    if charged < 0:
        raise ValueError(f"{charged=} must be >= 0")
    return max(0, plan.steps_within(budget_epsilon) - charged)


def in_words(epsilon_: float, delta: float) -> str:
    """Returns what (epsilon, delta) promises one patient, for somebody who has neither.

    Of two worlds, with and without the patient, equally likely; the attacker knows all else.

    >>> print(in_words(1.0, 1e-5))
    Whoever sees the model and knows everybody else's data can tell whether one patient took part \
in at most 74 of 100 cases (a coin: 50). Whatever follows from the model is at most 2.8 times as \
likely as without that patient, plus a chance of 1 in 100,000.
    """
    if not epsilon_ <= LARGEST:
        return "There is no bound on what the model says about one patient."
    right = math.ceil(round(50 * (1 + membership_advantage(epsilon_, delta)), 9))
    return (
        "Whoever sees the model and knows everybody else's data can tell whether one patient took "
        f"part in at most {right} of 100 cases (a coin: 50). Whatever follows from the model is at "
        f"most {_factor(epsilon_)} times as likely as without that patient, plus a chance of 1 in "
        f"{math.floor((1 + 1e-9) / delta):,}."
    )


def _factor(epsilon_: float) -> str:
    """Returns exp(epsilon_), rounded up."""
    if epsilon_ > math.log(1e6):
        return f"10^{math.ceil(epsilon_ / math.log(10))}"
    factor = math.exp(epsilon_)
    return f"{math.ceil(10 * factor) / 10:.1f}" if factor < 100 else f"{math.ceil(factor):,}"


# -- Distributions of the privacy loss ------------------------------------------------


def _size_of(event: DpEvent, delta: float, size: int) -> float:
    """Returns an epsilon of about the size of a group's, at little cost; infinite if hopeless."""

    def step(sampling_probability: float, noise_multiplier: float) -> DpEvent:
        whole = GaussianDpEvent(noise_multiplier / size)
        return PoissonSampledDpEvent(sampling_probability, whole)

    return epsilon(_mapped(event, step), delta, "rdp")


def _finest(event: DpEvent, delta: float, about: float, relation: NeighboringRelation) -> float:
    """Returns the least of ever finer upper bounds; ten times finer is a hundred times closer."""
    best = math.inf
    if math.isinf(about):
        return best
    for interval in _INTERVALS:
        accountant = _composed(event, max(interval, about / _CELLS), relation)
        last, best = best, min(best, float(accountant.get_epsilon(delta)))
        if not last - best > _GAIN * best:
            break
    return best if best <= LARGEST else math.inf


def _composed(event: DpEvent, interval: float, relation: NeighboringRelation) -> PLDAccountant:
    accountant = PLDAccountant(relation, value_discretization_interval=interval)
    try:
        accountant.compose(event)
    except UnsupportedEventError:
        raise UnsupportedEvent(
            f"PLDAccountant has no theorem for {event} under {relation.name}; use another mechanism"
        ) from None
    return accountant
