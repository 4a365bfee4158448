# SPDX-License-Identifier: Apache-2.0
"""The exponential moving average of a run's weights, as an immutable value.

Averaging smooths the noise of the last rounds out of the model. It reads released weights
only, so under differential privacy it is post-processing and costs no budget.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import ConfigError, DataError
from consilium.learning.parameters import Vector


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WeightAverage:
    """The running average of the weights seen so far; `include` makes the next one.

    After w_1 .. w_t it holds sum_i (1 - d) * d**(t - i) * w_i with d the decay, in float64;
    `weights` divides by 1 - d**t, the sum of those coefficients, so that the start at zero
    leaves no trace. Decay 0 is the last weights.
    """

    decay: float
    steps: int
    total: NDArray[np.float64] = field(repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1:
            raise ConfigError(
                f"decay={self.decay}, expected 0 or more and less than 1; "
                "1 - 1 / k averages about the last k rounds"
            )

    def include(self, weights: Vector) -> "WeightAverage":
        """Returns the average with one more round's weights, shape (dimension,).

        Raises:
            ValueError: The shape differs from that of the rounds before.
        """
        if weights.shape != self.total.shape:
            raise ValueError(f"{weights.shape=}, expected {self.total.shape} as in other rounds")
        total = self.decay * self.total + (1 - self.decay) * weights.astype(np.float64)
        return WeightAverage(decay=self.decay, steps=self.steps + 1, total=total)

    def weights(self) -> Vector:
        """Returns the average, shape (dimension,), float32.

        Raises:
            ValueError: No weights have been included yet.
        """
        if self.steps == 0:
            raise ValueError("no weights yet, expected at least one round; call include first")
        return (self.total / (1 - self.decay**self.steps)).astype(np.float32)

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Returns the average as named arrays, copied, for a checkpoint."""
        return {
            "decay": np.array([self.decay]),
            "steps": np.array([self.steps], dtype=np.int64),
            "total": self.total.copy(),
        }

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> "WeightAverage":
        """Returns the average that `to_arrays` wrote.

        Raises:
            DataError: A name is missing or unknown, or an array has another type or shape.
        """
        kinds = {name: (array.dtype.str, array.ndim) for name, array in arrays.items()}
        if kinds != {"decay": ("<f8", 1), "steps": ("<i8", 1), "total": ("<f8", 1)}:
            raise DataError(
                f"weight average has arrays {kinds}, expected float64 decay and total and int64 "
                "steps; use a checkpoint of this version"
            )
        if not len(arrays["decay"]) == len(arrays["steps"]) == 1:
            raise DataError("weight average has no single decay; use a complete checkpoint")
        return WeightAverage(
            decay=float(arrays["decay"][0]),
            steps=int(arrays["steps"][0]),
            total=arrays["total"].astype(np.float64),
        )


def no_average_yet(decay: float, dimension: int) -> WeightAverage:
    """Returns the average before the first round, for weights of shape (dimension,)."""
    return WeightAverage(decay=decay, steps=0, total=np.zeros(dimension))
