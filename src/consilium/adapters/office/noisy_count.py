# SPDX-License-Identifier: Apache-2.0
"""A count with noise that hides one patient, from the operating system's randomness.

Two-sided geometric noise on an integer: P(k) is proportional to exp(-epsilon |k|), drawn exactly
as the difference of two geometric variables by integer coins. Guarantees: (epsilon, 0)-DP for one
patient added or removed; clamping at 0 is post-processing.
Source: Ghosh, Roughgarden and Sundararajan 2012, Definition 2.2 (arXiv:0811.2841); the exact coin:
Canonne, Kamath and Steinke 2020, Algorithm 1 (arXiv:2004.00010).
"""

import secrets
from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

Coin: TypeAlias = Callable[[int], int]  # uniform below its argument


def noisy_count(count: int, epsilon: float, below: Coin = secrets.randbelow) -> int:
    """Returns `count` with noise, never below 0.

    Args:
        count: Of patients.
        epsilon: Of the release; at most 1.
        below: Uniform integers.
    """
    rate = Fraction(epsilon).limit_denominator(1000)
    return max(0, count + _geometric(rate, below) - _geometric(rate, below))


def _geometric(rate: Fraction, below: Coin) -> int:
    """Returns how often a coin of probability exp(-rate) shows heads in a row."""
    heads = 0
    while _exp_coin(rate, below):
        heads += 1
    return heads


def _exp_coin(rate: Fraction, below: Coin) -> bool:
    """Returns True with probability exp(-rate), for 0 <= rate <= 1, exactly."""
    turn = 1
    while below(rate.denominator * turn) < rate.numerator:
        turn += 1
    return turn % 2 == 1
