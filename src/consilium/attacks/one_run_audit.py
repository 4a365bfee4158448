# SPDX-License-Identifier: Apache-2.0
"""A lower bound on epsilon from one training run: many canaries, each in or out by a coin.

Every canary is put into the training data by its own fair coin. After the run the attacker
scores each canary, names those with the highest scores as in and those with the lowest as out,
and leaves the rest alone. A mechanism that is (epsilon, delta)-differentially private allows
only so many right guesses; more of them reject the claim.

The bound holds with the stated confidence over coins and run, for the relation of one canary
added or removed. It is a floor: the true epsilon may be far above it, and a bound below a claim
does not confirm the claim. It fails when scores look at the coins other than through the run,
or when the number of guesses was chosen after the scores were seen.
Source: Steinke, Nasr, Jagielski 2023, theorem 5.2 (arXiv:2305.08846).
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_LARGEST: Final = 100.0  # epsilon; no number of canaries shows more
_HALVINGS: Final = 40


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """How well an attacker guessed.

    Attributes:
        canaries: Records that were in or out by a coin.
        made: Guesses, not more than canaries.
        right: Of them.
    """

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries:
            raise ValueError(f"{self} is impossible; expected 0 <= right <= made <= canaries")


def guess(included: NDArray[np.bool_], scores: NDArray[np.float64], *, made: int) -> Guesses:
    """Returns how many of `made` guesses are right: half of them on the highest scores.

    Args:
        included: Shape (canaries,), the coins.
        scores: Shape (canaries,), high for a canary that seems to be in.
        made: An even number, chosen before the scores were seen.

    Raises:
        ValueError: The shapes differ, or `made` is odd, negative or more than the canaries.
    """
    canaries = len(included)
    if included.shape != scores.shape or made % 2 or not 0 <= made <= canaries:
        raise ValueError(
            f"{made=} of coins {included.shape} and scores {scores.shape}; expected an even "
            "number of guesses and one score a canary"
        )
    order = np.argsort(scores, kind="stable")
    out, in_ = order[: made // 2], order[canaries - made // 2 :]
    right = int((~included[out]).sum() + included[in_].sum())
    return Guesses(canaries=canaries, made=made, right=right)


def p_value(guesses: Guesses, *, epsilon: float, delta: float) -> float:
    """Returns the most likely that so many right guesses are under (epsilon, delta).

    With W ~ Binomial(made, e^eps / (1 + e^eps)), v right guesses and m canaries it is
    Pr[W >= v] + 2 m delta max over i = 1..v of Pr[v > W >= v - i] / i, at most 1.

    Raises:
        ValueError: `epsilon` is negative, or not 0 <= delta <= 1.
    """
    if not epsilon >= 0 or not 0 <= delta <= 1:
        raise ValueError(f"{epsilon=} must be >= 0 and {delta=} within [0, 1]")
    law = stats.binom(guesses.made, 1 / (1 + math.exp(-epsilon)))
    beyond = float(law.sf(guesses.right - 1))
    if not guesses.right:
        return 1.0
    reach = np.arange(1, guesses.right + 1)
    below = law.cdf(guesses.right - 1) - law.cdf(guesses.right - 1 - reach)
    spread = float((below / reach).max())
    return min(1.0, beyond + 2 * guesses.canaries * delta * spread)


def lower_bound(guesses: Guesses, *, delta: float, confidence: float = 0.95) -> float:
    """Returns the epsilon below which the guesses reject every claim at `delta`, 0 if none.

    Guarantees: for an (epsilon, delta) mechanism the result exceeds epsilon with probability at
        most 1 - confidence.

    Raises:
        ValueError: Not 0 < confidence < 1, or `delta` is out of range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"{confidence=} must be within (0, 1)")
    low, high = 0.0, _LARGEST
    if p_value(guesses, epsilon=low, delta=delta) > 1 - confidence:
        return 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rejected = p_value(guesses, epsilon=middle, delta=delta) <= 1 - confidence
        low, high = (middle, high) if rejected else (low, middle)
    return low
