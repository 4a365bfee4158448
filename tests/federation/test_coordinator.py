# SPDX-License-Identifier: Apache-2.0
"""Tests of the coordinator: every state meets every event, quorums, budget and patience."""

from dataclasses import replace
from typing import TypeAlias

import msgspec
import numpy as np
import pytest
from tests.federation.conftest import Play, losing, losing_all, make

from consilium import wire
from consilium.errors import OutOfTurn, ProtocolError, RemoteProtocolError
from consilium.federation.coordinator import (
    MOST_ABANDONED,
    Agreeing,
    Collecting,
    Deadline,
    Event,
    Finished,
    Gathering,
    Looked,
    Looking,
    Preparing,
    Received,
    Save,
    State,
    Tell,
    Unmasking,
    step,
)
from consilium.federation.messages import (
    FROM_SITE,
    FromSite,
    PlainUpdate,
    PrekeysWanted,
    Ready,
    RoundStart,
)
from consilium.federation.plain_sum import PlainSum
from consilium.federation.progress import Validation
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

OFF = "off-and-the-coordinator-sees-every-update"
SECURE = replace(make(), steps_allowed=9)
HYBRID = replace(make(sites__post_quantum="true"), steps_allowed=9)
PLAIN = replace(make("federated-local-dp", sites__secure_sum=OFF), steps_allowed=9)
LOOKED = Looked(Validation(round=1, loss=1.0, auc=None, accuracy=0.5))

# -- Every state meets every event ----------------------------------------------------


def read(words: list[bytes]) -> list[FromSite]:
    return [wire.decode(word, FROM_SITE, limit=100_000) for word in words]


class Recorded:
    """Two rounds, of which site 3 misses the first: a state of each kind, and what was said."""

    def __init__(self) -> None:
        play = Play(SECURE)
        hellos = play.introduce()
        self.gathering = self.after(play, hellos[:2])
        self.prekeys = self.answers(play, hellos[2:])
        self.preparing = self.after(play, self.prekeys[:2])
        self.uploads = self.answers(play, self.prekeys[2:])
        self.collecting = self.after(play, self.uploads[:2])
        play.hear(self.uploads[2])
        survivors = play.tell(Deadline())
        self.openings = [out for k, data in survivors for out in play.deliver(k, data)]
        self.unmasking = self.after(play, self.openings[:1])
        self.second = self.after(play, self.openings[1:])
        self.hellos = hellos

    @staticmethod
    def after(play: Play, words: list[bytes]) -> State:
        for word in words:
            play.hear(word)
        return play.state

    @staticmethod
    def answers(play: Play, words: list[bytes]) -> list[bytes]:
        outbox = [out for word in words for out in play.hear(word)]
        return [answer for k, data in outbox for answer in play.deliver(k, data)]

    def states(self) -> dict[str, State]:
        assert isinstance(self.second, Preparing)
        terms, progress = self.second.terms, self.second.progress
        return {
            "gathering": self.gathering,
            "preparing": self.preparing,
            "collecting": self.collecting,
            "unmasking": self.unmasking,
            "preparing 2": self.second,
            "looking": Looking(terms=terms, progress=progress, sum=self.second.sum),
            "finished": Finished(progress=progress, reason="enough"),
        }

    def events(self) -> dict[str, Received]:
        said = {
            "hello": self.hellos[2],
            "hello again": self.hellos[0],
            "prekeys": self.prekeys[2],
            "prekeys again": self.prekeys[0],
            "upload": self.uploads[2],
            "upload again": self.uploads[0],
            "late upload": self.uploads[3],
            "opening": self.openings[1],
            "opening again": self.openings[0],
        }
        return {name: Received(read([word])[0]) for name, word in said.items()}


def prekeys_on(word: bytes) -> Prekeys:
    (upload,) = read([word])
    assert isinstance(upload, Upload)
    assert upload.prekeys is not None
    return upload.prekeys


def changed(event: Received, **fields: object) -> Received:
    return Received(msgspec.structs.replace(event.message, **fields))


