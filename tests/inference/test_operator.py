# SPDX-License-Identifier: Apache-2.0
"""Every state of an operator meets every event; what is not its turn changes nothing."""

import os
from dataclasses import replace

import msgspec
import pytest
from tests.inference.programs import every_step, some_images, some_weights

from consilium.errors import DataError, LocalProtocolError, OutOfTurn, RemoteProtocolError
from consilium.inference.dealer import Adopt, Deal, Idle, dealer_step
from consilium.inference.messages import (
    AnswerShare,
    Exchange,
    InputShare,
    MaskSeed,
    Material,
    ModelShare,
    WeightOpening,
)
from consilium.inference.operator import (
    MOST_IMAGES,
    Answered,
    Appointed,
    Begin,
    Computing,
    Holding,
    OperatorEvent,
    OperatorState,
    Prepare,
    Prepared,
    Publish,
    Unmasking,
    UseReceipt,
    operator_step,
)
from consilium.inference.patient import Answer, Asking, Share, Waiting, patient_step
from consilium.inference.sharing import random_size
from consilium.inference.weights import pack_weights, split, split_size

PROGRAM = every_step()
NAME = b"p" * 32
SESSION = b"s" * 16
LENGTH = 6 * 6 * 2 * 5  # bytes of a share of one image


def played() -> tuple[dict[str, OperatorState], dict[str, OperatorEvent]]:
    """Returns every state of operator 0 and, by name, the event that leads out of it."""
    dealer, seeds = dealer_step(
        Idle(), Adopt(publication=NAME, program=PROGRAM, seeds=(b"1" * 32, b"2" * 32))
    )
    _, materials = dealer_step(dealer, Deal((b"3" * 32, b"4" * 32, b"5" * 32)))
    parts = split(PROGRAM, some_weights(PROGRAM), os.urandom(split_size(PROGRAM)))
    shares = [ModelShare(NAME, PROGRAM, pack_weights(PROGRAM, part)) for part in parts]
    seed, other_seed = seeds
    material = materials[0]
    assert isinstance(seed, MaskSeed)
    assert isinstance(other_seed, MaskSeed)
    assert isinstance(material, Material)
    publish = Publish(shares[0], seed)
    unmasking, _ = operator_step(Appointed(first=True), publish)
    _, said = operator_step(Appointed(first=False), Publish(shares[1], other_seed))
    opening = said[0]
    assert isinstance(opening, WeightOpening)
    holding, _ = operator_step(unmasking, opening)
    prepare = Prepare((material,))
    prepared, _ = operator_step(holding, prepare)
    begin = Begin(InputShare(NAME, SESSION, 1, bytes(LENGTH)), (UseReceipt(NAME, 0),))
    computing, _ = operator_step(prepared, begin)
    states: dict[str, OperatorState] = {
        "appointed": Appointed(first=True),
        "unmasking": unmasking,
        "holding": holding,
        "prepared": prepared,
        "computing": computing,
        "answered": Answered(session=SESSION),
    }
    events: dict[str, OperatorEvent] = {
        "appointed": publish,
        "unmasking": opening,
        "holding": prepare,
        "prepared": begin,
        "computing": Exchange(SESSION, 1, bytes(LENGTH)),
    }
    return states, events


STATES, EVENTS = played()
AFTER = {
    "appointed": Unmasking,
    "unmasking": Holding,
    "holding": Prepared,
    "prepared": Computing,
    "computing": Computing,
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("event", EVENTS)
def test_every_state_meets_every_event(state: str, event: str) -> None:
    if state == event:
        assert isinstance(operator_step(STATES[state], EVENTS[event])[0], AFTER[state])
        return
    with pytest.raises(OutOfTurn):
        operator_step(STATES[state], EVENTS[event])


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (Exchange(SESSION, 2, bytes(LENGTH)), "opening 2"),
        (Exchange(b"t" * 16, 1, bytes(LENGTH)), "of a session"),
        (Exchange(SESSION, 1, bytes(LENGTH - 1)), "bytes for"),
        (Exchange(SESSION, 1, bytes(LENGTH + 5)), "bytes for"),
    ],
)
def test_false_exchanges_are_refused(message: Exchange, what: str) -> None:
    with pytest.raises(RemoteProtocolError, match=what):
        operator_step(STATES["computing"], message)


def test_material_without_its_receipt_is_not_used() -> None:
    begin = EVENTS["prepared"]
    assert isinstance(begin, Begin)

    for receipts in ((), (UseReceipt(NAME, 1),), (UseReceipt(b"q" * 32, 0),)):
        with pytest.raises(LocalProtocolError, match="no receipts"):
            operator_step(STATES["prepared"], replace(begin, receipts=receipts))


