# SPDX-License-Identifier: Apache-2.0
"""What many releases cost together: exact sums of Renyi divergences, caps, and epsilon in words.

Neighbours differ by one patient, with all records in all datasets of this office, added or removed.

    question                                    answered by               theorem
    may one more release happen? (`Cap.units`)  sum at one fixed order    1, 2
    epsilon of what was done (`epsilon_of`)     least over the orders     3
    epsilon of one contract (`fixed_epsilon`)   PLD                       4

1. Filter. At an order alpha that is fixed before the first release, if releases are chosen in any
   way from what was seen before, release i has Renyi divergence at most r_i at alpha for the
   patient, and no release happens that would bring the sum of r_i above B, then all of them
   together have Renyi divergence at most B (Feldman, Zrnic 2021, Theorem 3.1 and, for each patient
   with a sum of her own, Theorem 4.5, arXiv:2008.11193; Lecuyer 2021, arXiv:2103.01379; for
   zero-concentrated privacy and approximate DP: Whitehouse et al. 2023, arXiv:2203.05481).
   Releases of several researchers may be interleaved (Haney et al. 2023, arXiv:2309.05901: filters
   of a fixed order stay valid under concurrent composition).
2. Renyi divergence B at order alpha gives epsilon = B + log(1 - 1/alpha) - log(alpha delta) /
   (alpha - 1) at delta (Canonne, Kamath, Steinke 2020, Proposition 12, arXiv:2004.00010).
3. For a list of releases whose events were fixed in advance, 2 holds at every order, so the least
   holds (Mironov 2017, arXiv:1702.07476).
4. For such a list, the composition of privacy loss distributions holds and is tight.

Why one order: "some order is still within its cap" is not a filter. Which order that is depends
on what was released, and choosing it afterwards costs privacy (natural filters are not free:
arXiv:2602.15815). The order of an account is therefore chosen once, where the account begins: the
one that allows the most Gaussian noise under the cap, and so is nearly best for any long history.

When it fails. An event that is not true of the mechanism; a person under two pseudonyms, or at
two hospitals, who is two patients here; releases that were not charged. What was *used* (3, 4) is
a fact about a list of events: for events that were chosen from earlier answers only the cap is a
guarantee, and of a cap that was raised, the highest one. Who takes part is decided from
participation alone (`participation`), so that a patient's absence tells nothing of her data.

Sums are exact: divergences are integers in units of 2**-40, rounded up, so they add in any order,
in any database, to the same number, and never to less than the truth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias, final

from dp_accounting.dp_event import ComposedDpEvent, SelfComposedDpEvent

from consilium.dp.accounting import epsilon, renyi_divergences
from consilium.errors import ConfigError, PrivacyError, UnsupportedEvent
from consilium.governance.events import decode_event

ORDERS: Final = (
    *(2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32),
    *(40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024),
)
UNIT: Final = 2.0**-40
LARGEST_CAP: Final = 50.0  # beyond it the word "private" means nothing
UNBOUNDED: Final = 2**62  # units: no finite price; above any cap

Curve: TypeAlias = tuple[int, ...]  # units at each of ORDERS

# -- Prices ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a mechanism: what is repeated, and what is charged at once.

    Attributes:
        event: Canonical bytes (`events`).
        slack: tau: the released distribution is within a factor exp(tau) of the event's, pointwise
            and for either neighbour, as after rounding to a lattice. 0: it is the event's.
    """

    event: bytes
    slack: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "slack", float(self.slack))
        if not 0 <= self.slack < math.inf:
            raise PrivacyError(f"{self.slack=}; expected a finite number, 0 or more")


@lru_cache(maxsize=1024)
def curve_of(step: Step) -> Curve:
    """Returns the units that one step costs at each order, rounded up.

    The slack adds tau (2 alpha - 1) / (alpha - 1): the integral of P^alpha Q^(1 - alpha) grows by
    at most exp(alpha tau) exp((alpha - 1) tau).

    Raises:
        UnsupportedEvent: No theorem prices the event.
    """
    divergences = renyi_divergences(decode_event(step.event), ORDERS)
    return tuple(
        _units(value + step.slack * (2 * order - 1) / (order - 1) * (1 + 1e-12))
        for order, value in zip(ORDERS, divergences, strict=True)
    )