RECORDED = Recorded()
STATES, SAID = RECORDED.states(), RECORDED.events()
LATE = SAID["late upload"]
EVENTS: dict[str, Event] = {
    **SAID,
    "hello of a stranger": changed(SAID["hello"], site=9),
    "hello in another's name": changed(SAID["hello"], site=3),
    "ready": Received(Ready(2)),
    "prekeys of a stranger": changed(SAID["prekeys"], site=9),
    "upload without prekeys": changed(LATE, prekeys=None),
    "upload of a stranger": changed(LATE, site=9, prekeys=None),
    "upload of another round": changed(LATE, round=2, prekeys=None),
    "upload too short": changed(LATE, vector=b"1", prekeys=None),
    "upload with another's prekeys": changed(LATE, prekeys=prekeys_on(RECORDED.uploads[2])),
    "opening of one who is lost": changed(SAID["opening"], site=3),
    "plain update": Received(PlainUpdate(2, 1, b"")),
    "looked": LOOKED,
    "deadline": Deadline(),
}
Expected: TypeAlias = type[State] | type[ProtocolError]
G, P, C, U = Gathering, Preparing, Collecting, Unmasking
X, R = OutOfTurn, RemoteProtocolError
TABLE: dict[str, tuple[Expected, ...]] = {
    # gathering, preparing 1, collecting 1, unmasking 1, preparing 2, looking, finished
    "hello": (G, X, X, X, X, X, X),
    "hello again": (R, X, X, X, X, X, X),
    "hello of a stranger": (R, X, X, X, X, X, X),
    "hello in another's name": (R, X, X, X, X, X, X),
    "ready": (R, X, X, X, X, X, X),
    "prekeys": (X, P, X, X, R, X, X),
    "prekeys again": (X, R, X, X, R, X, X),
    "prekeys of a stranger": (X, R, X, X, R, X, X),
    "upload": (X, P, C, R, R, X, X),
    "upload again": (X, P, R, R, R, X, X),
    "late upload": (X, P, C, U, C, X, X),
    "upload without prekeys": (X, X, C, X, X, X, X),
    "upload of a stranger": (X, X, R, X, X, X, X),
    "upload of another round": (X, X, R, X, X, X, X),
    "upload too short": (X, X, R, X, X, X, X),
    "upload with another's prekeys": (X, R, R, R, R, X, X),
    "opening": (X, X, X, U, X, X, X),
    "opening again": (X, X, X, R, X, X, X),
    "opening of one who is lost": (X, X, X, R, X, X, X),
    "plain update": (X, X, R, X, X, X, X),
    "looked": (X, X, X, X, X, P, X),
    "deadline": (G, P, P, P, C, X, X),
}


@pytest.mark.parametrize(("column", "state"), list(enumerate(STATES)))
@pytest.mark.parametrize("event", EVENTS)
def test_every_state_meets_every_event(column: int, state: str, event: str) -> None:
    check(STATES[state], EVENTS[event], TABLE[event][column])


def plain_states() -> dict[str, State]:
    play = Play(PLAIN)
    words = play.introduce()
    gathering = Recorded.after(play, words[:2])
    updates = Recorded.answers(play, words[2:])
    collecting = Recorded.after(play, updates[:2])
    assert isinstance(collecting, Collecting)
    assert isinstance(collecting.sum, PlainSum)
    terms, progress = collecting.terms, collecting.progress
    return {
        "gathering": gathering,
        "collecting": collecting,
        "looking": Looking(terms=terms, progress=progress, sum=collecting.sum),
        "finished": Finished(progress=progress, reason="enough"),
    }


VECTOR = bytes(2 * PLAIN.dimension)
PLAIN_STATES = plain_states()
PLAIN_EVENTS: dict[str, Event] = {
    "ready": Received(Ready(2)),
    "ready again": Received(Ready(0)),
    "ready of a stranger": Received(Ready(9)),
    "ready of nobody": Received(Ready(-1)),
    "hello": SAID["hello"],
    "prekeys": SAID["prekeys"],
    "update": Received(PlainUpdate(2, 1, VECTOR)),
    "update again": Received(PlainUpdate(0, 1, VECTOR)),
    "update of a stranger": Received(PlainUpdate(9, 1, VECTOR)),
    "update of another round": Received(PlainUpdate(2, 2, VECTOR)),
    "update too short": Received(PlainUpdate(2, 1, VECTOR[1:])),
    "upload": SAID["upload"],
    "opening": SAID["opening"],
    "looked": LOOKED,
    "deadline": Deadline(),
}
PLAIN_TABLE: dict[str, tuple[Expected, ...]] = {
    # gathering, collecting, looking, finished
    "ready": (G, X, X, X),
    "ready again": (R, X, X, X),
    "ready of a stranger": (R, X, X, X),
    "ready of nobody": (R, X, X, X),
    "hello": (R, X, X, X),
    "prekeys": (X, X, X, X),
    "update": (X, C, X, X),
    "update again": (X, R, X, X),
    "update of a stranger": (X, R, X, X),
    "update of another round": (X, R, X, X),
    "update too short": (X, R, X, X),
    "upload": (X, R, X, X),
    "opening": (X, X, X, X),
    "looked": (X, X, C, X),
    "deadline": (G, C, X, X),
}


