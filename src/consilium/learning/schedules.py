# SPDX-License-Identifier: Apache-2.0
"""Learning rates as pure functions of the round, for every arm alike.

Rounds are counted from 1. A rate depends on public settings only, but for `Plateau`: it
reads validation losses, and where those come from private records each one is a release
that must have been charged before it gets here.

Below r is the round, R the number of rounds, a the initial and b the final rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

from consilium.errors import ConfigError

# -- Schedules ------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Constant:
    """rate(r) = a."""

    initial: float

    def __post_init__(self) -> None:
        _check_rates(self.initial)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """rate(r) = a * factor ** floor((r - 1) / every)."""

    initial: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        _check_rates(self.initial)
        _check_factor(self.factor)
        _check_count("every", self.every, least=1)


@final
@dataclass(frozen=True, slots=True)
class Cosine:
    """rate(r) = b + (a - b) * (1 + cos(pi * (r - 1) / R)) / 2."""

    initial: float
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_rates(self.initial, self.final)


@final
@dataclass(frozen=True, slots=True)
class LogLinear:
    """rate(r) = a * (b / a) ** ((r - 1) / (R - 1)): a straight line in log(rate), ends included.

    A single round uses a.
    """

    initial: float
    final: float

    def __post_init__(self) -> None:
        _check_rates(self.initial, self.final)
        if self.final == 0:
            raise ConfigError("final=0.0, expected a rate > 0; a log-linear line never gets to 0")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WarmRestarts:
    """Cosine within periods: rate(r) = b + (a - b) * (1 + cos(pi * s / P)) / 2.

    s rounds have passed since the period began; its length P is `period`, then `growth`
    times as long after each restart. Source: Loshchilov and Hutter 2017, equation 5.
    """

    initial: float
    final: float = 0.0
    period: int
    growth: int = 1

    def __post_init__(self) -> None:
        _check_rates(self.initial, self.final)
        _check_count("period", self.period, least=1)
        _check_count("growth", self.growth, least=1)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """rate = max(b, a * factor ** k), after k plateaus in the history of validation losses.

    A plateau is `patience` + 1 losses in a row none of which is below the lowest so far;
    counting then starts anew. NaN is not below anything.
    """

    initial: float
    factor: float
    patience: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _check_rates(self.initial, self.final)
        _check_factor(self.factor)
        _check_count("patience", self.patience, least=0)


Schedule: TypeAlias = Constant | Step | Cosine | LogLinear | WarmRestarts | Plateau

# -- Rates ----------------------------------------------------------------------------


def learning_rate(
    schedule: Schedule, round_: int, rounds: int, history: Sequence[float] = ()
) -> float:
    """Returns the learning rate of round `round_` of `rounds`.

    Args:
        schedule: Which formula; each is in its class's docstring.
        round_: Counted from 1.
        rounds: How many there will be.
        history: Validation losses of the rounds before this one, oldest first; read by
            `Plateau` only.

    Raises:
        ValueError: `round_` is not in 1..`rounds`.

    >>> [learning_rate(Step(initial=1.0, factor=0.5, every=2), r, 4) for r in (1, 2, 3, 4)]
    [1.0, 1.0, 0.5, 0.5]
    """
    if not 1 <= round_ <= rounds:
        raise ValueError(f"{round_=} is not in 1..{rounds}; rounds are counted from 1")
    passed = round_ - 1
    match schedule:
        case Constant(initial):
            return initial
        case Step():
            return schedule.initial * schedule.factor ** (passed // schedule.every)
        case Cosine(initial, final):
            return _cosine(initial, final, passed / rounds)
        case LogLinear(initial, final):
            return initial * math.pow(final / initial, passed / max(rounds - 1, 1))
        case WarmRestarts():
            return _cosine(schedule.initial, schedule.final, _share_of_period(schedule, passed))
        case Plateau():
            rate = schedule.initial * schedule.factor ** _plateaus(schedule.patience, history)
            return max(schedule.final, rate)


def _cosine(initial: float, final: float, share: float) -> float:
    return final + (initial - final) * (1 + math.cos(math.pi * share)) / 2


def _share_of_period(schedule: WarmRestarts, passed: int) -> float:
    period = schedule.period
    while passed >= period:
        passed -= period
        period *= schedule.growth
    return passed / period


def _plateaus(patience: int, history: Sequence[float]) -> int:
    plateaus, lowest, worse = 0, math.inf, 0
    for loss in history:
        worse = 0 if loss < lowest else worse + 1
        lowest = min(lowest, loss) if not math.isnan(loss) else lowest
        if worse > patience:
            plateaus, worse = plateaus + 1, 0
    return plateaus


# -- Settings -------------------------------------------------------------------------


def _check_rates(initial: float, final: float = 0.0) -> None:
    if not (math.isfinite(initial) and initial > 0):
        raise ConfigError(f"{initial=}, expected a learning rate > 0; set it to, say, 0.1")
    if not 0 <= final <= initial:
        raise ConfigError(f"{final=}, expected 0 to {initial=}; a rate falls, it does not rise")


def _check_factor(factor: float) -> None:
    if not 0 < factor < 1:
        raise ConfigError(f"{factor=}, expected more than 0 and less than 1; set it to, say, 0.5")


def _check_count(name: str, value: int, *, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name}={value}, expected {least} or more; count in rounds")
