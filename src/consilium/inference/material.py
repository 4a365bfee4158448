# SPDX-License-Identifier: Apache-2.0
"""Correlated randomness of one image: what each operator holds before the image comes.

Three seeds make all of it. Operator 0 expands every array from its own seed; operator 1 expands
the masks from its own and gets the rest, the corrections, from the dealer, who alone knows both
seeds and what the arrays are shares of. Every array has a key of its own, derived from seed,
step and name, so nothing depends on the order of reading.

Guarantees: what one operator holds is uniform on its own: its own stream, or a secret minus a
stream that it does not know. When it fails: seeds that are used for two images give away the
difference of their masked values, so a material has a number, and is used once
(`operator.py` takes the receipt of that mark).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Final, TypeAlias, final

import numpy as np

from consilium import wire
from consilium.inference.program import (
    Convolve,
    Larger,
    Open,
    Positive,
    Program,
    check_program,
)
from consilium.inference.ring import (
    NARROW_BITS,
    Words,
    pack,
    packed_size,
    reduce,
    unpack,
    word,
)
from consilium.keystream import KEY_BYTES, Keystream

SEED_BYTES: Final = 32
COVER_BITS: Final = 7
GROUPS: Final = 4  # of five bits, in a window of 20
TABLE_BITS: Final = 32
PRODUCT_BITS: Final = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One array of the material of one image.

    Attributes:
        step: Of the program.
        name: What it is for.
        shape: Of the array, without the images.
        bits: Of its ring.
        dealt: The second operator's comes from the dealer.
    """

    step: int
    name: str
    shape: tuple[int, ...]
    bits: int
    dealt: bool

    @property
    def size(self) -> int:
        """Bytes in the corrections."""
        return packed_size(prod(self.shape), self.bits)


Arrays: TypeAlias = dict[tuple[int, str], Words]  # by step and name


def layout(program: Program) -> tuple[Part, ...]:
    """Returns the arrays that the material of one image has, in order."""
    return tuple(_parts(program))


def corrections_size(program: Program) -> int:
    """Returns the bytes that the dealer sends the second operator for each image."""
    return sum(part.size for part in layout(program) if part.dealt)


def _parts(program: Program) -> Iterator[Part]:
    values, wide = check_program(program), program.ring_bits
    for number, step in enumerate(program.steps):
        made = values[number + 1]
        match step:
            case Open():
                yield Part(step=number, name="mask", shape=made.shape, bits=wide, dealt=False)
            case Convolve():
                yield Part(step=number, name="product", shape=made.shape, bits=wide, dealt=True)
            case Larger():
                yield from _comparison(number, made.size, NARROW_BITS)
            case Positive():
                yield from _comparison(number, made.size, wide)
                shape, bits = (made.size, 2), wide - NARROW_BITS
                yield Part(step=number, name="wraps", shape=shape, bits=bits, dealt=True)
            case _:
                pass


def _comparison(step: int, count: int, bits: int) -> Iterator[Part]:
    for name, shape, size, dealt in (
        ("mask", (count,), NARROW_BITS, False),
        ("cover", (count,), COVER_BITS, False),
        ("tables", (count, GROUPS), TABLE_BITS, True),
        ("products", (count,), PRODUCT_BITS, True),
        ("choice", (count,), bits, True),
        ("chosen", (count, 2), bits, True),
    ):
        yield Part(step=step, name=name, shape=shape, bits=size, dealt=dealt)


# -- Expansion ------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Expander:
    """Uniform arrays from one seed, each under a key of its own.

    Raises:
        ValueError: The seed is not 32 bytes.
    """

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Checks the seed's size."""
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"seed of {len(self.seed)} bytes; expected {SEED_BYTES}")

    def words(self, step: int, name: str, shape: tuple[int, ...], bits: int) -> Words:
        """Returns words of a ring of `bits`, uniform, of `shape`."""
        key = wire.derive(self.seed, "inference material", step, name)[:KEY_BYTES]
        kind, count = word(bits), prod(shape)
        pairs = Keystream(key).words(-(-count * kind.itemsize // 2), np.uint16)
        drawn: Words = pairs.view(np.uint8)[: count * kind.itemsize].view(kind)
        return reduce(drawn, bits).reshape(shape)

    def part(self, part: Part) -> Words:
        """Returns the array of one part."""
        return self.words(part.step, part.name, part.shape, part.bits)


def held(program: Program, seed: bytes, corrections: bytes | None) -> Arrays:
    """Returns the arrays of one operator; `corrections` are the second one's.

    Raises:
        RemoteProtocolError: The corrections are not of this program.
    """
    expander, arrays, at = Expander(seed), Arrays(), 0
    view = None if corrections is None else memoryview(corrections)
    for part in layout(program):
        if view is None or not part.dealt:
            arrays[part.step, part.name] = expander.part(part)
            continue
        found = view[at : at + part.size]
        arrays[part.step, part.name] = unpack(found, part.bits, part.shape)
        at += part.size
    if view is not None and at != len(view):
        unpack(view[at:], 8, (0,))
    return arrays


def masks_held(program: Program, seed: bytes) -> Arrays:
    """Returns the arrays of the second operator that no dealer corrects: masks and covers."""
    expander = Expander(seed)
    return {
        (part.step, part.name): expander.part(part) for part in layout(program) if not part.dealt
    }


def packed(program: Program, arrays: Arrays) -> bytes:
    """Returns the corrections among `arrays`, as the dealer sends them."""
    return b"".join(
        pack(arrays[part.step, part.name], part.bits) for part in layout(program) if part.dealt
    )


def stacked(program: Program, images: Sequence[Arrays]) -> Arrays:
    """Returns the arrays of several images as one: along a first axis, or flat in comparisons."""
    shapes = {(part.step, part.name): part for part in layout(program)}
    return {
        key: np.stack([arrays[key] for arrays in images])
        if _by_image(program, part)
        else np.concatenate([arrays[key] for arrays in images])
        for key, part in shapes.items()
    }


def _by_image(program: Program, part: Part) -> bool:
    return isinstance(program.steps[part.step], Open | Convolve)


def mask_weights(program: Program, seed: bytes) -> tuple[Words, ...]:
    """Returns one operator's share of the masks of a published model's weights."""
    expander = Expander(seed)
    return tuple(
        expander.words(number, "weights", (shape.rows, shape.outputs), program.ring_bits)
        for number, shape in enumerate(program.weights)
    )
