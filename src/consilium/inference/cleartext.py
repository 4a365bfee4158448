# SPDX-License-Identifier: Apache-2.0
"""The same program on values in the clear, in the same fixed point: the oracle of every runtime.

Slow and obvious: int64 sums, no masks. `Truncate` rounds to the nearest, where the protocol
rounds at random; so the two differ by roundings and by nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.inference import linear
from consilium.inference.program import (
    Convolve,
    Larger,
    Open,
    Positive,
    Program,
    Truncate,
    sources,
)
from consilium.inference.ring import NARROW_BITS, Signed, ring, signed
from consilium.inference.sharing import to_reals, to_ring
from consilium.inference.weights import Weights

Rounding: TypeAlias = Callable[[Signed, int], Signed]


@final
@dataclass(frozen=True, slots=True)
class ClearRun:
    """Logits (n, classes), and the largest magnitude that each `Truncate` made, by step."""

    logits: NDArray[np.float64]
    peaks: dict[int, int]


def to_nearest(values: Signed, bits: int) -> Signed:
    """Returns values / 2**bits, rounded to the nearest."""
    return (values + np.int64(1 << bits >> 1)) >> np.int64(bits)


def run_clear(
    program: Program,
    weights: Weights,
    images: NDArray[np.float32],
    rounding: Rounding = to_nearest,
) -> ClearRun:
    """Returns what the program makes of `images` (n, height, width, channels)."""
    bits = program.ring_bits
    values = {0: signed(to_ring(images, program.image_fraction, bits), bits)}
    peaks: dict[int, int] = {}
    for number, step in enumerate(program.steps):
        read = [values[k] for k in sources(step)]
        match step:
            case Open():
                made = read[0]
            case Convolve():
                made = _convolved(program, weights, step, read[0])
            case Truncate():
                made = rounding(read[0], step.bits)
                peaks[number] = int(np.abs(made).max())
                made = signed(ring(made, NARROW_BITS), NARROW_BITS)
            case Larger():
                made = np.maximum(*read)
            case Positive():
                made = np.maximum(read[0], 0)
            case _:
                made = signed(linear.apply(step, [ring(one, 64) for one in read], 64), 64)
        values[number + 1] = made
    last = ring(values[len(program.steps)], bits)
    return ClearRun(to_reals(last, program.unit, bits).reshape(len(images), -1), peaks)


def _convolved(program: Program, weights: Weights, step: Convolve, images: Signed) -> Signed:
    """Returns the convolution, one place of the kernel at a time."""
    shape, bits = program.weights[step.weight], program.ring_bits
    matrix = signed(weights.matrices[step.weight], bits)
    bias = signed(weights.biases[step.weight], bits)
    if step.flat:
        return (images.reshape(len(images), -1) @ matrix + bias).reshape(len(images), 1, 1, -1)
    edge = (step.padding, step.padding)
    padded = np.pad(images, ((0, 0), edge, edge, (0, 0)))
    kernel = matrix.reshape(shape.height, shape.width, shape.inputs, shape.outputs)
    height = (padded.shape[1] - shape.height) // step.stride + 1
    width = (padded.shape[2] - shape.width) // step.stride + 1
    total = np.zeros((len(images), height, width, shape.outputs), np.int64) + bias
    for i in range(shape.height):
        for j in range(shape.width):
            seen = padded[:, i:, j:][:, :: step.stride, :: step.stride][:, :height, :width]
            total += seen @ kernel[i, j]
    return signed(ring(total, bits), bits)
