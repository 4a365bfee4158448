# SPDX-License-Identifier: Apache-2.0
"""Keys expanded into masks and added to a vector.

The keys of a round's masks follow from its plan alone, so masks may be expanded before there is
a vector, and any run of blocks apart from the others: an adapter does both on threads.

Guarantees: two parties that hold one key make one mask, on any machine (words are
little-endian, as on the wire). A key serves one mask: the caller derives it for one round.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import final

import numpy as np

from consilium.keystream import BLOCK, TAG_BYTES, Keystream
from consilium.secagg.job import Vector


@final
@dataclass(frozen=True, slots=True)
class MaskKeys:
    """Keys of the masks of one upload: those a site adds to its vector, and takes off.

    Attributes:
        plan: Digest of the plan that they are for, 32 bytes.
        added: 32-byte keys.
        subtracted: 32-byte keys.
    """

    plan: bytes
    added: tuple[bytes, ...] = field(repr=False)
    subtracted: tuple[bytes, ...] = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Mask:
    """All masks of one upload, added up: shape (length,), for the plan with this digest."""

    plan: bytes
    words: Vector = field(repr=False)


def add_masks(
    vector: Vector,
    *,
    add: Iterable[bytes] = (),
    subtract: Iterable[bytes] = (),
    others: Sequence[Vector] = (),
    first: int = 0,
) -> None:
    """Adds the masks of the keys in `add` to `vector`, in place, and takes off the others.

    Args:
        vector: Shape (length,), contiguous, little-endian; the caller's own copy.
        add: 32-byte keys.
        subtract: 32-byte keys.
        others: Vectors of the same shape, added as well.
        first: Block of the masks that `vector` begins with.
    """
    plus = [Keystream(key) for key in add]
    minus = [Keystream(key) for key in subtract]
    step = BLOCK // vector.itemsize
    scratch = np.empty(min(vector.nbytes, BLOCK) + TAG_BYTES, np.uint8)
    # All masks of a block before the next block: vector and scratch stay in the L2 cache.
    for index, start in enumerate(range(0, vector.size, step), first):
        part = vector[start : start + step]
        target = scratch[: part.nbytes + TAG_BYTES]
        words = target[: part.nbytes].view(vector.dtype)
        for other in others:
            np.add(part, other[start : start + step], out=part)
        for stream in plus:
            stream.block_into(index, target)
            np.add(part, words, out=part)
        for stream in minus:
            stream.block_into(index, target)
            np.subtract(part, words, out=part)
