# SPDX-License-Identifier: Apache-2.0
"""Poisson sampling: one independent coin for each patient, from a secret stream.

The accountant prices exactly this sampler. Fixed-size batches, shuffling and sampling
without replacement are other mechanisms with other prices; none of them is here.
"""

from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.keystream import Keystream

_WORD: Final = 1 << 64


def poisson_sample(count: int, probability: float, stream: Keystream) -> NDArray[np.intp]:
    """Returns which of `count` patients are in the sample, as ascending positions.

    Args:
        count: How many patients there are.
        probability: Of each coin; 0 takes nobody and 1 takes everybody.
        stream: Of a key that nobody else holds, and that is used for this sample only.

    Guarantees:
        Each position is in the sample independently of all others, with probability
        floor(probability * 2**64) / 2**64, computed exactly: never above the stated one.
        Fails when the stream's key is known: amplification by sampling needs a secret sample.

    Raises:
        ValueError: `count` is negative, or `probability` is outside [0, 1].
    """
    if count < 0:
        raise ValueError(f"{count=} must be >= 0")
    if not 0 <= probability <= 1:
        raise ValueError(f"{probability=} must be within [0, 1]")
    threshold = Fraction(probability) * _WORD // 1
    if threshold == _WORD:
        return np.arange(count)
    return np.flatnonzero(stream.words(count, np.uint64) < np.uint64(threshold))