@pytest.mark.parametrize(("column", "state"), list(enumerate(PLAIN_STATES)))
@pytest.mark.parametrize("event", PLAIN_EVENTS)
def test_every_state_without_a_secure_sum_meets_every_event(
    column: int, state: str, event: str
) -> None:
    check(PLAIN_STATES[state], PLAIN_EVENTS[event], PLAIN_TABLE[event][column])


class RecordedSetup:
    """The set-up of a post-quantum project: a state of each kind, and what was said."""

    def __init__(self) -> None:
        play = Play(HYBRID)
        self.hellos = play.introduce()
        self.gathering = Recorded.after(play, self.hellos[:3])
        said = Recorded.answers(play, self.hellos[3:])
        self.nothing = play.state
        self.agreeing = Recorded.after(play, said[:3])
        self.prekeys = Recorded.answers(play, said[3:])
        self.preparing = play.state
        self.said = said
        _, self.last = step(self.agreeing, Received(read(said)[3]))


SETUP = RecordedSetup()
SETUP_STATES: dict[str, State] = {
    "gathering": SETUP.gathering,
    "agreeing, nothing yet": SETUP.nothing,
    "agreeing": SETUP.agreeing,
    "preparing": SETUP.preparing,
}
CIPHERTEXTS = [Received(message) for message in read(SETUP.said)]
SETUP_EVENTS: dict[str, Event] = {
    "hello": Received(read(SETUP.hellos)[3]),
    "ciphertexts": CIPHERTEXTS[3],
    "ciphertexts again": CIPHERTEXTS[0],
    "ciphertexts of a stranger": changed(CIPHERTEXTS[3], site=9),
    "ciphertexts in another's name": changed(CIPHERTEXTS[2], site=3),
    "prekeys": Received(read(SETUP.prekeys)[2]),
    "deadline": Deadline(),
}
A = Agreeing
SETUP_TABLE: dict[str, tuple[Expected, ...]] = {
    # gathering, agreeing with nobody, agreeing with three of four, preparing
    "hello": (A, X, X, X),
    "ciphertexts": (X, A, P, X),
    "ciphertexts again": (X, A, R, X),
    "ciphertexts of a stranger": (X, R, R, X),
    "ciphertexts in another's name": (X, R, R, X),
    "prekeys": (X, X, X, P),
    "deadline": (A, A, P, P),
}


@pytest.mark.parametrize(("column", "state"), list(enumerate(SETUP_STATES)))
@pytest.mark.parametrize("event", SETUP_EVENTS)
def test_every_state_of_a_hybrid_setup_meets_every_event(
    column: int, state: str, event: str
) -> None:
    check(SETUP_STATES[state], SETUP_EVENTS[event], SETUP_TABLE[event][column])


def check(state: State, event: Event, expected: Expected) -> None:
    if issubclass(expected, ProtocolError):
        with pytest.raises(expected) as refused:
            step(state, event)
        assert type(refused.value) is expected
    else:
        assert isinstance(step(state, event)[0], expected)


@pytest.mark.parametrize("event", [name for name in EVENTS if R in TABLE[name]])
def test_who_sent_a_refused_message_is_named(event: str) -> None:
    state = STATES[list(STATES)[TABLE[event].index(R)]]

    with pytest.raises(RemoteProtocolError) as refused:
        step(state, EVENTS[event])

    assert refused.value.sender == EVENTS[event].message.site  # type: ignore[union-attr]


# -- The roster -----------------------------------------------------------------------


def test_the_last_hello_closes_the_roster_and_asks_for_prekeys() -> None:
    play = Play(SECURE)
    for word in play.introduce()[:3]:
        play.hear(word)

    _, (roster, save, prekeys) = step(play.state, Received(read(RECORDED.hellos)[3]))

    assert isinstance(roster, Tell)
    assert isinstance(roster.message, Roster)
    assert isinstance(save, Save)
    assert prekeys == Tell((0, 1, 2, 3), PrekeysWanted(1))


def test_a_deadline_closes_the_roster_with_enough_sites() -> None:
    play = Play(SECURE)
    Recorded.after(play, play.introduce()[:3])

    outbox = play.tell(Deadline())

    assert isinstance(play.state, Preparing)
    assert {k for k, _ in outbox} == {0, 1, 2}