def _units(divergence: float) -> int:
    if not divergence < UNBOUNDED * UNIT:
        return UNBOUNDED
    return math.ceil(divergence / UNIT)  # exact: UNIT is a power of two


def added(curves: Iterable[tuple[Curve, int]]) -> Curve:
    """Returns the sum of curves, each so many times."""
    total = [0] * len(ORDERS)
    for curve, times in curves:
        for place, units in enumerate(curve):
            total[place] += units * times
    return tuple(total)


# -- Caps -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """The most that may ever be learnt: epsilon at delta, of one patient.

    Raises:
        ConfigError: A number is outside its range, or no order has room at this delta.
    """

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "epsilon", float(self.epsilon))  # one spelling of 8 and 8.0
        object.__setattr__(self, "delta", float(self.delta))
        if not 0 < self.epsilon <= LARGEST_CAP or not 1e-12 <= self.delta < 1:
            raise ConfigError(
                f"a cap of epsilon {self.epsilon:g} at delta {self.delta:g}; expected epsilon "
                f"above 0 and at most {LARGEST_CAP:g}, delta from 1e-12 to below 1: choose another"
            )
        if self.units(self.place()) <= 0:
            raise ConfigError(
                f"a cap of epsilon {self.epsilon:g} at delta {self.delta:g} has room for nothing; "
                "expected a larger epsilon or delta"
            )

    def units(self, place: int) -> int:
        """Returns the units that fit at the order at `place` of `ORDERS`, rounded down."""
        order = ORDERS[place]
        room = self.epsilon - math.log1p(-1 / order) + math.log(self.delta * order) / (order - 1)
        return math.floor(room * (1 - 1e-12) / UNIT) if room > 0 else 0

    def place(self) -> int:
        """Returns where in `ORDERS` most Gaussian noise fits: units over order are largest."""
        return max(range(len(ORDERS)), key=lambda place: self.units(place) / ORDERS[place])


# -- Epsilon --------------------------------------------------------------------------


def epsilon_of(curve: Curve, delta: float) -> float:
    """Returns epsilon of a list of events whose curves add to `curve`; rounded up, never down.

    Guarantees: theorem 3 above. 0 for an empty list, infinite where nothing is promised.
    """
    if not any(curve):
        return 0.0
    least = math.inf
    for order, units in zip(ORDERS, curve, strict=True):
        if units < UNBOUNDED:
            shift = math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
            least = min(least, units * UNIT * (1 + 1e-12) + shift + 1e-12)
    return max(least, 0.0)


def fixed_epsilon(lines: Sequence[tuple[Step, int]], delta: float) -> float:
    """Returns epsilon at `delta` of steps that were fixed in advance, each so many times.

    Guarantees: theorem 4 where every event has a privacy loss distribution, else 3. The slack of
    a step adds 2 tau, and multiplies delta by exp(tau), which is taken off `delta` first.
    """
    return _fixed_epsilon(tuple(lines), delta) if lines else 0.0


@lru_cache(maxsize=256)
def _fixed_epsilon(lines: tuple[tuple[Step, int], ...], delta: float) -> float:
    summed = epsilon_of(added((curve_of(step), times) for step, times in lines), delta)
    slack = sum(step.slack * times for step, times in lines)
    event = ComposedDpEvent(
        [SelfComposedDpEvent(decode_event(step.event), times) for step, times in lines]
    )
    try:
        exact = epsilon(event, delta * math.exp(-slack), "pld") + 2 * slack
    except UnsupportedEvent:
        return summed
    return min(summed, exact)


def best_guess(epsilon_: float, delta: float) -> float:
    """Returns how often at most one who knows everybody else guesses a patient's part right.

    With one release or none equally likely before; (exp(epsilon) + delta) / (1 + exp(epsilon)).
    """
    if epsilon_ > 700:
        return 1.0
    return min(1.0, (math.exp(epsilon_) + delta) / (1 + math.exp(epsilon_)))
