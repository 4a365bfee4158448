# SPDX-License-Identifier: Apache-2.0
"""Processes that take one private step together, each with a part of the patients drawn.

All draw the same sample with the same coins, each clips the patients of its places, the sums
are added up in float64, and all add the same noise and move their copies of the model alike.
So the mechanism is that of one process, step by step: one draw, one sum, one noise, one charge.

Guarantees: those of one process, as long as the processes trust each other and nobody reads
what they say to each other: the shared secret gives the noise away. Processes whose records,
plan or model differ compute nonsense; they must have been started alike.

Not here: how they talk (`adapters.process_group`).
"""

from typing import Final, Protocol, final

from torch import Tensor


class Team(Protocol):
    """The processes of one training, seen from one of them."""

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def agree(self, secret: bytes) -> bytes:
        """Returns the secret of process 0, the same everywhere."""
        ...

    def together(self, part: Tensor) -> Tensor:
        """Returns the sum of the parts of all processes, float64, the same everywhere."""
        ...


@final
class Alone:
    """A process without others."""

    rank = 0
    size = 1

    def agree(self, secret: bytes) -> bytes:
        """Returns the secret."""
        return secret

    def together(self, part: Tensor) -> Tensor:
        """Returns the part."""
        return part


ALONE: Final = Alone()
