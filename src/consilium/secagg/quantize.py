# SPDX-License-Identifier: Apache-2.0
"""Real vectors as integers modulo 2**32, for secure sums of values that carry no noise.

Noised sums have a lattice of their own (`consilium.dp.plan.Lattice`). This one is for the
arms without differential privacy: it hides single updates from the coordinator and promises
nothing about what the sum reveals.
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import ConfigError

BITS: Final = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint:
    """Fixed point with room for the sum of `members` vectors.

    Attributes:
        members: Most vectors in a sum.
        bound: Entries are clamped to [-bound, bound] first.

    Guarantees: No sum wraps. |decode(sum of encodings) - sum of clamped vectors| is at most
    `error` in every coordinate.
    """

    members: int
    bound: float

    def __post_init__(self) -> None:
        if self.members < 1 or not (math.isfinite(self.bound) and self.bound > 0):
            raise ConfigError(f"fixed point with {self.members=}, {self.bound=}; expected > 0")

    @property
    def scale(self) -> float:
        """Integers per unit."""
        return float((2 ** (BITS - 1) - 1) // self.members) / self.bound

    @property
    def error(self) -> float:
        """Largest rounding error of a sum: half a unit for each member."""
        return self.members * 0.5 / self.scale

    def encode(self, values: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Returns `values`, shape (n,), clamped, rounded and modulo 2**32."""
        scaled = np.clip(values.astype(np.float64), -self.bound, self.bound) * self.scale
        return np.rint(scaled).astype(np.int64).astype(np.uint32)

    def decode(self, total: NDArray[np.uint32]) -> NDArray[np.float64]:
        """Returns the sum that `total` stands for, shape (n,)."""
        return total.view(np.int32) / self.scale
