# SPDX-License-Identifier: Apache-2.0
"""Small programs that use every step, and weights for them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.inference.program import (
    Add,
    Concatenate,
    Convolve,
    Larger,
    Open,
    Pad,
    Positive,
    Program,
    Slice,
    Sum,
    Truncate,
    WeightShape,
)
from consilium.inference.ring import ring
from consilium.inference.weights import Weights

SEED: Final = bytes(range(32))


def every_step(ring_bits: int = 40, *, dropped: int = 11) -> Program:
    """Returns a program in which each kind of step has a part; it truncates `dropped` bits."""
    steps = (
        Open(0),
        Convolve(1, weight=0, padding=1),
        Truncate(2, bits=dropped),
        Pad(3, before=0, after=1),
        Slice(4, axis=1, start=0, stride=2, count=3),
        Slice(4, axis=1, start=1, stride=2, count=3),
        Larger(5, 6),
        Positive(7),
        Add(8, 8, left_shift=1),
        Concatenate((8, 9)),
        Sum(10, rows=(0, 3), columns=(0,), height=4, width=3),
        Open(11),
        Convolve(12, weight=1, flat=True),
    )
    weights = (WeightShape(3, 3, 2, 4), WeightShape(1, 1, 2 * 1 * 8, 3))
    image = (6, 6, 2)
    return Program(
        ring_bits=ring_bits,
        image=image,
        image_fraction=8,
        weights=weights,
        steps=steps,
        unit=2.0**-16,
    )


def some_weights(program: Program, *, seed: int = 1, size: int = 2**9) -> Weights:
    """Returns weights below `size`, drawn by a seed: they protect nobody."""
    draw = np.random.default_rng(seed)
    bits = program.ring_bits
    return Weights(
        tuple(ring(draw.integers(-size, size, (s.rows, s.outputs)), bits) for s in program.weights),
        tuple(ring(draw.integers(-size, size, s.outputs), bits) for s in program.weights),
    )


def some_images(program: Program, count: int, *, seed: int = 2) -> NDArray[np.float32]:
    """Returns images with values around 1."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, *program.image)).astype(np.float32)
