# SPDX-License-Identifier: Apache-2.0
"""Poisson sampling cut at a size that never changes, and what the cut costs.

Compiled models and accelerators want every batch of one shape. A Poisson sample has none, so it
is cut at `most` patients and filled up to them. The cut ties patients together: whether one
gets a place may depend on another. That is outside the theorem which prices Poisson samples,
and the chance of it goes into delta.

Lemma. Let M be `steps` steps of a mechanism on Poisson samples of probability q, and M' the same
with every sample of more than B patients cut in any way. If M is (epsilon, delta), then M' is
(epsilon, delta + steps * tau), tau = Pr[Binomial(n, q) > B], n the larger neighbour's patients.
Proof: fix the coins of everybody but the patient in question; c of them show heads. For c < B
no cut happens and the step is that of M. For c > B put the whole step aside. For c = B put aside
the part, of mass q, in which the patient is drawn; in the other part both neighbours give the
same output. What was put aside has mass Pr[c > B] + q Pr[c = B] = tau in either direction. The
rest is a sub-distribution whose hockey-stick divergences from the neighbour's are at most those
of M's dominating pair, at every order, so that it composes as M does; what was put aside in
any of the steps adds its mass to delta once.

It fails when `most` depends on the data. No factor exp(epsilon) is needed, as it would be if the
two laws were only close in total variation.
"""

import math
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from consilium.dp.sampling import poisson_sample
from consilium.errors import PrivacyError
from consilium.keystream import Keystream

_ROUNDING: Final = 1e-9  # relative, of a binomial tail in double precision


@final
@dataclass(frozen=True, slots=True, eq=False)
class FixedSample:
    """A sample of one shape.

    Attributes:
        positions: Shape (most,), of patients; 0 where nobody is present.
        present: Shape (most,), whether the place is taken; the others must add nothing.
    """

    positions: NDArray[np.intp] = field(repr=False)
    present: NDArray[np.bool_] = field(repr=False)


def truncated_poisson_sample(
    count: int, probability: float, most: int, stream: Keystream
) -> FixedSample:
    """Returns a Poisson sample of `count` patients, cut at `most`, in that many places.

    Args:
        count: How many patients there are.
        probability: Of each patient's coin.
        most: Places, a public number; `least_most` finds one.
        stream: Of a key that nobody else holds, and that is used for this sample only.

    Guarantees: the sample of `poisson_sample`, if it fits; of a larger one, which happens with
        probability `overflow`, `most` patients, all sets of whom are equally likely.

    Raises:
        ValueError: `most` is negative, or `poisson_sample` refuses its arguments.
    """
    if most < 0:
        raise ValueError(f"{most=} must be >= 0")
    drawn = poisson_sample(count, probability, stream)
    if drawn.size > most:
        lots = stream.words(drawn.size, np.uint64)
        drawn = np.sort(drawn[np.argsort(lots, kind="stable")[:most]])
    positions = np.zeros(most, np.intp)
    positions[: drawn.size] = drawn
    return FixedSample(positions, np.arange(most) < drawn.size)


def overflow(count: int, probability: float, most: int) -> float:
    """Returns tau: the chance that a sample of `count` patients and one more is cut.

    One more, because a neighbour may have it. Never below the exact binomial tail.
    """
    return min(1.0, float(stats.binom.sf(most, count + 1, probability)) * (1 + _ROUNDING))


def delta_left(delta: float, *, steps: int, count: int, probability: float, most: int) -> float:
    """Returns the delta at which to price the Poisson event, so that the cut fits in `delta`.

    Guarantees: a mechanism whose Poisson event is (epsilon, result) is (epsilon, `delta`) with
        samples cut at `most`, by the lemma above.

    Raises:
        PrivacyError: The cut alone costs `delta` or more.
        ValueError: Not 0 < delta < 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"{delta=} must be within (0, 1)")
    cost = steps * overflow(count, probability, most)
    if cost >= delta:
        raise PrivacyError(
            f"{steps} steps of samples cut at {most} cost delta {cost:.3g}, expected below "
            f"{delta:.3g}: raise most to {_hint(delta, steps, count, probability)}"
        )
    return math.nextafter(delta - cost, 0)


def least_most(delta: float, *, steps: int, count: int, probability: float) -> int:
    """Returns the fewest places with which the cuts of all steps cost at most `delta`.

    Raises:
        ValueError: `delta` is not positive.
    """
    if not delta > 0:
        raise ValueError(f"{delta=} must be > 0")
    low, high = -1, count + 1  # a cut at count + 1 never happens
    while high - low > 1:
        middle = (low + high) // 2
        fits = steps * overflow(count, probability, middle) <= delta
        low, high = (low, middle) if fits else (middle, high)
    return high


def _hint(delta: float, steps: int, count: int, probability: float) -> int:
    return least_most(delta / 100, steps=steps, count=count, probability=probability)
