# SPDX-License-Identifier: Apache-2.0
"""The coordinator: every state meets every event, and what it refuses from whom."""

from dataclasses import replace
from itertools import product
from typing import Any

import msgspec
import pytest
from tests.secagg.conftest import MODEL, Play, make_job, make_vectors, plain_sum

from consilium.errors import (
    LocalProtocolError,
    OutOfTurn,
    ProtocolError,
    RemoteProtocolError,
    RoundAborted,
)
from consilium.secagg.coordinator import (
    AT_A_TIME,
    MOST_PENDING,
    AbandonRound,
    Agreeing,
    CloseCiphertexts,
    CloseRoster,
    CloseUploads,
    Collecting,
    CoordinatorEvent,
    CoordinatorState,
    Finish,
    Gathering,
    Ready,
    StartRound,
    Total,
    Unmasking,
    coordinator_step,
)
from consilium.secagg.messages import (
    CiphertextTable,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

JOB = make_job(4, 3, 1)
HYBRID = replace(JOB, post_quantum=True)
VECTORS = make_vectors(JOB)
REPLACE = msgspec.structs.replace


def played() -> tuple[dict[str, CoordinatorState], dict[str, CoordinatorEvent]]:
    """Returns the coordinator in each state of round 2, and messages for it from a whole run."""
    play = Play(JOB).join().prepare(1).prepare(2).prepare(3)
    hybrid_states, hybrid_events = agreed()
    hello = play.hellos[3]
    gathering, _ = coordinator_step(Gathering(job=JOB), play.hellos[0])
    for other in play.hellos[1:3]:
        gathering, _ = coordinator_step(gathering, other)
    ready = play.coordinator
    old = play.prekeys(3, 4)
    plan = play.plan(2)
    uploads = [play.upload(site, plan, VECTORS[site], ahead=False) for site in range(4)]
    for upload in uploads[:3]:
        play.tell(upload)
    collecting = play.coordinator
    survivors = play.survivors()
    openings = [play.opening(site, survivors) for site in survivors.sites]
    for opening in openings[:2]:
        play.tell(opening)
    unmasking = play.coordinator
    return (
        {
            "gathering": gathering,
            **hybrid_states,
            "ready": ready,
            "collecting": collecting,
            "unmasking": unmasking,
        },
        {
            "hello": hello,
            "hello again": play.hellos[0],
            "close roster": CloseRoster(),
            **hybrid_events,
            "prekeys": old,
            "prekeys again": play_prekeys(1, 3),
            "prekeys of round 2": play_prekeys(1, 2),
            "start round": StartRound(round=2, model=MODEL),
            "start round 3": StartRound(round=3, model=MODEL),
            "start round 0": StartRound(round=0, model=MODEL),
            "start an unprepared round": StartRound(round=9, model=MODEL),
            "upload": uploads[3],
            "upload again": uploads[0],
            "close uploads": CloseUploads(),
            "opening": openings[2],
            "opening again": openings[0],
            "finish": Finish(),
            "abandon": AbandonRound(),
        },
    )


def agreed() -> tuple[dict[str, CoordinatorState], dict[str, CoordinatorEvent]]:
    """Returns the coordinator of a post-quantum job in its set-up, and messages for it."""
    play = Play(HYBRID)
    roster = play.introduce()
    said = [play.encapsulate(site, roster) for site in range(4)]
    waiting = play.coordinator
    for one in said[:3]:
        play.tell(one)
    return (
        {"agreeing, nothing yet": waiting, "agreeing": play.coordinator},
        {
            "ciphertexts": said[3],
            "ciphertexts again": said[0],
            "ciphertexts of a stranger": REPLACE(said[3], site=4),
            "ciphertexts too short": REPLACE(said[2], ciphertexts=said[2].ciphertexts[1:]),
            "ciphertexts of another": REPLACE(said[3], site=2),
            "close ciphertexts": CloseCiphertexts(),
        },
    )


def play_prekeys(site: int, number: int) -> Prekeys:
    return Play(JOB).join().prekeys(site, number)


STATES, EVENTS = played()
Expected = tuple[type[CoordinatorState], type | None]
ALLOWED: dict[tuple[str, str], Expected | type[ProtocolError]] = {
    ("gathering", "hello"): (Gathering, None),
    ("gathering", "hello again"): RemoteProtocolError,
    ("gathering", "close roster"): (Ready, Roster),
    ("agreeing, nothing yet", "ciphertexts"): (Agreeing, None),
    ("agreeing, nothing yet", "ciphertexts again"): (Agreeing, None),
    ("agreeing, nothing yet", "ciphertexts of a stranger"): RemoteProtocolError,
    ("agreeing, nothing yet", "ciphertexts too short"): RemoteProtocolError,
    ("agreeing, nothing yet", "ciphertexts of another"): RemoteProtocolError,
    ("agreeing, nothing yet", "close ciphertexts"): LocalProtocolError,
    ("agreeing", "ciphertexts"): (Agreeing, None),
    ("agreeing", "ciphertexts again"): RemoteProtocolError,
    ("agreeing", "ciphertexts of a stranger"): RemoteProtocolError,
    ("agreeing", "ciphertexts too short"): RemoteProtocolError,
    ("agreeing", "ciphertexts of another"): RemoteProtocolError,
    ("agreeing", "close ciphertexts"): (Ready, CiphertextTable),
    ("ready", "prekeys"): (Ready, None),
    ("ready", "prekeys again"): RemoteProtocolError,
    ("ready", "prekeys of round 2"): RemoteProtocolError,
    ("ready", "start round"): (Collecting, Plan),
    ("ready", "start round 3"): (Collecting, Plan),
    ("ready", "start round 0"): LocalProtocolError,
    ("ready", "start an unprepared round"): RoundAborted,
    ("collecting", "prekeys"): (Collecting, None),
    ("collecting", "prekeys again"): RemoteProtocolError,
    ("collecting", "prekeys of round 2"): RemoteProtocolError,
    ("collecting", "upload"): (Collecting, None),
    ("collecting", "upload again"): RemoteProtocolError,
    ("collecting", "close uploads"): (Unmasking, Survivors),
    ("collecting", "abandon"): (Ready, None),
    ("unmasking", "prekeys"): (Unmasking, None),
    ("unmasking", "prekeys again"): RemoteProtocolError,
    ("unmasking", "prekeys of round 2"): RemoteProtocolError,
    ("unmasking", "opening"): (Unmasking, None),
    ("unmasking", "opening again"): RemoteProtocolError,
    ("unmasking", "finish"): RoundAborted,
    ("unmasking", "abandon"): (Ready, None),
}


@pytest.mark.parametrize(("state", "event"), list(product(STATES, EVENTS)))
def test_every_state_meets_every_event(state: str, event: str) -> None:
    expected = ALLOWED.get((state, event), OutOfTurn)

    if isinstance(expected, tuple):
        after, sent = coordinator_step(STATES[state], EVENTS[event])
        assert isinstance(after, expected[0])
        assert [type(message) for message in sent] == [kind for kind in expected[1:] if kind]
    else:
        with pytest.raises(expected):
            coordinator_step(STATES[state], EVENTS[event])


def test_what_was_refused_or_forked_has_changed_nothing() -> None:
    """The recorded states have met every event above, and the round still sums."""
    state, _ = coordinator_step(STATES["unmasking"], EVENTS["opening"])

    state, (total,) = coordinator_step(state, Finish())

    assert isinstance(state, Ready)
    assert isinstance(total, Total)
    assert (total.round, total.sites) == (2, (0, 1, 2))
    assert total.vector.tolist() == plain_sum(JOB, VECTORS, total.sites)


# -- Refusals, by the name of the sender ----------------------------------------------


def refused(state: str, event: CoordinatorEvent) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as refusal:
        coordinator_step(STATES[state], event)
    return refusal.value


@pytest.mark.parametrize(
    "change",
    [
        {"site": 4},
        {"site": -1},
        {"round": 1},
        {"round": 3},
        {"vector": bytes(13)},
        {"vector": bytes(15)},
        {"vector": b""},
        {"prekeys": play_prekeys(2, 4)},
        {"prekeys": play_prekeys(3, 3)},
        {"prekeys": play_prekeys(3, 2)},
        {"prekeys": REPLACE(play_prekeys(3, 4), envelope=b"")},
    ],
)
def test_a_bad_upload_is_refused_by_its_site(change: dict[str, Any]) -> None:
    upload = EVENTS["upload"]
    assert isinstance(upload, Upload)

    error = refused("collecting", REPLACE(upload, **change))

    assert error.sender == change.get("site", 3)


@pytest.mark.parametrize(
    "change",
    [
        {"site": 3},  # a member that is no survivor
        {"site": 9},
        {"round": 1},
        {"sealed": bytes(4 * 32 + 15)},
        {"sealed": bytes(4 * 32 + 17)},
        {"gate_shares": bytes(2 * 32 - 1)},
        {"gate_shares": bytes(3 * 32)},
        {"commitments": bytes(32)},
        {"tokens": b""},
    ],
)
def test_a_bad_opening_is_refused_by_its_site(change: dict[str, Any]) -> None:
    opening = EVENTS["opening"]
    assert isinstance(opening, Opening)

    error = refused("unmasking", REPLACE(opening, **change))

    assert error.sender == change.get("site", 2)


@pytest.mark.parametrize("state", ["ready", "collecting", "unmasking"])
@pytest.mark.parametrize(
    "change",
    [
        {"site": 4},
        {"site": -1},
        {"round": 0},
        {"round": 3},
        {"self_shares": bytes(4 * 32 - 1)},
        {"self_commitments": bytes(4 * 32 + 1)},
        {"pair_shares": bytes(3 * 32)},
        {"pair_commitments": b""},
        {"envelope": bytes(3 * 32)},
    ],
)
def test_bad_prekeys_are_refused_by_their_site(state: str, change: dict[str, Any]) -> None:
    prekeys = EVENTS["prekeys"]
    assert isinstance(prekeys, Prekeys)

    error = refused(state, REPLACE(prekeys, **change))

    assert error.sender == change.get("site", 3)


def test_prekeys_may_not_pile_up() -> None:
    play = Play(JOB).join()
    for number in range(1, MOST_PENDING + 1):
        play.tell(play.prekeys(0, number))

    with pytest.raises(RemoteProtocolError, match="exceed 8 rounds") as refusal:
        play.tell(play.prekeys(0, MOST_PENDING + 1))

    assert refusal.value.sender == 0


def test_an_earlier_round_is_not_started_again() -> None:
    state, _ = coordinator_step(STATES["collecting"], AbandonRound())

    with pytest.raises(LocalProtocolError, match="round 2; expected one after 2"):
        coordinator_step(state, StartRound(round=2, model=MODEL))


def test_a_model_digest_of_another_size_is_refused() -> None:
    with pytest.raises(LocalProtocolError, match="model digest of 4 bytes"):
        coordinator_step(STATES["ready"], StartRound(round=2, model=b"good"))


@pytest.mark.parametrize("name", ["again", "of a stranger", "too short", "of another"])
def test_bad_ciphertexts_are_refused_by_their_site(name: str) -> None:
    event = EVENTS[f"ciphertexts {name}"]

    assert refused("agreeing", event).sender == event.site  # type: ignore[union-attr]


def test_the_last_close_of_a_hybrid_session_takes_the_sites_that_agreed() -> None:
    state, (table,) = coordinator_step(STATES["agreeing"], CloseCiphertexts())

    assert isinstance(state, Ready)
    assert isinstance(table, CiphertextTable)
    assert state.session.sites == tuple(said.site for said in table.entries) == (0, 1, 2)


def test_a_hybrid_roster_leads_to_ciphertexts() -> None:
    play = Play(HYBRID)

    play.introduce()

    assert isinstance(play.coordinator, Agreeing)


def test_a_roster_below_the_threshold_is_not_closed() -> None:
    play = Play(JOB, absent=[2, 3])

    with pytest.raises(LocalProtocolError, match="2 sites said hello; expected at least 3"):
        play.introduce()


# -- Rounds that end otherwise --------------------------------------------------------


def test_uploads_may_be_waited_for_after_an_early_close() -> None:
    play = Play(JOB).join().prepare()
    plan = play.plan()
    play.collect(plan, VECTORS, lost=[0, 1])
    with pytest.raises(RoundAborted, match=r"2 uploads; expected at least 3; sites \[0, 1\]"):
        play.survivors()

    play.tell(play.upload(1, plan, VECTORS[1]))

    assert play.survivors().sites == (1, 2, 3)


def test_openings_may_be_waited_for_after_an_early_finish() -> None:
    play = Play(JOB).join().prepare()
    play.collect(play.plan(), VECTORS)
    survivors = play.survivors()
    play.open(survivors, silent=[2, 3])
    with pytest.raises(RoundAborted, match="2 openings; expected at least 3"):
        play.finish()

    play.tell(play.opening(3, survivors))

    assert play.finish().vector.tolist() == plain_sum(JOB, VECTORS, range(4))


def test_the_next_round_runs_after_an_abandoned_one() -> None:
    play = Play(JOB).join().prepare(1).prepare(2)
    play.collect(play.plan(1), VECTORS, lost=[0, 1])

    play.tell(AbandonRound())

    assert play.round(VECTORS, 2).vector.tolist() == plain_sum(JOB, VECTORS, range(4))


def test_prekeys_of_a_late_upload_count_on_their_own() -> None:
    play = Play(JOB).join().prepare()
    plan = play.plan()
    uploads = [play.upload(site, plan, VECTORS[site], ahead=True) for site in range(4)]
    for upload in uploads[:3]:
        play.tell(upload)
    play.open(play.survivors())
    with pytest.raises(OutOfTurn):
        play.tell(uploads[3])

    prekeys = uploads[3].prekeys
    assert prekeys is not None
    play.tell(prekeys)
    play.finish()

    assert play.plan(2).members == (0, 1, 2, 3)


def test_prekeys_of_past_rounds_are_forgotten() -> None:
    play = Play(JOB).join().prepare(1).prepare(2).prepare(3)

    play.round(VECTORS, 2)

    assert isinstance(play.coordinator, Ready)
    assert list(play.coordinator.pending) == [3]


def test_only_a_few_vectors_are_kept() -> None:
    job = make_job(14, 9, 1)
    play, vectors = Play(job).join().prepare(), make_vectors(job)
    plan, kept = play.plan(), []

    for site in plan.members:
        play.tell(play.upload(site, plan, vectors[site]))
        assert isinstance(play.coordinator, Collecting)
        kept.append(len(play.coordinator.new))
    play.open(play.survivors())

    assert kept == [1, 2, 3] * 4 + [1, 2]
    assert max(kept) == AT_A_TIME
    assert play.finish().vector.tolist() == plain_sum(job, vectors, range(14))
