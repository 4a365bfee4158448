# SPDX-License-Identifier: Apache-2.0
"""From a network and the ranges of its values to a program and its weights in fixed point.

A value is an integer times 2**-fraction times a public factor. Before each ReLU the fraction is
the largest that keeps the bound below the window of the comparison (half of it before a maximum,
which compares differences); all convolutions make one fraction, so that sums fit, and their
weights get what is left of it. A network that leaves too little is refused.

Guarantees: where the bounds hold, no comparison is wrong and nothing wraps.
"""

import math
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from consilium.errors import ConfigError
from consilium.inference import program as steps
from consilium.inference.network import (
    Average,
    Join,
    Linear,
    Maximum,
    Network,
    Relu,
    Scale,
    Sum,
    evaluate,
    reads,
)
from consilium.inference.program import Program, Step, WeightShape, check_program
from consilium.inference.ranges import Ranges
from consilium.inference.ring import NARROW_BITS, WIDE_BITS, WINDOW
from consilium.inference.sharing import to_ring
from consilium.inference.weights import Weights

DEFAULT_RING: Final = 40
MOST_FRACTION: Final = 16  # of an activation; more is never seen in an answer
LEAST_FRACTION: Final = 8
LEAST_WEIGHT_FRACTION: Final = 11
IMAGE_FRACTION: Final = 12
_SLACK: Final = 1.02  # for roundings


@final
@dataclass(frozen=True, slots=True)
class Compiled:
    """A program, which is public, its weights, which are not, and what its ranges rest on."""

    program: Program
    weights: Weights = field(repr=False)
    ranges: Ranges


def compile_network(network: Network, ranges: Ranges, ring_bits: int = DEFAULT_RING) -> Compiled:
    """Returns the program of `network` in a wide ring of `ring_bits`.

    Raises:
        ConfigError: The ranges leave too few bits, or layers whose scales do not fit.
    """
    if ring_bits not in WIDE_BITS:
        raise ConfigError(f"{ring_bits=}, expected one of {WIDE_BITS}")
    if not all(math.isfinite(bound) for bound in ranges.bounds):
        raise ConfigError("a value of the model has no bound: its weights are not finite")
    writer = _Writer(network, ranges, ring_bits)
    for number in range(len(network.layers)):
        writer.take(number)
    program, weights = writer.end()
    check_program(program)
    return Compiled(program, weights, ranges)


@final
@dataclass(frozen=True, slots=True)
class _Scaled:
    """Where a value is, and what its integers stand for: times 2**-fraction * factor."""

    place: int
    fraction: int
    factor: float = 1.0


