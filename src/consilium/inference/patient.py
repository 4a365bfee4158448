# SPDX-License-Identifier: Apache-2.0
"""What the patient's end does: shares an image, and opens the answer.

    Asking --Share(images, randomness)--> Waiting --AnswerShare(0), AnswerShare(1)--> Opened

Guarantees: each operator gets one share, uniform on its own. The answer needs both operators'
shares: the adapter fetches each from the operator that made it, and from nobody else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError, OutOfTurn, RemoteProtocolError
from consilium.inference.messages import AnswerShare, InputShare
from consilium.inference.program import Program, Shape, check_program
from consilium.inference.ring import pack, unpack
from consilium.inference.sharing import share, to_reals, to_ring, unshare


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Knows which model it asks, and what of it is public."""

    publication: bytes
    program: Program


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Has shared its images; holds the shares of the answer that came."""

    program: Program
    session: bytes
    count: int
    answers: Mapping[int, bytes] = field(default_factory=dict[int, bytes], repr=False)


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """The logits, shape (n, classes)."""

    logits: NDArray[np.float64] = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """Images as the model sees them (n, height, width, channels), and fresh randomness."""

    images: NDArray[np.float32] = field(repr=False)
    session: bytes
    randomness: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What operator `operator` answered."""

    operator: int
    share: AnswerShare


PatientState: TypeAlias = Asking | Waiting | Opened
PatientEvent: TypeAlias = Share | Answer


def patient_step(
    state: PatientState, event: PatientEvent
) -> tuple[PatientState, tuple[InputShare, ...]]:
    """Returns the next state of the patient's end; after `Share`, what operators 0 and 1 get.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        DataError: Images that this model does not take.
        RemoteProtocolError: An answer of another session or size, or a second one.
    """
    match state, event:
        case Asking(), Share():
            return _share(state, event)
        case Waiting(), Answer():
            return _open(state, event), ()
        case _:
            raise OutOfTurn(f"{type(event).__name__} while {type(state).__name__}")


def answer_shape(program: Program) -> Shape:
    """Returns the shape of one answer."""
    return check_program(program)[-1].shape


def _share(state: Asking, event: Share) -> tuple[Waiting, tuple[InputShare, InputShare]]:
    program, images = state.program, event.images
    if images.ndim != 4 or images.shape[1:] != program.image or not len(images):
        raise DataError(
            f"images of shape {images.shape}; expected (n, height, width, channels) with "
            f"{program.image}: prepare them as the model's description says"
        )
    secret = to_ring(images, program.image_fraction, program.ring_bits)
    shares = share(secret, event.randomness, program.ring_bits)
    first, second = (
        InputShare(state.publication, event.session, len(images), pack(one, program.ring_bits))
        for one in shares
    )
    return Waiting(program=program, session=event.session, count=len(images)), (first, second)


def _open(state: Waiting, event: Answer) -> Waiting | Opened:
    if event.share.session != state.session or event.operator not in (0, 1):
        raise RemoteProtocolError("an answer of another session", event.operator)
    if event.operator in state.answers:
        raise RemoteProtocolError("a second answer", event.operator)
    bits, shape = state.program.ring_bits, (state.count, *answer_shape(state.program))
    unpack(event.share.words, bits, shape)
    answers = {**state.answers, event.operator: event.share.words}
    if len(answers) < 2:
        return replace(state, answers=answers)
    first, second = (unpack(answers[k], bits, shape) for k in (0, 1))
    logits = to_reals(unshare(first, second, bits), state.program.unit, bits)
    return Opened(logits.reshape(state.count, -1))
