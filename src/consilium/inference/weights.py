# SPDX-License-Identifier: Apache-2.0
"""Weights of a program: whole at the owner, shared at the operators, and their bytes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

from consilium.errors import RemoteProtocolError
from consilium.inference.program import Program
from consilium.inference.ring import Words, pack, packed_size, unpack
from consilium.inference.sharing import random_size, share


@final
@dataclass(frozen=True, slots=True)
class Weights:
    """A matrix (rows, outputs) and a bias (outputs,) for each weight shape of a program."""

    matrices: tuple[Words, ...] = field(repr=False)
    biases: tuple[Words, ...] = field(repr=False)


def weights_size(program: Program) -> int:
    """Returns the bytes of all weights."""
    return packed_size(sum(count for count, _ in _sizes(program)), program.ring_bits)


def pack_weights(program: Program, weights: Weights) -> bytes:
    """Returns the bytes of `weights`."""
    pairs = zip(weights.matrices, weights.biases, strict=True)
    return b"".join(pack(words, program.ring_bits) for pair in pairs for words in pair)


def unpack_weights(program: Program, data: bytes) -> Weights:
    """Returns the weights in `data`.

    Raises:
        RemoteProtocolError: Not as many bytes as the program needs.
    """
    if len(data) != weights_size(program):
        raise RemoteProtocolError(
            f"{len(data)} bytes of weights; expected {weights_size(program)} for this program"
        )
    found, at = [], 0
    for count, shape in _sizes(program):
        size = packed_size(count, program.ring_bits)
        found.append(unpack(memoryview(data)[at : at + size], program.ring_bits, shape))
        at += size
    return Weights(tuple(found[::2]), tuple(found[1::2]))


def _sizes(program: Program) -> Iterator[tuple[int, tuple[int, ...]]]:
    for shape in program.weights:
        yield shape.rows * shape.outputs, (shape.rows, shape.outputs)
        yield shape.outputs, (shape.outputs,)


def split_size(program: Program) -> int:
    """Returns how many random bytes `split` needs."""
    return random_size(sum(count for count, _ in _sizes(program)), program.ring_bits)


def split(program: Program, weights: Weights, randomness: bytes) -> tuple[Weights, Weights]:
    """Returns two shares of `weights`, the first made of `randomness` alone."""
    bits, at = program.ring_bits, 0
    whole = [words for pair in zip(weights.matrices, weights.biases, strict=True) for words in pair]
    firsts, seconds = [], []
    for words in whole:
        size = random_size(words.size, bits)
        first, second = share(words, randomness[at : at + size], bits)
        firsts.append(first)
        seconds.append(second)
        at += size
    one, other = (Weights(tuple(s[::2]), tuple(s[1::2])) for s in (firsts, seconds))
    return one, other
