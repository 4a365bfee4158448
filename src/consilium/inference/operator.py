# SPDX-License-Identifier: Apache-2.0
"""What a computing operator may do, and when: all its states and transitions.

    Appointed --ModelShare+MaskSeed (Publish)--> Unmasking --WeightOpening--> Holding
    Holding --Prepare(materials)--> Prepared                       (before any image comes)
    Prepared --Begin(share, receipts)--> Computing --Exchange--> Computing | Answered

Anything else raises `OutOfTurn` and changes nothing. A step is spoken once: an exchange with
another number, of another session or of the wrong size is refused and says nothing.

Guarantees: see `protocol.py`. Material leaves with the state that used it; `Begin` takes the
receipts of the marks that it is used, so that an adapter cannot forget them.

Not here: sockets, files, clocks, randomness; which session gets which material (`adapters`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np

from consilium.errors import LocalProtocolError, OutOfTurn, RemoteProtocolError
from consilium.inference import comparison, linear, material
from consilium.inference.convolution import convolve
from consilium.inference.material import Arrays
from consilium.inference.messages import (
    SESSION_BYTES,
    AnswerShare,
    Exchange,
    InputShare,
    MaskSeed,
    Material,
    ModelShare,
    WeightOpening,
)
from consilium.inference.program import (
    Convolve,
    Larger,
    Open,
    Positive,
    Program,
    Truncate,
    check_program,
    last_uses,
    sources,
)
from consilium.inference.ring import NARROW_BITS, Words, pack, reduce, unpack, word
from consilium.inference.weights import Weights, unpack_weights

MOST_IMAGES: Final = 64  # in one session

# -- States ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Appointed:
    """Is one of the two that compute."""

    first: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """Has said its share of the masked weights; waits for the other's."""

    first: bool
    publication: bytes
    program: Program
    weights: Weights = field(repr=False)
    said: tuple[Words, ...] = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Holds a published model: its share of the weights, and all weights masked."""

    first: bool
    publication: bytes
    program: Program
    weights: Weights = field(repr=False)
    masked: tuple[Words, ...] = field(repr=False)  # W - B, the same for both operators


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Has the material of one session, and every product that needs no image."""

    model: Holding
    numbers: tuple[int, ...]
    arrays: Arrays = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Computing:
    """Has said its part of opening `number`, which belongs to step `at`."""

    prepared: Prepared
    session: bytes
    count: int
    values: Mapping[int, Words] = field(repr=False)
    at: int
    number: int
    said: Words = field(repr=False)
    opened: tuple[Words, ...] = field(default=(), repr=False)  # of this step, so far


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Has given its share of the answer; holds nothing else."""

    session: bytes


OperatorState: TypeAlias = Appointed | Unmasking | Holding | Prepared | Computing | Answered

# -- Events ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Publish:
    """The owner's share of a model, and the dealer's seed for its masks."""

    share: ModelShare
    seed: MaskSeed


@final
@dataclass(frozen=True, slots=True)
class Prepare:
    """Material for as many images."""

    materials: tuple[Material, ...]


@final
@dataclass(frozen=True, slots=True)
class UseReceipt:
    """The mark that a material is used is on the disk; only a store makes one."""

    publication: bytes
    number: int


@final
@dataclass(frozen=True, slots=True)
class Begin:
    """A patient's share, and the receipts of the material that it will use up."""

    share: InputShare
    receipts: tuple[UseReceipt, ...]


OperatorEvent: TypeAlias = Publish | WeightOpening | Prepare | Begin | Exchange
FromOperator: TypeAlias = WeightOpening | Exchange | AnswerShare

# -- Transitions ----------------------------------------------------------------------


def operator_step(
    state: OperatorState, event: OperatorEvent
) -> tuple[OperatorState, tuple[FromOperator, ...]]:
    """Returns the next state of a computing operator, and what it says.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        RemoteProtocolError: A message of the wrong model, session, number or size.
        LocalProtocolError: Material of another model, or no receipt for it.
    """
    match state, event:
        case Appointed(), Publish():
            return _publish(state, event)
        case Unmasking(), WeightOpening():
            return _hold(state, event), ()
        case Holding(), Prepare():
            return _prepare(state, event.materials), ()
        case Prepared(), Begin():
            return _begin(state, event)
        case Computing(), Exchange():
            return _hear(state, event)
        case _:
            raise OutOfTurn(f"{type(event).__name__} while {type(state).__name__}")


