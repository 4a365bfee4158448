# SPDX-License-Identifier: Apache-2.0
"""Keys expanded into masks and added to a vector.

Guarantees: two parties that hold one key make one mask, on any machine (words are
little-endian, as on the wire). A key serves one mask: the caller derives it for one round.
"""

from collections.abc import Iterable

import numpy as np

from consilium.keystream import BLOCK, Keystream
from consilium.secagg.job import Vector

_TAG_BYTES = 16  # scrap behind each block, see Keystream.block_into


def add_masks(vector: Vector, *, add: Iterable[bytes] = (), subtract: Iterable[bytes] = ()) -> None:
    """Adds the masks of the keys in `add` to `vector`, in place, and takes off the others.

    Args:
        vector: Shape (length,), contiguous, little-endian; the caller's own copy.
        add: 32-byte keys.
        subtract: 32-byte keys.
    """
    plus = [Keystream(key) for key in add]
    minus = [Keystream(key) for key in subtract]
    scratch = np.empty(BLOCK + _TAG_BYTES, np.uint8)
    words = scratch[:BLOCK].view(vector.dtype)
    step = words.size
    # All masks of a block before the next block: vector and scratch stay in the L2 cache.
    for index, start in enumerate(range(0, vector.size, step)):
        part = vector[start : start + step]
        for stream in plus:
            stream.block_into(index, scratch)
            np.add(part, words[: part.size], out=part)
        for stream in minus:
            stream.block_into(index, scratch)
            np.subtract(part, words[: part.size], out=part)