def test_without_a_secure_sum_every_site_is_waited_for() -> None:
    play = Play(PLAIN)
    Recorded.after(play, play.introduce()[:3])

    assert play.tell(Deadline()) == []
    assert isinstance(play.state, Gathering)


def test_a_session_of_fewer_sites_runs_to_the_end() -> None:
    play = Play(SECURE, lost=losing((Hello, 0, 3)))

    assert play.run().progress.round == 3
    assert [sites for _, sites in play.opened] == [(0, 1, 2)] * 3


# -- The ciphertexts ------------------------------------------------------------------


def test_the_last_ciphertexts_close_the_table_and_ask_for_prekeys() -> None:
    table, save, prekeys = SETUP.last

    assert isinstance(table, Tell)
    assert isinstance(table.message, CiphertextTable)
    assert table.sites == (0, 1, 2, 3)
    assert isinstance(save, Save)
    assert prekeys == Tell((0, 1, 2, 3), PrekeysWanted(1))


def test_a_deadline_closes_the_table_with_enough_sites() -> None:
    _, (table, _, prekeys) = step(SETUP.agreeing, Deadline())

    assert isinstance(table, Tell)
    assert table.sites == (0, 1, 2)
    assert prekeys == Tell((0, 1, 2), PrekeysWanted(1))


@pytest.mark.parametrize("kind", [Roster, Ciphertexts, CiphertextTable])
def test_a_hybrid_session_goes_on_without_a_site_that_stops_in_the_setup(
    kind: type[wire.Message],
) -> None:
    play = Play(HYBRID, lost=losing((kind, 0, 3)))

    assert play.run().progress.round == 3
    assert [sites for _, sites in play.opened] == [(0, 1, 2)] * 3


def test_a_hybrid_session_of_too_few_sites_waits() -> None:
    play = Play(HYBRID, lost=losing((Ciphertexts, 0, 2), (Ciphertexts, 0, 3)))
    said = play.turn(play.introduce())

    assert play.turn(said) == play.turn([]) == []
    assert isinstance(play.state, Agreeing)


# -- Rounds ---------------------------------------------------------------------------


def test_a_deadline_starts_a_round_with_the_sites_that_are_prepared() -> None:
    _, (tell,) = step(STATES["preparing 2"], Deadline())

    assert isinstance(tell, Tell)
    assert isinstance(tell.message, RoundStart)
    assert tell.sites == tell.message.plan.members == (0, 1, 2)


def test_a_deadline_starts_no_round_with_too_few_sites() -> None:
    assert step(STATES["preparing"], Deadline()) == (STATES["preparing"], ())


@pytest.mark.parametrize("state", ["unmasking", "preparing 2"])
def test_the_prekeys_of_a_late_upload_count(state: str) -> None:
    after, _ = step(STATES[state], LATE)

    match after:
        case Unmasking(sum=sums) | Collecting(sum=sums) if not isinstance(sums, PlainSum):
            assert set(sums.ready.pending[2]) == {0, 1, 2, 3}
        case _:
            pytest.fail(type(after).__name__)


def test_a_late_vector_does_not_count() -> None:
    assert isinstance(STATES["unmasking"], Unmasking)
    after, _ = step(STATES["unmasking"], LATE)

    assert isinstance(after, Unmasking)
    assert after.sum.closed.survivors == (0, 1, 2)
    assert after.sum.total is STATES["unmasking"].sum.total


def test_a_site_that_is_late_once_is_a_member_of_the_next_round() -> None:
    _, (tell,) = step(STATES["preparing 2"], LATE)

    assert isinstance(tell, Tell)
    assert tell.sites == (0, 1, 2, 3)


def test_rounds_only_go_up() -> None:
    play = Play(SECURE, lost=losing_all(RoundStart, until=3))

    play.run()

    assert play.started == [1, 2, 3, 4, 5]


def test_progress_is_durable_before_every_round() -> None:
    play = Play(SECURE, lost=losing_all(RoundStart, until=2))

    play.run()

    assert [(saved.round, saved.attempts) for saved in play.saved] == [
        (0, 0),
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
    ]


# -- Rounds that are given up ---------------------------------------------------------


def test_too_few_uploads_abandon_the_round_and_leave_the_model() -> None:
    play = Play(SECURE, lost=losing((RoundStart, 1, 0), (RoundStart, 1, 1)))

    finished = play.run()

    assert finished.progress.attempts == 4
    assert [number for number, _ in play.opened] == [2, 3, 4]
    assert play.saved[1].weights.tolist() == play.saved[0].weights.tolist()


