# SPDX-License-Identifier: Apache-2.0
"""Sentences about budgets, for people who do not program.

Guarantees: what a number may reveal is never understated: epsilon, delta and odds are rounded
up, what remains is rounded down.
Source: the odds are the most that any test can reach between two equally likely neighbours under
(epsilon, delta): Kairouz, Oh, Viswanath 2015 (arXiv:1311.0776), theorem 2.1.
"""

import math
import sys
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import Final, final

from consilium.web import formats

COMPOSE: Final = "Epsilons compose, they do not add."
COMPOSED_SHARES: Final = (
    "Epsilons compose, they do not add: a bar compares what each project would cost alone, "
    "and what is used in all is less than the sum of these."
)
_SCALES: Final = (100, 10_000, 1_000_000)

# -- Odds -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Odds:
    """At most `right` guesses of `of` are right."""

    right: int
    of: int

    def __str__(self) -> str:
        return f"{formats.count(self.right)} times in {formats.count(self.of)}"


def odds(epsilon: float, delta: float) -> Odds:
    """Returns how often the best guess of whether one patient took part can be right.

    At most (e^epsilon + delta) / (1 + e^epsilon), where a coin is right half the time; rounded
    up on the coarsest scale on which that is not certainty.

    >>> str(odds(1.9, 1e-6)), str(odds(0.0, 0.0)), str(odds(8.0, 1e-6))
    ('87 times in 100', '50 times in 100', '9,997 times in 10,000')
    """
    bound = guessing_bound(epsilon, delta)
    for scale in _SCALES:
        right = math.ceil(bound * scale)
        if right < scale:
            return Odds(right, scale)
    return Odds(100, 100)


def guessing_bound(epsilon: float, delta: float) -> float:
    """Returns (e^epsilon + delta) / (1 + e^epsilon), at most 1, rounded up.

    Raises:
        ValueError: `epsilon` is negative or not a number, or `delta` no probability.
    """
    if not epsilon >= 0:
        raise ValueError(f"{epsilon=} must be >= 0")
    if not 0 <= delta <= 1:
        raise ValueError(f"{delta=} must be in 0..1")
    if epsilon == 0 and delta == 0:
        return 0.5
    absent = math.exp(-epsilon)  # 1 / e^epsilon: nothing overflows
    bound = (1 + delta * absent) / (1 + absent)
    return min(1.0, bound * (1 + 4 * sys.float_info.epsilon))  # no digit of binary rounding lost


def meaning(epsilon: float, delta: float, unit: str) -> str:
    """Returns the one sentence that says what a composed epsilon means."""
    if epsilon == 0:
        return (
            f"Nothing has been released yet: a guess whether one {unit} took part is right "
            "50 times in 100, as a coin is."
        )
    most = odds(epsilon, delta)
    if most.right == most.of:
        return (
            "The bound says nothing any more: someone who knows everything else could be sure "
            f"whether one {unit} took part."
        )
    return (
        f"Someone who knows everything else could guess whether one {unit} took part correctly "
        f"at most {most}; with no release, 50 times in 100."
    )


# -- Numbers --------------------------------------------------------------------------


def remaining(value: float) -> str:
    """Returns what is left of a budget, rounded down: never more than there is.

    >>> remaining(5.6899), remaining(0.0), remaining(-0.2)
    ('5.68', '0.00', '0.00')
    """
    if math.isinf(value):
        return "unlimited"
    exact = Decimal(repr(max(0.0, value)))
    return str(exact.quantize(Decimal("0.01"), rounding=ROUND_FLOOR))


def cap(value: float) -> str:
    """Returns a cap as it was set.

    >>> cap(8.0), cap(2.25)
    ('8.0', '2.25')
    """
    return f"{value:g}" if value % 1 else f"{value:.1f}"


def percent_of(part: float, whole: float) -> int:
    """Returns a share in whole per cent, rounded up, at most 100.

    >>> percent_of(1.9, 8.0), percent_of(9.0, 8.0), percent_of(0.0, 0.0)
    (24, 100, 0)
    """
    if whole <= 0:
        return 0 if part <= 0 else 100
    exact = Decimal(repr(part)) / Decimal(repr(whole)) * 100
    return min(100, math.ceil(exact))


def level(free: float, whole: float) -> str:
    """Returns "low", "medium" or "high": all that is said of a budget to who has no grant.

    >>> level(7.0, 8.0), level(3.0, 8.0), level(1.0, 8.0)
    ('high', 'medium', 'low')
    """
    share = free / whole if whole > 0 else 0.0
    return "high" if share > 2 / 3 else "medium" if share > 1 / 3 else "low"


# -- Time -----------------------------------------------------------------------------


def since(then: datetime, now: datetime) -> str:
    """Returns "just now", "12 min", "2 h", "3 days"."""
    minutes = int((now - then).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"


def forecast(months: tuple[tuple[date, float], ...], limit: float) -> date | None:
    """Returns the month in which a budget is used up if it goes on as it did, None for never.

    The rate is that of the composed total between the first and the last month; it composes, so
    this is a guess for planning and is said to be one.

    Args:
        months: The first day of each month and the composed epsilon at its end, in order.
        limit: The cap.
    """
    if len(months) < 2:
        return None
    (first, start), (last, spent) = months[0], months[-1]
    passed = _month_number(last) - _month_number(first)
    if spent <= start or passed <= 0:
        return None
    left = (limit - spent) / (spent - start) * passed
    number = _month_number(last) + max(0, math.floor(left))
    return date(number // 12, number % 12 + 1, 1) if number < 9999 * 12 else None


def forecast_sentence(months: tuple[tuple[date, float], ...], limit: float) -> str:
    """Returns where the curve by month leads, in words."""
    end = forecast(months, limit)
    if end is None:
        return "Too little has been spent to say when it will be used up."
    return f"At the present rate it will be used up in {end:%B %Y}. This is a guess, not a plan."


def _month_number(day: date) -> int:
    return day.year * 12 + day.month - 1


def expires(until: date, today: date) -> str:
    """Returns "in 12 days", "today" or "ended"."""
    left = until - today
    if left < timedelta(0):
        return "ended"
    return "today" if not left else f"in {formats.plural(left.days, 'day')}"
