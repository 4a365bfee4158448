# SPDX-License-Identifier: Apache-2.0
"""Whether a model's confidence can be believed, and what it gains by staying silent.

Confidence is the probability of the most probable class. A model that abstains answers only
where its confidence reaches a threshold; everything else goes to a person. Which threshold is
right is chosen on validation records; a table of test records shows what each would have done.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.learning.resampling import Floats

BINS: Final = 15  # of equal width
THRESHOLDS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Records of like confidence.

    Attributes:
        low: Confidences above this,
        high: and up to this.
        records: How many there are, at least one.
        confidence: Their mean.
        accuracy: The share that is right.
    """

    low: float
    high: float
    records: int
    confidence: float
    accuracy: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Abstention:
    """What a model does that answers only where it is sure.

    Attributes:
        threshold: Least confidence of an answer.
        answered: Share of records that get one.
        accuracy: Share of those that is right; None where there are none.
    """

    threshold: float
    answered: float
    accuracy: float | None


def bins(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[Bin, ...]:
    """Returns the bins (0, 1/15], (1/15, 2/15], ... that have records, lowest first."""
    confidence, right = _judged(probabilities, labels)
    numbers = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
    return tuple(
        Bin(
            low=number / BINS,
            high=(number + 1) / BINS,
            records=int(own.sum()),
            confidence=float(confidence[own].mean()),
            accuracy=float(right[own].mean()),
        )
        for number in np.unique(numbers).tolist()
        for own in (numbers == number,)
    )


def calibration_error(found: tuple[Bin, ...]) -> float:
    """Returns the mean over records of |accuracy - confidence| of the record's bin.

    Source: Guo et al. 2017, equation 3.
    """
    gaps = sum(one.records * abs(one.accuracy - one.confidence) for one in found)
    return gaps / sum(one.records for one in found)


def abstentions(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[Abstention, ...]:
    """Returns what each of `THRESHOLDS` would do."""
    confidence, right = _judged(probabilities, labels)
    return tuple(
        Abstention(
            threshold=threshold,
            answered=float(sure.mean()),
            accuracy=float(right[sure].mean()) if sure.any() else None,
        )
        for threshold in THRESHOLDS
        for sure in (confidence >= threshold,)
    )


def _judged(probabilities: Floats, labels: NDArray[np.int64]) -> tuple[Floats, NDArray[np.bool_]]:
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
