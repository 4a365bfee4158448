# SPDX-License-Identifier: Apache-2.0
"""What the dealer may do: it deals correlated randomness, and sees nothing else.

    Idle --Adopt(program, seeds)--> Dealing --Deal(seeds)--> Dealing      (next number)

It learns the program, which is public, and how many images are asked for. No message to it holds
a share of an image, of weights or of an answer; there is no event for one.

Guarantees: every number is dealt once in a life of the state; seeds are arguments, drawn by the
adapter from the operating system for this one call.
"""

from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

from consilium.errors import LocalProtocolError, OutOfTurn
from consilium.inference import comparison, material
from consilium.inference.convolution import convolve
from consilium.inference.material import Arrays, Expander
from consilium.inference.messages import MaskSeed, Material
from consilium.inference.program import Convolve, Larger, Positive, Program, check_program
from consilium.inference.ring import NARROW_BITS, Words, reduce

# -- States and events ----------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Idle:
    """Deals for no model yet."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Dealing:
    """Deals for one publication; `number` comes next."""

    publication: bytes
    program: Program
    masks: tuple[Words, ...] = field(repr=False)  # B, of the weights
    number: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Adopt:
    """Take up a publication: two seeds, one for each operator's share of the weights' masks."""

    publication: bytes
    program: Program
    seeds: tuple[bytes, bytes] = field(repr=False)
    number: int = 0  # the first that was never dealt


@final
@dataclass(frozen=True, slots=True)
class Deal:
    """Deal for one image from three fresh seeds: each operator's, and the dealer's own."""

    seeds: tuple[bytes, bytes, bytes] = field(repr=False)


DealerState: TypeAlias = Idle | Dealing
DealerEvent: TypeAlias = Adopt | Deal
FromDealer: TypeAlias = MaskSeed | Material

# -- Transitions ----------------------------------------------------------------------


def dealer_step(
    state: DealerState, event: DealerEvent
) -> tuple[DealerState, tuple[FromDealer, FromDealer]]:
    """Returns the next state of the dealer, and what operators 0 and 1 get.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        LocalProtocolError: Seeds that are not distinct.
        ConfigError: A program that cannot be carried out.
    """
    if len(set(event.seeds)) != len(event.seeds):
        raise LocalProtocolError("a seed twice; draw each from the operating system")
    match state, event:
        case Idle(), Adopt():
            return _adopt(event)
        case Dealing(), Deal():
            return _deal(state, event)
        case _:
            raise OutOfTurn(f"{type(event).__name__} while {type(state).__name__}")


def _adopt(event: Adopt) -> tuple[Dealing, tuple[MaskSeed, MaskSeed]]:
    check_program(event.program)
    first, second = (material.mask_weights(event.program, seed) for seed in event.seeds)
    bits = event.program.ring_bits
    after = Dealing(
        publication=event.publication,
        program=event.program,
        masks=tuple(reduce(a + b, bits) for a, b in zip(first, second, strict=True)),
        number=event.number,
    )
    one, other = (MaskSeed(event.publication, seed) for seed in event.seeds)
    return after, (one, other)


def _deal(state: Dealing, event: Deal) -> tuple[Dealing, tuple[Material, Material]]:
    first, second, own = event.seeds
    mine = material.held(state.program, first, None)
    other, expander = material.masks_held(state.program, second), Expander(own)
    for number, step in enumerate(state.program.steps):
        if isinstance(step, Convolve):
            mine[number, "product"] = _product(state, mine, other, number)
        elif isinstance(step, Larger | Positive):
            _compare(state.program, mine, other, number, expander)
    corrections = material.packed(state.program, mine)
    one = Material(state.publication, state.number, first, b"")
    two = Material(state.publication, state.number, second, corrections)
    return replace(state, number=state.number + 1), (one, two)


def _product(state: Dealing, mine: Arrays, other: Arrays, number: int) -> Words:
    """Returns the second operator's share of A * B."""
    step, bits = state.program.steps[number], state.program.ring_bits
    if not isinstance(step, Convolve):
        raise TypeError(f"step {number} is no convolution")
    at = (step.source - 1, "mask")
    mask = reduce(mine[at] + other[at], bits)
    shape = state.program.weights[step.weight]
    product = convolve(mask[None], state.masks[step.weight], step, shape)[0]
    return reduce(product - mine[number, "product"], bits)


def _compare(
    program: Program, mine: Arrays, other: Arrays, number: int, expander: Expander
) -> None:
    """Turns the first operator's arrays of one comparison into the second's."""
    wide = isinstance(program.steps[number], Positive)
    bits = program.ring_bits if wide else NARROW_BITS
    gate = comparison.gate(mine, number, first=True)
    theirs = comparison.masks(other, number)
    beta = expander.words(number, "beta", gate.mask.shape, 1)
    dealt = comparison.deal_gate(gate, theirs, beta, bits)
    for name in ("tables", "products", "choice", "chosen"):
        mine[number, name] = getattr(dealt, name)
    if dealt.wraps is not None:
        mine[number, "wraps"] = dealt.wraps
