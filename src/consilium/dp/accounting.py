# SPDX-License-Identifier: Apache-2.0
"""What a mechanism costs: events to epsilon at delta, and back.

An event says all that accounting may know of what was done to the data; neighbours differ by
one patient added or removed. `dp-accounting` prices events; this module chooses its settings
so that the price is an upper bound, says so when it has none, and inverts it.

It guarantees nothing about the mechanism itself: an event is a claim, and `plan` is where
the claim is made together with the sampling, the clipping and the noise that make it true.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Final, Literal, TypeAlias

from dp_accounting.dp_event import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    PoissonSampledDpEvent,
    RepeatAndSelectDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.privacy_accountant import PrivacyAccountant, UnsupportedEventError
from dp_accounting.rdp import RdpAccountant
from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

from consilium.errors import PrivacyError, UnsupportedEvent

Accountant: TypeAlias = Literal["pld", "rdp"]

LARGEST: Final = 1e6  # epsilon; any above is reported as infinite
MOST_STEPS: Final = 10_000_000  # that `steps_within` looks for

_CLOSENESS: Final = 0.998  # of the target that `calibrate` reaches at least
_GRID: Final = 10_000  # noise multipliers are rounded up to 1/_GRID
_LARGEST_GRID: Final = 1_000_000 * _GRID


# -- Events ---------------------------------------------------------------------------


def poisson_gaussian(
    *, sampling_probability: float, noise_multiplier: float, steps: int
) -> DpEvent:
    """Returns the event of `steps` Poisson-sampled Gaussian sums.

    Raises:
        ValueError: Not 0 < sampling_probability <= 1, not a positive finite
            noise_multiplier, or steps below 1.
    """
    if not 0 < sampling_probability <= 1:
        raise ValueError(f"{sampling_probability=} must be within (0, 1]")
    if not 0 < noise_multiplier < math.inf:
        raise ValueError(f"{noise_multiplier=} must be positive and finite")
    if steps < 1:
        raise ValueError(f"{steps=} must be >= 1")
    step = GaussianDpEvent(noise_multiplier)
    if sampling_probability < 1:
        step = PoissonSampledDpEvent(sampling_probability, step)
    return SelfComposedDpEvent(step, steps)


# -- Prices ---------------------------------------------------------------------------


def epsilon(event: DpEvent, delta: float, accountant: Accountant = "pld") -> float:
    """Returns epsilon of `event` at `delta`, for one patient added or removed.

    Args:
        event: What was done to the data.
        delta: The probability that the bound may be exceeded.
        accountant: "pld" composes privacy loss distributions (tight); "rdp" composes Renyi
            divergences (8 to 20 % more, and prices more kinds of event).

    Guarantees:
        Never below the true epsilon: distributions are rounded to the pessimistic side, and
        Renyi divergences carry an allowance for the rounding of their series. Infinite when
        there is no finite bound, or none below 1e6. Fails when delta is near the rounding
        of double precision: keep it above 1e-12.

    Raises:
        UnsupportedEvent: The accountant has no theorem for `event`.
        ValueError: Not 0 < delta < 1, or no such accountant.
    """
    _check_delta(delta)
    _tiers(accountant)
    if any(noise < 1 / LARGEST for _, noise, _ in _gaussians(event, 1)):
        return math.inf
    coarse = 0.0
    if accountant == "rdp" or RdpAccountant().supports(event):
        coarse = _rdp_epsilon(event, delta)
    if coarse > LARGEST:
        return math.inf
    return coarse if accountant == "rdp" else _pld_epsilon(event, delta, coarse)


def _pld_epsilon(event: DpEvent, delta: float, coarse: float) -> float:
    """Returns the least of ever finer discretisations, each of which is an upper bound.

    Ten times finer is a hundred times closer, so one more is tried only as long as what it
    can gain, a hundredth of the last gain, is above 5e-4 of the result. `coarse` bounds
    epsilon, and with it the number of cells of the first.
    """
    interval = max(1e-2, coarse / 1e5)
    best = math.inf
    for _ in range(3):
        composed = _compose(PLDAccountant(value_discretization_interval=interval), event)
        last, best = best, min(best, float(composed.get_epsilon(delta)))
        if not last - best > 5e-2 * best:
            return best
        interval /= 10
    return best


def _rdp_epsilon(event: DpEvent, delta: float) -> float:
    """Returns the best conversion over all orders whose series converges for `event`."""
    leaves = list(_gaussians(event, 1))
    accountant = _compose(RdpAccountant([a for a in _ORDERS if _converges(a, leaves)]), event)
    allowance = _SERIES_ERROR * sum(count for _, _, count in leaves)
    rdp = [max(float(value), 0.0) + allowance for value in accountant.rdp]
    return float(compute_epsilon(accountant.orders.tolist(), rdp, delta)[0])


def renyi_divergences(event: DpEvent, orders: Sequence[int]) -> list[float]:
    """Returns at least the Renyi divergence of `event` at each order, either way round.

    Args:
        event: What was done to the data, once.
        orders: Integers above 1, whose series are finite sums.

    Guarantees:
        Never below the true divergence; infinite where there is no finite bound.

    Raises:
        UnsupportedEvent: The accountant has no theorem for `event`.
    """
    leaves = list(_gaussians(event, 1))
    if any(noise < 1 / LARGEST for _, noise, _ in leaves):
        return [math.inf for _ in orders]
    accountant = _compose(RdpAccountant(list(orders)), event)
    allowance = _SERIES_ERROR * (1 + sum(count for _, _, count in leaves))
    return [max(float(value), 0.0) * (1 + _SERIES_ERROR) + allowance for value in accountant.rdp]


def _compose(accountant: PrivacyAccountant, event: DpEvent) -> PrivacyAccountant:
    try:
        return accountant.compose(event)
    except UnsupportedEventError:
        raise UnsupportedEvent(
            f"{type(accountant).__name__} has no theorem for {event}; use another accountant, "
            "or another mechanism"
        ) from None


# -- Renyi orders ---------------------------------------------------------------------

_FRACTIONS: Final = [1 + k / 10 for k in range(1, 99) if k % 10]
_ORDERS: Final = [*_FRACTIONS, *range(2, 64), 128, 256, 512, 1024]
_SERIES_ERROR: Final = 1e-13  # of log A a step, of sums of up to 1025 double-precision terms
_LAST_TERM: Final = 999  # where the library gives up on a series
_NEGLIGIBLE: Final = -30.0  # log of the term at which it stops


def _converges(order: float, leaves: list[tuple[float, float, int]]) -> bool:
    """Returns whether the library's series for `order` ends before it gives up.

    With z0 = sigma^2 log(1/q - 1) + 1/2 and x = min(i - z0, i - order + z0) / sigma > 0, both
    halves of term i are at most binomial(order, i) (1-q)^order exp(-z0^2 / (2 sigma^2)) /
    (x sqrt(2 pi)), as the normal tail beyond x is below its density over x. Integer orders
    are finite sums.
    Source: Mironov, Talwar, Zhang 2019, section 3.3 (arXiv:1908.10530v1).
    """
    if order == int(order):
        return True
    # |binomial(a, i)| = Gamma(a+1) Gamma(i-a) |sin(pi a)| / (pi Gamma(i+1))
    log_binomial = math.lgamma(order + 1) + math.lgamma(_LAST_TERM - order)
    log_binomial -= math.lgamma(_LAST_TERM + 1) + math.log(math.pi)
    for q, sigma, _ in leaves:
        if q in (0, 1):
            continue
        z0 = sigma**2 * math.log(1 / q - 1) + 0.5
        x = (_LAST_TERM - max(z0, order - z0)) / sigma
        if x <= 0:
            return False
        term = log_binomial + order * math.log1p(-q) - (z0 / sigma) ** 2 / 2
        if term - math.log(x * math.sqrt(2 * math.pi)) > _NEGLIGIBLE:
            return False
    return True


def _gaussians(event: DpEvent, count: int) -> Iterator[tuple[float, float, int]]:
    """Yields sampling probability, noise multiplier and number of the Gaussians in `event`."""
    match event:
        case GaussianDpEvent():
            yield 1.0, event.noise_multiplier, count
        case PoissonSampledDpEvent():
            inner = list(_gaussians(event.event, 1))
            if inner:  # several on one sample are one, of the noise that they make together
                precision = sum(
                    times / noise**2 if noise else math.inf for _, noise, times in inner
                )
                yield event.sampling_probability, precision**-0.5, count
        case SelfComposedDpEvent():
            yield from _gaussians(event.event, count * event.count)
        case RepeatAndSelectDpEvent():
            yield from _gaussians(event.event, count)
        case ComposedDpEvent():
            for part in event.events:
                yield from _gaussians(part, count)


# -- Inverses -------------------------------------------------------------------------

_Price: TypeAlias = Callable[[int], float]
# The cheap accountant says where to look.
_TIERS: Final[dict[Accountant, tuple[Accountant, ...]]] = {"rdp": ("rdp",), "pld": ("rdp", "pld")}


def calibrate(
    *,
    target_epsilon: float,
    delta: float,
    sampling_probability: float,
    steps: int,
    accountant: Accountant = "pld",
) -> float:
    """Returns the noise multiplier with which `steps` steps cost `target_epsilon` or less.

    Guarantees:
        The result is a multiple of 1e-4; its `epsilon` was computed and is at most
        `target_epsilon`. It is at least 0.998 of that, or one 1e-4 less noise costs more,
        or the result is 1e-4 itself.

    Raises:
        PrivacyError: No noise multiplier up to a million reaches the target.
        ValueError: A number is out of its range.
    """
    if not 0 < target_epsilon < math.inf:
        raise ValueError(f"{target_epsilon=} must be positive and finite")

    def price(tier: Accountant, grid: int) -> float:
        event = poisson_gaussian(
            sampling_probability=sampling_probability, noise_multiplier=grid / _GRID, steps=steps
        )
        return epsilon(event, delta, tier)

    grid = _GRID
    for tier in _tiers(accountant):
        grid = _least_noise(partial(price, tier), target_epsilon, grid)
    return grid / _GRID


def steps_within(
    *,
    budget_epsilon: float,
    delta: float,
    sampling_probability: float,
    noise_multiplier: float,
    accountant: Accountant = "pld",
) -> int:
    """Returns the number of steps that fit: they cost `budget_epsilon` or less.

    Guarantees:
        `epsilon` of the result was computed and is at most `budget_epsilon`, and that of
        one step more is above. 0 when not even one fits; never more than ten million.

    Raises:
        ValueError: A number is out of its range.
    """

    def price(tier: Accountant, steps: int) -> float:
        event = poisson_gaussian(
            sampling_probability=sampling_probability,
            noise_multiplier=noise_multiplier,
            steps=steps,
        )
        return epsilon(event, delta, tier)

    if math.isnan(budget_epsilon):
        raise ValueError(f"{budget_epsilon=} must be a number")
    steps = 1
    for tier in _tiers(accountant):
        steps = _most_steps(partial(price, tier), budget_epsilon, max(1, steps))
    return steps


def _least_noise(price: _Price, target: float, start: int) -> int:
    price = cache(price)
    good = bad = start
    while price(good) > target:
        good, bad = -(-good * 5 // 4), good
        if good > _LARGEST_GRID:
            raise PrivacyError(
                f"no noise multiplier up to {_LARGEST_GRID / _GRID:g} gives epsilon {target:g}; "
                "raise it, or take fewer steps"
            )
    while price(bad) <= target:
        if bad == 1:
            return 1
        good, bad = bad, bad * 4 // 5
    return _boundary(price, target, (good, bad), _CLOSENESS)


def _most_steps(price: _Price, budget: float, start: int) -> int:
    price = cache(price)
    good = bad = start
    if price(start) > budget:
        if price(1) > budget:
            return 0
        good = 1
    while price(bad) <= budget:
        if bad == MOST_STEPS:
            return MOST_STEPS
        good, bad = bad, min(2 * bad, MOST_STEPS)
    return _boundary(price, budget, (good, bad), 1)


def _boundary(price: _Price, target: float, bracket: tuple[int, int], closeness: float) -> int:
    """Returns an affordable integer: next to one that is not, or close enough to `target`.

    Interpolates the logarithm of the price in the logarithm of the integer, and steps a
    little beyond, so that both ends of the bracket move.
    """
    good, bad = bracket
    while abs(good - bad) > 1 and price(good) < closeness * target:
        share = 0.5
        if price(good) > 0 and price(bad) < math.inf:
            share = math.log(target / price(good)) / math.log(price(bad) / price(good))
            share = min(0.95, max(0.05, share + (0.01 if share < 0.5 else -0.01)))
        guess = round(good * (bad / good) ** share)
        guess = min(max(good, bad) - 1, max(min(good, bad) + 1, guess))
        good, bad = (guess, bad) if price(guess) <= target else (good, guess)
    return good


# -- Ranges ---------------------------------------------------------------------------


def _tiers(accountant: Accountant) -> tuple[Accountant, ...]:
    if accountant not in _TIERS:
        raise ValueError(f"{accountant=}; expected one of {sorted(_TIERS)}")
    return _TIERS[accountant]


def _check_delta(delta: float) -> None:
    if not 0 < delta < 1:
        raise ValueError(f"{delta=} must be within (0, 1)")
