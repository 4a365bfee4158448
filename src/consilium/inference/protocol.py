# SPDX-License-Identifier: Apache-2.0
"""Encrypted inference with all parties in one place: the documentation, and the oracle.

Who: an owner with a model, a patient with an image, operators 0 and 1 who compute on shares, and
a dealer. All follow the protocol and look at what they see (semi-honest); no two of the three
operators look together.

Claim. For every image, every model and each one of the three operators: all that it sees can be
drawn from the program and the number of images alone. The patient sees the answer and nothing
else of the model; the owner sees nothing.

Why, message by message. Every sharing is of a secret and a fresh uniform first share.
- Shares of weights, image: uniform on their own.
- Weight opening: W - B, B uniform, made by the dealer for this one publication. W never changes
  within it, so B, though used for every image, hides one thing only, once.
- Open: X - A, A uniform, of this image's material, for this value, opened once (a value that two
  convolutions read is one `Open`).
- Comparison: three openings under a mask, a cover and a bit, each used once (`comparison.py`).
- Corrections of the second operator: each is a secret minus an array of the first one's stream,
  which the second does not know and which no other message shows but under a mask of its own.
- What one operator hears is the opened value minus its own share: both are drawn.
- Answer: each share holds the first operator's stream of the last product (or choice), so both
  are uniform with the right sum: the patient learns the sum. That sum is the fixed-point answer,
  its roundings random: a function of image, weights and coins.
- The dealer hears the program and "one more".

Rounding. `Truncate` drops low bits of each share, so which way a value is rounded depends on a
share. The operators get no output, so their views are as above; the answer is that of the same
computation with coins for roundings (`_truncated` in `operator.py` gives the law).

When it fails. Two operators together, or an operator and the dealer: they see everything. An
operator that deviates can change an answer, and nobody notices; it still learns no image from
what is said to it in the same openings, but no claim is made. Material used twice: differences
of values; hence numbers, and receipts. A party that can read an operator's memory has its share.
Timing and sizes depend on the program and the number of images only. Answers tell about the
model, as any answers do: who asks enough can rebuild it.

Source: Beaver 1991; Ishai et al. 2013 for one-time tables; Mohassel and Zhang 2017 for truncated
shares (doi 10.1109/SP.2017.12); openings shared by products: Patra et al. 2021 (ABY2.0).
"""

from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from consilium import wire
from consilium.inference.dealer import Adopt, Deal, Idle, dealer_step
from consilium.inference.messages import (
    SESSION_BYTES,
    AnswerShare,
    Exchange,
    MaskSeed,
    Material,
    ModelShare,
    WeightOpening,
)
from consilium.inference.operator import (
    Appointed,
    Begin,
    FromOperator,
    OperatorState,
    Prepare,
    Publish,
    UseReceipt,
    operator_step,
)
from consilium.inference.patient import (
    Answer,
    Asking,
    Opened,
    PatientState,
    Share,
    patient_step,
)
from consilium.inference.program import Program
from consilium.inference.sharing import random_size
from consilium.inference.weights import Weights, pack_weights, split, split_size
from consilium.keystream import KEY_BYTES, Keystream


@final
@dataclass(frozen=True, slots=True)
class Randomness:
    """32 bytes that stand for every party's own; a run of processes draws each anew."""

    secret: bytes = field(repr=False)

    def take(self, use: str, count: int = 32) -> bytes:
        """Returns `count` bytes for one use."""
        key = wire.derive(self.secret, "inference run", use)[:KEY_BYTES]
        return Keystream(key).words(-(-count // 2), np.uint16).tobytes()[:count]


Heard: TypeAlias = list[tuple[int, Exchange | WeightOpening]]  # by whom, what it was told


def run_inference(
    program: Program,
    weights: Weights,
    images: NDArray[np.float32],
    randomness: Randomness,
    heard: Heard | None = None,
) -> NDArray[np.float64]:
    """Returns the logits (n, classes) of `images` (n, height, width, channels).

    Args:
        program: What is computed.
        weights: The owner's.
        images: The patient's.
        randomness: Stands for every party's own.
        heard: Takes up all that the operators hear of each other, for tests.
    """
    heard = [] if heard is None else heard
    name = wire.digest("inference run", program.digest())

    # Publication, once: the owner shares the weights, the dealer deals masks for them, and the
    # operators open the weights under the masks.
    operators: list[OperatorState] = [Appointed(first=True), Appointed(first=False)]
    seeds = (randomness.take("masks 0"), randomness.take("masks 1"))
    adopt = Adopt(publication=name, program=program, seeds=seeds)
    dealer, mask_seeds = dealer_step(Idle(), adopt)
    parts = split(program, weights, randomness.take("weights", split_size(program)))
    openings: list[WeightOpening] = []
    for k, part in enumerate(parts):
        shared = ModelShare(name, program, pack_weights(program, part))
        publish = Publish(shared, _as(MaskSeed, mask_seeds[k]))
        operators[k], (said,) = operator_step(operators[k], publish)
        openings.append(_as(WeightOpening, said))
    for k in (0, 1):
        operators[k], _ = operator_step(operators[k], openings[1 - k])
        heard.append((k, openings[1 - k]))

    # Offline, before there is an image: material for each, and every product that needs no image.
    dealt: list[tuple[Material, Material]] = []
    for image in range(len(images)):
        fresh = tuple(randomness.take(f"{who} of image {image}") for who in ("0", "1", "dealer"))
        dealer, both = dealer_step(dealer, Deal((fresh[0], fresh[1], fresh[2])))
        dealt.append((_as(Material, both[0]), _as(Material, both[1])))
    for k in (0, 1):
        prepare = Prepare(tuple(both[k] for both in dealt))
        operators[k], _ = operator_step(operators[k], prepare)

    # Online: the patient shares the images; the material is marked as used; the operators open
    # what the program opens, both speaking at once, until each has its share of the answer.
    patient: PatientState = Asking(publication=name, program=program)
    draw = randomness.take("images", random_size(images.size, program.ring_bits))
    session = randomness.take("session", SESSION_BYTES)
    patient, shares = patient_step(patient, Share(images=images, session=session, randomness=draw))
    receipts = tuple(UseReceipt(name, both[0].number) for both in dealt)
    said_by: list[FromOperator] = []
    for k in (0, 1):
        operators[k], (first,) = operator_step(operators[k], Begin(shares[k], receipts))
        said_by.append(first)
    while isinstance(said_by[0], Exchange) and isinstance(said_by[1], Exchange):
        told = (said_by[1], said_by[0])
        for k in (0, 1):
            heard.append((k, told[k]))
            operators[k], (said_by[k],) = operator_step(operators[k], told[k])

    # Only the patient gets both shares of the answer.
    for k in (0, 1):
        patient, _ = patient_step(patient, Answer(k, _as(AnswerShare, said_by[k])))
    if not isinstance(patient, Opened):
        raise TypeError(f"{type(patient).__name__} at the end of a run")
    return patient.logits


Kind = TypeVar("Kind")


def _as(kind: type[Kind], message: object) -> Kind:
    if not isinstance(message, kind):
        raise TypeError(f"{type(message).__name__} where {kind.__name__} was due")
    return message