def _publish(state: Appointed, event: Publish) -> tuple[Unmasking, tuple[WeightOpening]]:
    share = event.share
    if share.publication != event.seed.publication:
        raise LocalProtocolError("the seed is of another publication; ask the dealer anew")
    check_program(share.program)
    weights, bits = unpack_weights(share.program, share.words), share.program.ring_bits
    masks = material.mask_weights(share.program, event.seed.seed)
    said = tuple(
        reduce(matrix - mask, bits) for matrix, mask in zip(weights.matrices, masks, strict=True)
    )
    opening = WeightOpening(share.publication, b"".join(pack(words, bits) for words in said))
    after = Unmasking(
        first=state.first,
        publication=share.publication,
        program=share.program,
        weights=weights,
        said=said,
    )
    return after, (opening,)


def _hold(state: Unmasking, other: WeightOpening) -> Holding:
    if other.publication != state.publication:
        raise RemoteProtocolError("weights of another publication; publish the model again")
    bits, at, masked = state.program.ring_bits, 0, []
    for own in state.said:
        size = own.size * (bits // 8)
        theirs = unpack(memoryview(other.words)[at : at + size], bits, own.shape)
        masked.append(reduce(own + theirs, bits))
        at += size
    if at != len(other.words):
        raise RemoteProtocolError(f"{len(other.words)} bytes of weights; expected {at}")
    return Holding(
        first=state.first,
        publication=state.publication,
        program=state.program,
        weights=state.weights,
        masked=tuple(masked),
    )


def _prepare(model: Holding, materials: tuple[Material, ...]) -> Prepared:
    numbers = tuple(one.number for one in materials)
    if not 1 <= len(set(numbers)) == len(numbers) <= MOST_IMAGES:
        raise LocalProtocolError(f"materials {numbers}; expected 1 to {MOST_IMAGES}, no repeats")
    if any(one.publication != model.publication for one in materials):
        raise LocalProtocolError("material of another publication; ask the dealer for this one's")
    found = [
        material.held(model.program, one.seed, None if model.first else one.corrections)
        for one in materials
    ]
    arrays = material.stacked(model.program, found)
    for number, step in enumerate(model.program.steps):
        if isinstance(step, Convolve):
            arrays[number, "product"] = _known_product(model, arrays, number, step)
    return Prepared(model=model, numbers=numbers, arrays=arrays)


def together(parts: Sequence[Prepared]) -> Prepared:
    """Returns the preparation of a session of several images from those of each alone.

    Raises:
        LocalProtocolError: Not of one model, or a number twice.
    """
    numbers = tuple(number for part in parts for number in part.numbers)
    first = parts[0]
    if len(set(numbers)) != len(numbers) or any(part.model is not first.model for part in parts):
        raise LocalProtocolError("preparations of several models, or one twice; take others")
    arrays = {key: np.concatenate([one.arrays[key] for one in parts]) for key in first.arrays}
    return Prepared(model=first.model, numbers=numbers, arrays=arrays)


def _known_product(model: Holding, arrays: Arrays, number: int, step: Convolve) -> Words:
    """Returns this operator's share of A * W + bias: A_i * (W - B) + [A * B]_i + bias_i."""
    shape = model.program.weights[step.weight]
    mask = arrays[step.source - 1, "mask"]
    product = convolve(mask, model.masked[step.weight], step, shape)
    total = product + arrays[number, "product"] + model.weights.biases[step.weight]
    return reduce(total, model.program.ring_bits)


def _begin(state: Prepared, event: Begin) -> tuple[OperatorState, tuple[FromOperator, ...]]:
    model, share = state.model, event.share
    marks = tuple(UseReceipt(model.publication, number) for number in state.numbers)
    if event.receipts != marks:
        raise LocalProtocolError("no receipts that this material is marked as used; mark it first")
    if share.publication != model.publication or len(share.session) != SESSION_BYTES:
        raise RemoteProtocolError("a share for another model, or with a false session; send anew")
    if share.count != len(state.numbers):
        raise RemoteProtocolError(f"{share.count} images for {len(state.numbers)} materials")
    shape = (share.count, *model.program.image)
    image = unpack(share.words, model.program.ring_bits, shape)
    start = Computing(
        prepared=state,
        session=share.session,
        count=share.count,
        values={0: image},
        at=0,
        number=0,
        said=image,
    )
    return _advance(start)


# -- Computing ------------------------------------------------------------------------


def _hear(state: Computing, other: Exchange) -> tuple[OperatorState, tuple[FromOperator, ...]]:
    """Opens what both said, and goes on."""
    if (other.session, other.number) != (state.session, state.number):
        raise RemoteProtocolError(
            f"opening {other.number} of a session; expected {state.number} of this one"
        )
    program = state.prepared.model.program
    step, stage = program.steps[state.at], len(state.opened)
    bits = _opened_bits(program, step, stage)
    theirs = unpack(other.words, bits, state.said.shape)
    if isinstance(step, Open):
        return _advance(_made(state, reduce(state.said + theirs, bits)))
    gate = comparison.gate(state.prepared.arrays, state.at, first=state.prepared.model.first)
    if stage == 0:
        opened = reduce(state.said + theirs, bits)
        return _say(replace(state, opened=(opened,)), comparison.leaves(gate, opened))
    both = state.said ^ theirs
    if stage == 1:
        said = comparison.choice(gate, state.opened[0], both)
        return _say(replace(state, opened=(*state.opened, both)), said)
    return _advance(_made(state, _selected(state, gate, both)))


def _selected(state: Computing, gate: comparison.Gate, bits: Words) -> Words:
    """Returns the share of the value that the comparison of this step makes."""
    program = state.prepared.model.program
    step, opened = program.steps[state.at], state.opened[0]
    if isinstance(step, Larger):
        right = state.values[step.right]
        more = comparison.select(gate, opened, bits, NARROW_BITS).reshape(right.shape)
        return reduce(more + right, NARROW_BITS)
    source = state.values[step.source] if isinstance(step, Positive) else opened
    return comparison.select(gate, opened, bits, program.ring_bits).reshape(source.shape)


def _opened_bits(program: Program, step: object, stage: int) -> int:
    if isinstance(step, Open):
        return program.ring_bits
    return (NARROW_BITS, material.COVER_BITS, 8)[stage]


def _made(state: Computing, value: Words) -> Computing:
    """Returns the state with the value of step `at`, without values that nobody reads again."""
    last = last_uses(state.prepared.model.program)
    kept = {k: v for k, v in state.values.items() if last[k] > state.at}
    return replace(state, values={**kept, state.at + 1: value}, at=state.at + 1, opened=())


def _advance(state: Computing) -> tuple[OperatorState, tuple[FromOperator, ...]]:
    """Carries out steps until one has to be opened, or there are none."""
    program = state.prepared.model.program
    while state.at < len(program.steps):
        step = program.steps[state.at]
        match step:
            case Open():
                mask = state.prepared.arrays[state.at, "mask"]
                masked = reduce(state.values[step.source] - mask, program.ring_bits)
                return _say(state, masked)
            case Larger():
                difference = state.values[step.left] - state.values[step.right]
                return _say(state, _masked(state, reduce(difference, NARROW_BITS)))
            case Positive():
                return _say(state, _masked(state, state.values[step.source]))
            case Convolve():
                state = _made(state, _convolved(state, step))
            case Truncate():
                state = _made(state, _truncated(state, step))
            case _:
                value = linear.apply(step, _read(state), program.ring_bits)
                state = _made(state, value)
    answer = state.values[state.at]
    words = pack(reduce(answer, program.ring_bits), program.ring_bits)
    return Answered(session=state.session), (AnswerShare(state.session, words),)


def _say(state: Computing, said: Words) -> tuple[Computing, tuple[Exchange]]:
    program = state.prepared.model.program
    bits = _opened_bits(program, program.steps[state.at], len(state.opened))
    number = state.number + 1
    exchange = Exchange(state.session, number, pack(said, bits))
    return replace(state, said=said, number=number), (exchange,)


def _masked(state: Computing, values: Words) -> Words:
    gate = comparison.gate(state.prepared.arrays, state.at, first=state.prepared.model.first)
    return comparison.mask(gate, values)


def _convolved(state: Computing, step: Convolve) -> Words:
    """Returns (X - A) * W_i + [A * W]_i + bias_i."""
    model = state.prepared.model
    shape = model.program.weights[step.weight]
    opened = state.values[step.source]
    product = convolve(opened, model.weights.matrices[step.weight], step, shape)
    return reduce(product + state.prepared.arrays[state.at, "product"], model.program.ring_bits)


def _truncated(state: Computing, step: Truncate) -> Words:
    """Returns a share of z / 2**bits rounded: z_i >> bits, plus one at the first operator.

    Guarantees: z_0 + z_1 = z; the shares of the result sum to floor(z / 2**bits) + 1 - carry,
    carry the carry of the low bits; z_0 is uniform, so that this is floor(z / 2**bits) or one
    more, the latter with probability (z mod 2**bits + 1) / 2**bits.
    """
    wide = state.values[step.source]
    kept = wide >> wide.dtype.type(step.bits)
    if state.prepared.model.first:
        kept = kept + wide.dtype.type(1)
    return reduce(kept, NARROW_BITS).astype(word(NARROW_BITS), copy=False)


def _read(state: Computing) -> list[Words]:
    step = state.prepared.model.program.steps[state.at]
    return [state.values[k] for k in sources(step)]