def test_a_share_for_another_model_is_refused() -> None:
    share = InputShare(b"q" * 32, SESSION, 1, bytes(LENGTH))

    with pytest.raises(RemoteProtocolError, match="another model"):
        operator_step(STATES["prepared"], Begin(share, (UseReceipt(NAME, 0),)))


def test_one_material_is_not_prepared_twice_in_a_session() -> None:
    prepare = EVENTS["holding"]
    assert isinstance(prepare, Prepare)

    with pytest.raises(LocalProtocolError, match="no repeats"):
        operator_step(STATES["holding"], Prepare(prepare.materials * 2))


def test_more_images_than_a_session_takes_are_refused() -> None:
    prepare = EVENTS["holding"]
    assert isinstance(prepare, Prepare)
    (one,) = prepare.materials
    many = [msgspec.structs.replace(one, number=number) for number in range(MOST_IMAGES + 1)]

    with pytest.raises(LocalProtocolError, match="expected 1 to 64"):
        operator_step(STATES["holding"], Prepare(tuple(many)))
    with pytest.raises(LocalProtocolError, match="expected 1 to 64"):
        operator_step(STATES["holding"], Prepare(()))


def test_another_publication_is_refused_at_every_step() -> None:
    publish, opening, prepare = (EVENTS[k] for k in ("appointed", "unmasking", "holding"))
    assert isinstance(publish, Publish)
    assert isinstance(opening, WeightOpening)
    assert isinstance(prepare, Prepare)
    other = [msgspec.structs.replace(one, publication=b"q" * 32) for one in prepare.materials]

    with pytest.raises(LocalProtocolError, match="another publication"):
        operator_step(STATES["appointed"], replace(publish, seed=MaskSeed(b"q" * 32, bytes(32))))
    with pytest.raises(RemoteProtocolError, match="another publication"):
        operator_step(STATES["unmasking"], msgspec.structs.replace(opening, publication=b"q" * 32))
    with pytest.raises(LocalProtocolError, match="another publication"):
        operator_step(STATES["holding"], Prepare(tuple(other)))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"count": 2}, "2 images for 1 materials"),
        ({"session": b"short"}, "false session"),
        ({"words": bytes(LENGTH - 1)}, "bytes for"),
        ({"words": bytes(LENGTH + 5)}, "bytes for"),
    ],
)
def test_a_share_of_another_count_or_size_is_refused(change: dict[str, object], what: str) -> None:
    begin = EVENTS["prepared"]
    assert isinstance(begin, Begin)

    share = msgspec.structs.replace(begin.share, **change)

    with pytest.raises(RemoteProtocolError, match=what):
        operator_step(STATES["prepared"], replace(begin, share=share))


def test_no_message_shows_its_bytes() -> None:
    secret = b"\xa5secret\x5a" * 9

    for message in (
        Exchange(SESSION, 1, secret),
        InputShare(NAME, SESSION, 1, secret),
        AnswerShare(SESSION, secret),
        Material(NAME, 0, secret, secret),
        MaskSeed(NAME, secret),
        WeightOpening(NAME, secret),
        ModelShare(NAME, PROGRAM, secret),
    ):
        assert "secret" not in repr(message)


def test_nothing_secret_prints() -> None:
    for state in STATES.values():
        assert len(repr(state)) < 4000
        assert "array" not in repr(state)


# -- The patient ----------------------------------------------------------------------


def waiting() -> Waiting:
    randomness = os.urandom(random_size(72, 40))
    share = Share(images=some_images(PROGRAM, 1), session=SESSION, randomness=randomness)
    state, _ = patient_step(Asking(publication=NAME, program=PROGRAM), share)
    assert isinstance(state, Waiting)
    return state


def test_an_answer_of_another_session_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="another session"):
        patient_step(waiting(), Answer(0, AnswerShare(b"t" * 16, bytes(15))))


def test_one_operator_cannot_answer_twice() -> None:
    state, _ = patient_step(waiting(), Answer(0, AnswerShare(SESSION, bytes(15))))

    with pytest.raises(RemoteProtocolError, match="a second answer"):
        patient_step(state, Answer(0, AnswerShare(SESSION, bytes(15))))


def test_images_of_another_shape_are_refused() -> None:
    share = Share(images=some_images(PROGRAM, 1)[:, :5], session=SESSION, randomness=b"")

    with pytest.raises(DataError, match="images of shape"):
        patient_step(Asking(publication=NAME, program=PROGRAM), share)
