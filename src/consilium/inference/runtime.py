# SPDX-License-Identifier: Apache-2.0
"""What answers about images, whoever made it: one small interface, bound to one model.

    our operators     two that compute on shares and a dealer: `adapters.inference.runtimes`
    SPU               three (ABY3) or two (Cheetah) nodes, no dealer: `adapters.inference.spu`
    in the clear      the same fixed point on the values themselves: the oracle, which hides nothing

Guarantees: none in common but the shapes. What a runtime hides, and from whom, is its `trust`.
Not here: processes, connections and clocks (`adapters`).
"""

from dataclasses import dataclass, field
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray


@final
@dataclass(frozen=True, slots=True)
class Spent:
    """What one party spent on an answer; None where the runtime cannot tell."""

    party: str
    cpu_seconds: float | None
    sent_bytes: int | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Logits of images, and what they cost.

    Attributes:
        logits: Shape (n, classes), images in order.
        seconds: From the images to the logits.
        spent: By party.
    """

    logits: NDArray[np.float64] = field(repr=False)
    seconds: float
    spent: tuple[Spent, ...]

    @property
    def cpu_seconds(self) -> float | None:
        """Of all parties that tell theirs; None where nobody does."""
        told = [one.cpu_seconds for one in self.spent if one.cpu_seconds is not None]
        return sum(told) if told else None

    @property
    def sent_bytes(self) -> int | None:
        """By all parties that tell theirs; None where nobody does."""
        told = [one.sent_bytes for one in self.spent if one.sent_bytes is not None]
        return sum(told) if told else None


class Runtime(Protocol):
    """Answers about images with one model."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def trust(self) -> str:
        """Who sees what if who keeps to the rules, in one sentence."""
        ...

    def infer(self, images: NDArray[np.float32]) -> Answered:
        """Returns the answer for preprocessed images (n, channels, height, width).

        Raises:
            DataError: Images that the model does not take.
            RoundAborted: A party stopped, or is away; nothing was opened.
        """
        ...
