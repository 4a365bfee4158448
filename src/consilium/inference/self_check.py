# SPDX-License-Identifier: Apache-2.0
"""Whether this machine computes what the protocol means: a small network, shared and in the clear.

An operator asks before it serves. It also compiles every loop of `kernels`, so that no patient
waits for that. Guarantees: a machine on which shares do not add up to the oracle's answer is
refused before it holds a model. It is a check of arithmetic, not of a party's honesty.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import LocalProtocolError
from consilium.inference.cleartext import run_clear
from consilium.inference.program import (
    Convolve,
    Larger,
    Open,
    Positive,
    Program,
    Slice,
    Truncate,
    WeightShape,
)
from consilium.inference.protocol import Randomness, run_inference
from consilium.inference.sharing import to_ring
from consilium.inference.weights import Weights

_FRACTION: Final = 10  # of the image, of the weights, and of what is compared
_ROUNDINGS: Final = 64.0  # units of the last place that random roundings may move a logit


def check_machine(ring_bits: int, secret: Callable[[], bytes]) -> None:
    """Computes one made-up image both ways.

    Args:
        ring_bits: Of the wide ring.
        secret: Gives 32 bytes of the operating system.

    Raises:
        LocalProtocolError: The two answers differ.
    """
    program = _program(ring_bits)
    weights = Weights(
        tuple(
            to_ring(_waves(one.rows, one.outputs), _FRACTION, ring_bits) for one in program.weights
        ),
        tuple(to_ring(np.zeros(one.outputs), _FRACTION, ring_bits) for one in program.weights),
    )
    images = _waves(1, *program.image).astype(np.float32)
    shared = run_inference(program, weights, images, Randomness(secret()))
    off = np.abs(shared - run_clear(program, weights, images).logits).max()
    if off > _ROUNDINGS * 2.0**-_FRACTION:
        raise LocalProtocolError(
            f"this machine computes {off:.3g} off on shares; expected roundings only: do not "
            "serve from it, and install the package anew"
        )


def _waves(*shape: int) -> NDArray[np.float64]:
    """Returns numbers in [-1, 1] without a pattern that a wrong sum could hide behind."""
    waves: NDArray[np.float64] = np.sin(np.arange(np.prod(shape)) ** 1.5).reshape(shape)
    return waves


def _program(ring_bits: int) -> Program:
    """A convolution, a maximum, a ReLU and a linear layer."""
    return Program(
        ring_bits=ring_bits,
        image=(6, 6, 2),
        image_fraction=_FRACTION,
        weights=(WeightShape(3, 3, 2, 4), WeightShape(1, 1, 3 * 6 * 4, 3)),
        steps=(
            Open(0),
            Convolve(1, weight=0, padding=1),
            Truncate(2, _FRACTION),
            Slice(3, axis=0, start=0, stride=2, count=3),
            Slice(3, axis=0, start=1, stride=2, count=3),
            Larger(4, 5),
            Positive(6),
            Open(7),
            Convolve(8, weight=1, flat=True),
        ),
        unit=2.0 ** -(2 * _FRACTION),
    )
