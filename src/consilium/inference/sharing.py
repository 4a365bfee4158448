# SPDX-License-Identifier: Apache-2.0
"""A secret as two shares, each uniform on its own; and reals as integers of the ring."""

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError
from consilium.inference.ring import Words, packed_size, reduce, ring, signed, word


def random_size(count: int, bits: int) -> int:
    """Returns how many random bytes `share` needs for `count` values."""
    return count * word(bits).itemsize


def share(secret: Words, randomness: bytes, bits: int) -> tuple[Words, Words]:
    """Returns (first, second), first + second = secret, first made of `randomness` alone.

    Args:
        secret: Words of the ring.
        randomness: `random_size` bytes of the operating system, used for nothing else.
        bits: Of the ring.

    Raises:
        ValueError: Not as many random bytes as needed.
    """
    if len(randomness) != random_size(secret.size, bits):
        raise ValueError(f"{len(randomness)} random bytes for {packed_size(secret.size, bits)}")
    drawn: Words = np.frombuffer(randomness, word(bits)).reshape(secret.shape)
    first = reduce(drawn, bits)
    return first, reduce(secret - first, bits)


def unshare(first: Words, second: Words, bits: int) -> Words:
    """Returns the secret of two shares."""
    return reduce(first + second, bits)


def to_ring(reals: NDArray[np.floating], fraction: int, bits: int) -> Words:
    """Returns round(x * 2**fraction) in the ring.

    Raises:
        DataError: A value that is not finite or does not fit the ring.
    """
    scaled = np.rint(np.asarray(reals, np.float64) * 2.0**fraction)
    limit = 2.0 ** (min(bits, 63) - 1)
    if not np.all(np.abs(scaled) < limit):
        raise DataError(f"a value of {limit} units or more, or none; expected finite, smaller ones")
    return ring(scaled.astype(np.int64), bits)


def to_reals(words: Words, unit: float, bits: int) -> NDArray[np.float64]:
    """Returns what `words` stand for."""
    return signed(words, bits).astype(np.float64) * unit