def test_a_plain_round_waits_for_every_site_and_costs_the_others_one_charge() -> None:
    play = Play(PLAIN, lost=losing((RoundStart, 1, 0)))
    said = play.turn(play.introduce())

    waits = [play.turn(said if turn == 0 else []) for turn in range(50)]

    assert waits == [[]] * 50
    assert play.state.progress.attempts == 1
    assert [len(ledger.charges) for ledger in play.ledgers] == [0, 1, 1, 1]


def test_too_few_openings_abandon_the_round() -> None:
    play = Play(SECURE, lost=losing((Opening, 1, 0), (Opening, 1, 1)))

    play.run()

    assert [number for number, _ in play.opened] == [2, 3, 4]


def test_survivors_of_an_abandoned_round_are_never_told() -> None:
    _, commands = step(STATES["collecting"], Deadline())

    assert not any(isinstance(c, Tell) and isinstance(c.message, Survivors) for c in commands)


def test_an_abandoned_round_stays_charged() -> None:
    play = Play(SECURE, lost=losing((Opening, 1, 0), (Opening, 1, 1)))

    play.run()

    assert [ledger.count() for ledger in play.ledgers] == [4, 4, 4, 4]


def test_a_site_pays_only_for_what_it_uploaded() -> None:
    play = Play(SECURE, lost=losing((RoundStart, 2, 3)))

    play.run()

    assert [ledger.count() for ledger in play.ledgers] == [3, 3, 3, 2]


def test_a_run_that_loses_every_round_ends() -> None:
    play = Play(replace(SECURE, steps_allowed=None), lost=losing_all(RoundStart))

    finished = play.run()

    assert finished.progress.attempts == MOST_ABANDONED + 1
    assert "were abandoned" in finished.reason


# -- Budget ---------------------------------------------------------------------------


def test_training_stops_before_the_step_that_would_exceed_the_budget() -> None:
    play = Play(replace(SECURE, steps_allowed=2))

    finished = play.run()

    assert "would exceed the privacy budget" in finished.reason
    assert play.started == [1, 2]
    assert [ledger.count() for ledger in play.ledgers] == [2, 2, 2, 2]


def test_the_last_model_that_the_budget_paid_for_is_looked_at() -> None:
    play = Play(replace(SECURE, steps_allowed=1))

    play.run()

    assert [number for number, _ in play.looks] == [1]


def test_an_abandoned_round_spends_the_budget() -> None:
    lost = losing((Opening, 1, 0), (Opening, 1, 1))
    play = Play(replace(SECURE, steps_allowed=2), lost=lost)

    finished = play.run()

    assert (finished.progress.round, finished.progress.attempts) == (1, 2)


def test_a_resumed_run_with_a_spent_budget_starts_no_round() -> None:
    spent = replace(Play(SECURE).state.progress, attempts=2)
    play = Play(replace(SECURE, steps_allowed=2), progress=spent)

    assert "would exceed" in play.run().reason
    assert play.started == []


def test_a_site_whose_own_ledger_is_full_sends_nothing() -> None:
    play = Play(SECURE)
    play.ledgers[0].allowed = 1

    play.run()

    assert [sites for _, sites in play.opened] == [(0, 1, 2, 3), (1, 2, 3), (1, 2, 3)]
    assert play.ledgers[0].count() == 1


# -- Looks and patience ---------------------------------------------------------------


def test_looks_come_every_few_rounds_and_at_the_end() -> None:
    play = Play(make(training__rounds="5"))

    play.run()

    assert [number for number, _ in play.looks] == [2, 4, 5]


def test_patience_stops_training_and_returns_the_best_model() -> None:
    setup = make(training__rounds="9", training__evaluate_every="1", stopping__patience="2")
    play = Play(setup, scores={1: 0.6, 2: 0.9, 3: 0.7, 4: 0.9})

    finished = play.run()

    assert finished.reason == "no better validation score within the patience"
    assert finished.progress.round == 4
    assert finished.progress.best is not None
    assert np.array_equal(finished.progress.best, play.looks[1][1])


def test_what_the_coordinator_looks_at_is_the_moving_average() -> None:
    play = Play(make(training__average_decay="0.5"))

    finished = play.run()

    average = finished.progress.average.weights()
    assert np.array_equal(play.looks[-1][1], average)
    assert not np.array_equal(average, finished.progress.weights)
