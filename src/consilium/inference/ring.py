# SPDX-License-Identifier: Apache-2.0
"""Integers modulo a power of two as unsigned words, and the bytes they travel as.

A ring of b bits lives in the smallest word that holds it, its unused high bits zero, and
travels in ceil(b / 8) bytes, little-endian. Two rings are in use: the wide one of linear
layers (32, 40, 48, 56 or 64 bits) and the narrow one of comparisons.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from consilium.errors import RemoteProtocolError

NARROW_BITS: Final = 21  # of the ring in which values are compared
WINDOW: Final = NARROW_BITS - 1  # magnitudes below 2**WINDOW are compared exactly
WIDE_BITS: Final = (32, 40, 48, 56, 64)

Words: TypeAlias = NDArray[np.unsignedinteger]
Signed: TypeAlias = NDArray[np.int64]


def word(bits: int) -> np.dtype[np.unsignedinteger]:
    """Returns the type of the words that hold a ring of `bits`."""
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64):
        if bits <= np.dtype(kind).itemsize * 8:
            return np.dtype(kind)
    raise ValueError(f"{bits=}, expected at most 64")


def reduce(words: Words, bits: int) -> Words:
    """Returns `words` modulo 2**bits, in the words of that ring; a copy where anything changes."""
    kind = word(bits)
    if bits == words.dtype.itemsize * 8:
        return words
    return (words & words.dtype.type(2**bits - 1)).astype(kind)


def signed(words: Words, bits: int) -> Signed:
    """Returns the representative of each word in [-2**(bits-1), 2**(bits-1))."""
    lift = np.uint64(64 - bits)
    return (words.astype(np.uint64) << lift).view(np.int64) >> np.int64(lift)


def ring(values: Signed, bits: int) -> Words:
    """Returns signed integers as words of the ring."""
    return reduce(values.astype(np.int64).view(np.uint64), bits)


def packed_size(count: int, bits: int) -> int:
    """Returns the bytes of `count` words of a ring of `bits`."""
    return count * -(-bits // 8)


def pack(words: Words, bits: int) -> bytes:
    """Returns the bytes of `words`, row-major."""
    size = -(-bits // 8)
    flat = np.ascontiguousarray(words).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.itemsize)[:, :size].tobytes()


def unpack(data: bytes | memoryview, bits: int, shape: tuple[int, ...]) -> Words:
    """Returns the words in `data`, of `shape`.

    Raises:
        RemoteProtocolError: Too many bytes or too few, or a word that is not of the ring.
    """
    count, size = int(np.prod(shape)), -(-bits // 8)
    if len(data) != count * size:
        raise RemoteProtocolError(
            f"{len(data)} bytes for {count} values of {size}; expected {count * size}"
        )
    kind = word(bits)
    raw = np.frombuffer(data, np.uint8).reshape(count, size)
    if size == kind.itemsize:
        words: Words = raw.reshape(-1).view(kind)
    else:
        spread = np.zeros((count, kind.itemsize), np.uint8)
        spread[:, :size] = raw
        words = spread.reshape(-1).view(kind)
    if bits % 8 and bool(np.any(words >> kind.type(bits))):
        raise RemoteProtocolError(f"a value above {bits} bits; expected words of the ring")
    return words.reshape(shape)
