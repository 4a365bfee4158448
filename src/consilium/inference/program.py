# SPDX-License-Identifier: Apache-2.0
"""What is computed: a straight line of steps with public shapes, the same for every party.

Value 0 is the image; step k makes value k + 1; the last value is the answer. Values are of
shape (height, width, channels), an image at a time, and of one of three kinds:

    wide     shares in the ring of `ring_bits`: what linear layers make
    narrow   shares in the ring of NARROW_BITS: signed values below 2**WINDOW, to be compared
    opened   a wide value minus its one-time mask, which both operators see

A program holds no weights: it may be shown to anyone. Guarantees: a `Program` that was built
names only earlier values of the right kind, fits its shapes, and its size is bounded, so that a
program that came over a wire cannot ask for unbounded memory.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Final, TypeAlias, final

import msgspec

from consilium import wire
from consilium.errors import ConfigError
from consilium.inference.ring import NARROW_BITS, WIDE_BITS
from consilium.wire import Message

Shape: TypeAlias = tuple[int, int, int]  # height, width, channels
MOST_VALUES: Final = 1 << 28  # in a program: all values together
MOST_WEIGHTS: Final = 1 << 28
_MOST_EDGE: Final = 64  # of padding

# -- Steps ----------------------------------------------------------------------------


@final
class Open(Message, frozen=True):
    """wide -> opened: the value minus a one-time mask, told to both operators."""

    source: int


@final
class Convolve(Message, frozen=True):
    """opened -> wide: times weights `weight`, plus their bias; `flat` is a linear layer."""

    source: int
    weight: int
    stride: int = 1
    padding: int = 0
    flat: bool = False


@final
class Truncate(Message, frozen=True):
    """wide -> narrow: z / 2**bits, rounded up or down at random with the right mean."""

    source: int
    bits: int


@final
class Pad(Message, frozen=True):
    """Zeros around height and width."""

    source: int
    before: int
    after: int


@final
class Slice(Message, frozen=True):
    """`count` rows (axis 0) or columns (axis 1) from `start`, `stride` apart."""

    source: int
    axis: int
    start: int
    stride: int
    count: int


@final
class Larger(Message, frozen=True):
    """narrow, narrow -> narrow: the larger of each two."""

    left: int
    right: int


@final
class Positive(Message, frozen=True):
    """narrow -> wide: the value where it is positive, else zero."""

    source: int


@final
class Sum(Message, frozen=True):
    """Sums over windows of height times width that start at `rows` and `columns`."""

    source: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    height: int
    width: int


@final
class Concatenate(Message, frozen=True):
    """Channels of all, one after the other."""

    sources: tuple[int, ...]


@final
class Add(Message, frozen=True):
    """wide, wide -> wide: left * 2**left_shift + right * 2**right_shift."""

    left: int
    right: int
    left_shift: int = 0
    right_shift: int = 0


Step: TypeAlias = (
    Open | Convolve | Truncate | Pad | Slice | Larger | Positive | Sum | Concatenate | Add
)


@final
class WeightShape(Message, frozen=True):
    """Of one convolution: a matrix (height * width * inputs, outputs) and a bias (outputs,)."""

    height: int
    width: int
    inputs: int
    outputs: int

    @property
    def rows(self) -> int:
        """Of the matrix."""
        return self.height * self.width * self.inputs


class Kind(StrEnum):
    """Of a value."""

    WIDE = "wide"
    NARROW = "narrow"
    OPENED = "opened"


# -- The program ----------------------------------------------------------------------


@final
class Program(Message, frozen=True):
    """The steps, the shapes of the weights, and how an image enters and the answer leaves.

    Attributes:
        ring_bits: Of the wide ring.
        image: Shape of the image as it enters.
        image_fraction: A pixel x enters as round(x * 2**image_fraction).
        weights: Shapes.
        steps: In order.
        unit: What one unit of the answer stands for; a logit is the signed answer times it.
    """

    ring_bits: int
    image: Shape
    image_fraction: int
    weights: tuple[WeightShape, ...]
    steps: tuple[Step, ...]
    unit: float

    def digest(self) -> bytes:
        """Returns 32 bytes that name this program."""
        return wire.digest("inference program", msgspec.msgpack.encode(self))


@final
@dataclass(frozen=True, slots=True)
class Value:
    """Shape and kind of one value."""

    shape: Shape
    kind: Kind

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


def check_program(program: Program) -> tuple[Value, ...]:
    """Returns shape and kind of every value, the image first.

    Raises:
        ConfigError: A step that cannot be carried out, or a program of unbounded size.
    """
    if program.ring_bits not in WIDE_BITS:
        raise ConfigError(f"ring_bits={program.ring_bits}, expected one of {WIDE_BITS}")
    if min(program.image) < 1 or not 0 <= program.image_fraction < program.ring_bits:
        raise ConfigError("a program with no image, or pixels beyond its ring; compile it anew")
    if sum(shape.rows * shape.outputs for shape in program.weights) > MOST_WEIGHTS:
        raise ConfigError(f"more than {MOST_WEIGHTS} weights; use a smaller model")
    values, total = [Value(program.image, Kind.WIDE)], prod(program.image)
    for number, step in enumerate(program.steps):
        made = _made(program, step, values, number)
        total += made.size
        if min(made.shape) < 1 or total > MOST_VALUES:
            raise ConfigError(f"step {number} makes {made.shape}: empty, or the program too large")
        values.append(made)
    if values[-1].kind is not Kind.WIDE:
        raise ConfigError("the answer of a program must be a wide value; compile it anew")
    return tuple(values)


def sources(step: Step) -> tuple[int, ...]:
    """Returns the values that a step reads."""
    match step:
        case Concatenate():
            return step.sources
        case Larger() | Add():
            return (step.left, step.right)
        case _:
            return (step.source,)


def last_uses(program: Program) -> tuple[int, ...]:
    """Returns for each value the last step that reads it; of the answer, one after the end."""
    last = [0] * (len(program.steps) + 1)
    for number, step in enumerate(program.steps):
        for source in sources(step):
            last[source] = number
    last[-1] = len(program.steps)
    return tuple(last)


def _made(program: Program, step: Step, values: list[Value], number: int) -> Value:
    """Returns what `step` makes."""
    read = [values[k] for k in sources(step) if 0 <= k <= number]
    if len(read) != len(sources(step)) or not read:
        raise ConfigError(f"step {number} reads a value that is not there; compile it anew")
    match step:
        case Open() | Convolve() | Truncate() | Positive():
            made = _secure(program, step, read[0])
        case Pad() | Slice() | Sum():
            made = _moved(step, read[0])
        case Larger() | Concatenate() | Add():
            made = _joined(program, step, read)
    if made is None:
        raise ConfigError(
            f"step {number}, {type(step).__name__}, does not fit {read[0].shape} "
            f"({read[0].kind}); compile the model anew"
        )
    return made


def _secure(
    program: Program, step: Open | Convolve | Truncate | Positive, read: Value
) -> Value | None:
    match step:
        case Open() if read.kind is Kind.WIDE:
            return Value(read.shape, Kind.OPENED)
        case Convolve() if read.kind is Kind.OPENED:
            return _convolved(program, step, read.shape)
        case Truncate() if read.kind is Kind.WIDE:
            fits = 1 <= step.bits <= program.ring_bits - NARROW_BITS
            return Value(read.shape, Kind.NARROW) if fits else None
        case Positive() if read.kind is Kind.NARROW:
            return Value(read.shape, Kind.WIDE)
        case _:
            return None


def _moved(step: Pad | Slice | Sum, read: Value) -> Value | None:
    (h, w, c), kind = read.shape, read.kind
    match step:
        case Pad() if 0 <= step.before <= _MOST_EDGE and 0 <= step.after <= _MOST_EDGE:
            edge = step.before + step.after
            made, fits = Value((h + edge, w + edge, c), kind), kind is not Kind.OPENED
        case Slice() if step.axis in (0, 1):
            shape = (step.count, w, c) if step.axis == 0 else (h, step.count, c)
            end = step.start + (step.count - 1) * step.stride
            fits = kind is not Kind.OPENED and 0 <= step.start <= end < read.shape[step.axis]
            made = Value(shape, kind)
            fits = fits and step.stride >= 1 and step.count >= 1
        case Sum():
            made = Value((len(step.rows), len(step.columns), c), kind)
            down, across = _within(step.rows, step.height, h), _within(step.columns, step.width, w)
            fits = kind is Kind.WIDE and down and across
        case _:
            return None
    return made if fits else None


def _joined(program: Program, step: Larger | Concatenate | Add, read: list[Value]) -> Value | None:
    first = read[0]
    match step:
        case Larger():
            return first if first == read[1] and first.kind is Kind.NARROW else None
        case Add():
            shifts = (step.left_shift, step.right_shift)
            fits = first == read[1] and first.kind is Kind.WIDE
            return first if fits and all(0 <= k < program.ring_bits for k in shifts) else None
        case Concatenate():
            alike = all(one.kind is first.kind and one.shape[:2] == first.shape[:2] for one in read)
            shape = (*first.shape[:2], sum(one.shape[2] for one in read))
            return Value(shape, first.kind) if alike and first.kind is not Kind.OPENED else None


def _within(starts: tuple[int, ...], size: int, side: int) -> bool:
    return size >= 1 and all(start >= 0 and start + size <= side for start in starts)


def _convolved(program: Program, step: Convolve, shape: Shape) -> Value | None:
    if not 0 <= step.weight < len(program.weights):
        return None
    kernel = program.weights[step.weight]
    if step.flat:
        return Value((1, 1, kernel.outputs), Kind.WIDE) if prod(shape) == kernel.rows else None
    if shape[2] != kernel.inputs or step.stride < 1 or not 0 <= step.padding <= _MOST_EDGE:
        return None
    height, width = (
        (side + 2 * step.padding - size) // step.stride + 1
        for side, size in zip(shape, (kernel.height, kernel.width), strict=False)
    )
    return Value((height, width, kernel.outputs), Kind.WIDE)