@final
class _Writer:
    def __init__(self, network: Network, ranges: Ranges, ring_bits: int) -> None:
        self._network, self._ranges, self._bits = network, ranges, ring_bits
        self._factors = _factors(network)
        zeros = torch.zeros(1, *network.image)
        self._sides = [value.shape[2] for value in evaluate(network, zeros)]
        self._fractions = self._activation_fractions()
        least = min(self._fractions.values(), default=LEAST_FRACTION)
        self._sum_fraction = ring_bits - NARROW_BITS + least
        self._values: list[_Scaled] = [_Scaled(0, IMAGE_FRACTION)]
        self._opened: dict[int, int] = {}
        self._steps: list[Step] = []
        self._shapes: list[WeightShape] = []
        self._matrices: list[NDArray[np.unsignedinteger]] = []
        self._biases: list[NDArray[np.unsignedinteger]] = []

    def take(self, number: int) -> None:
        """Writes the steps of one layer."""
        layer = self._network.layers[number]
        read = [self._values[k] for k in reads(layer)]
        match layer:
            case Linear():
                made = self._linear(layer, read[0], number)
            case Relu() | Maximum():
                made = self._nonlinear(layer, read[0], number)
            case Average():
                size = layer.height * layer.width
                step = steps.Sum(
                    read[0].place, layer.rows, layer.columns, layer.height, layer.width
                )
                made = _Scaled(self._step(step), read[0].fraction, read[0].factor / size)
            case Scale():
                made = _Scaled(read[0].place, read[0].fraction, read[0].factor * layer.factor)
            case Join():
                self._check_alike(read, number)
                step_join = steps.Concatenate(tuple(one.place for one in read))
                made = _Scaled(self._step(step_join), read[0].fraction, read[0].factor)
            case Sum():
                made = self._sum(read, number)
        self._values.append(made)

    def end(self) -> tuple[Program, Weights]:
        """Returns the program and its weights."""
        answer = self._values[-1]
        channels, height, width = self._network.image
        program = Program(
            ring_bits=self._bits,
            image=(height, width, channels),
            image_fraction=IMAGE_FRACTION,
            weights=tuple(self._shapes),
            steps=tuple(self._steps),
            unit=answer.factor * 2.0**-answer.fraction,
        )
        return program, Weights(tuple(self._matrices), tuple(self._biases))

    # -- Layers -----------------------------------------------------------------------

    def _linear(self, layer: Linear, read: _Scaled, number: int) -> _Scaled:
        fraction = self._sum_fraction
        if number == len(self._network.layers) - 1:
            fraction = self._bits - 2 - _bits(self._ranges.bounds[number + 1])
        weight = layer.weight.double().numpy() * read.factor
        left = fraction - read.fraction
        if left < LEAST_WEIGHT_FRACTION:
            raise ConfigError(
                f"layer {number} has {left} bits for its weights; expected "
                f"{LEAST_WEIGHT_FRACTION} or more: use a wider ring than {self._bits} bits"
            )
        rows = weight.transpose(2, 3, 1, 0)
        height, width, inputs, outputs = rows.shape
        self._matrices.append(to_ring(rows.reshape(-1, outputs), left, self._bits))
        self._biases.append(to_ring(layer.bias.double().numpy(), fraction, self._bits))
        self._shapes.append(WeightShape(height, width, inputs, outputs))
        if layer.flat:
            self._shapes[-1] = WeightShape(1, 1, height * width * inputs, outputs)
        step = steps.Convolve(
            self._open(read.place),
            weight=len(self._shapes) - 1,
            stride=layer.stride,
            padding=layer.padding,
            flat=layer.flat,
        )
        return _Scaled(self._step(step), fraction)

    def _open(self, place: int) -> int:
        if place not in self._opened:
            self._opened[place] = self._step(steps.Open(place))
        return self._opened[place]

    def _nonlinear(self, layer: Relu | Maximum, read: _Scaled, number: int) -> _Scaled:
        """A maximum truncates; the ReLU behind it takes what is already truncated."""
        fraction, place = self._fractions[number], read.place
        if read.fraction != fraction:
            place = self._step(steps.Truncate(place, read.fraction - fraction))
        if isinstance(layer, Maximum):
            return _Scaled(self._maximum(layer, place), fraction, read.factor)
        return _Scaled(self._step(steps.Positive(place)), fraction, read.factor)

    def _maximum(self, layer: Maximum, place: int) -> int:
        if layer.before or layer.after:
            place = self._step(steps.Pad(place, layer.before, layer.after))
        side = self._sides[layer.source] + layer.before + layer.after
        count = (side - layer.size) // layer.stride + 1
        for axis in (1, 0):
            best = self._step(steps.Slice(place, axis, 0, layer.stride, count))
            for start in range(1, layer.size):
                other = self._step(steps.Slice(place, axis, start, layer.stride, count))
                best = self._step(steps.Larger(best, other))
            place = best
        return place

    def _sum(self, read: list[_Scaled], number: int) -> _Scaled:
        left, right = read
        if not math.isclose(left.factor, right.factor, rel_tol=1e-12):
            raise ConfigError(f"layer {number} adds values of two scales; compile another model")
        most = max(left.fraction, right.fraction)
        step = steps.Add(
            left.place,
            right.place,
            left_shift=most - left.fraction,
            right_shift=most - right.fraction,
        )
        return _Scaled(self._step(step), most, left.factor)

    def _check_alike(self, read: list[_Scaled], number: int) -> None:
        if len({(one.fraction, one.factor) for one in read}) > 1:
            raise ConfigError(f"layer {number} joins values of two scales; compile another model")

    def _step(self, step: Step) -> int:
        self._steps.append(step)
        return len(self._steps)

    # -- Fractions --------------------------------------------------------------------

    def _activation_fractions(self) -> dict[int, int]:
        """Returns the fraction at each ReLU and maximum, by layer."""
        found: dict[int, int] = {}
        for number, layer in enumerate(self._network.layers):
            if not isinstance(layer, Relu | Maximum):
                continue
            before = layer.source - 1
            if isinstance(layer, Relu) and before in found:
                found[number] = found[before]
                continue
            bound = self._ranges.bounds[layer.source] / self._factors[layer.source]
            room = WINDOW - (1 if isinstance(layer, Maximum) else 0)
            found[number] = min(MOST_FRACTION, room - _bits(bound))
            if found[number] < LEAST_FRACTION:
                raise ConfigError(
                    f"before layer {number} values may reach {bound:.3g} ({self._ranges.basis}); "
                    f"expected below {2.0 ** (room - LEAST_FRACTION):.3g}: calibrate the ranges "
                    "on images like those that will be asked about, or use a smaller model"
                )
        return found


def _bits(bound: float) -> int:
    return math.ceil(math.log2(max(bound, 2.0**-20) * _SLACK))


def _factors(network: Network) -> list[float]:
    """Returns the factor that each value will carry."""
    found = [1.0]
    for layer in network.layers:
        factor = found[reads(layer)[0]]
        match layer:
            case Linear():
                found.append(1.0)
            case Average():
                found.append(factor / (layer.height * layer.width))
            case Scale():
                found.append(factor * layer.factor)
            case _:
                found.append(factor)
    return found
