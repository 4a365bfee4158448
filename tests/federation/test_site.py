# SPDX-License-Identifier: Apache-2.0
"""Tests of the site: every state meets every event, and nothing unpaid or unchecked leaves."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.federation.conftest import DIMENSION, Play, identity, make, secret

from consilium.adapters.randomness import encapsulate
from consilium.errors import LocalProtocolError, OutOfTurn, ProtocolError, RemoteProtocolError
from consilium.federation.ledger import Charge, Receipt, charge_digest
from consilium.federation.messages import (
    PlainUpdate,
    PrekeysWanted,
    Ready,
    RoundStart,
    model_digest,
    weights_to_bytes,
)
from consilium.federation.setup import Setup
from consilium.federation.site import (
    Charged,
    Charging,
    Compute,
    Computed,
    Computing,
    Event,
    Expand,
    Failed,
    Joining,
    Outside,
    Pay,
    Received,
    SiteTerms,
    Start,
    State,
    Tell,
    Waiting,
    noise_shares,
    step,
)
from consilium.secagg.masks import Mask, add_masks
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)
from consilium.secagg.site import Encapsulated, Uploaded

WEIGHTS = weights_to_bytes(np.zeros(DIMENSION, np.float32))
VECTOR = np.zeros(DIMENSION, np.uint16)


OFF = "off-and-the-coordinator-sees-every-update"


def terms(*, secure: bool = True) -> SiteTerms:
    setup = make() if secure else make("federated-local-dp", sites__secure_sum=OFF)
    return setup.for_site(0, identity(0))


def hybrid_setup() -> Setup:
    return make(sites__post_quantum="true")


def round_start(number: int, members: tuple[int, ...] = (0, 1, 2, 3)) -> RoundStart:
    return RoundStart(Plan(number, members, model_digest(WEIGHTS)), WEIGHTS, 0.5)


def received(
    message: Roster | CiphertextTable | PrekeysWanted | RoundStart | Survivors,
) -> Received:
    return Received(message, secret("received", type(message).__name__), encapsulate)


def paid(number: int, own: SiteTerms) -> Receipt:
    charge = Charge(site=own.site, round=number, terms=own.terms, mechanism=own.mechanism)
    return Receipt(charge=charge_digest(charge), sequence=1)


def charged(number: int, own: SiteTerms) -> Charged:
    return Charged(number, paid(number, own), secret("charged", number))


def roster(setup: Setup) -> Roster:
    """Returns the roster of the other three sites and of site 0 as `joining` introduces it."""
    play = Play(setup)
    hellos = []
    for k in range(4):
        play.sites[k], (said,) = step(play.sites[k], Start(secret("start", k)))
        assert isinstance(said, Tell)
        assert isinstance(said.message, Hello)
        hellos.append(said.message)
    return Roster(tuple(hellos))


def walk(state: State, *events: Event) -> State:
    for event in events:
        state, _ = step(state, event)
    return state


TERMS, PLAIN_TERMS = terms(), terms(secure=False)
ROSTER = roster(make())
HYBRID_TERMS, HYBRID_ROSTER = hybrid_setup().for_site(0, identity(0)), roster(hybrid_setup())


def secure_states() -> dict[str, State]:
    """Returns one state of each kind, on the way to answering round 3 after round 2."""
    outside = Outside(TERMS)
    joining = walk(outside, Start(secret("start", 0)))
    joined = walk(joining, received(ROSTER), *map(received, map(PrekeysWanted, (2, 5))))
    uploaded = walk(joined, received(round_start(2)), Computed(2, VECTOR), charged(2, TERMS))
    computing = walk(uploaded, received(round_start(3)))
    return {
        "outside": outside,
        "joining": joining,
        "joined": joined,
        "uploaded": uploaded,
        "computing": computing,
        "charging": walk(computing, Computed(3, VECTOR)),
    }


def plain_states() -> dict[str, State]:
    outside = Outside(PLAIN_TERMS)
    waiting = walk(outside, Start(secret("start", 0)))
    done = walk(waiting, received(round_start(2)), Computed(2, VECTOR), charged(2, PLAIN_TERMS))
    computing = walk(done, received(round_start(3)))
    return {
        "outside": outside,
        "waiting": waiting,
        "done": done,
        "computing": computing,
        "charging": walk(computing, Computed(3, VECTOR)),
    }


SECURE, PLAIN = secure_states(), plain_states()


def events(own: SiteTerms) -> dict[str, Event]:
    bad_model = Plan(3, (0, 1, 2, 3), bytes(32))
    return {
        "start": Start(secret("start", 0)),
        "roster": received(ROSTER),
        "prekeys wanted": received(PrekeysWanted(6)),
        "prekeys wanted again": received(PrekeysWanted(3)),
        "prekeys wanted of the past": received(PrekeysWanted(2)),
        "round 3": received(round_start(3)),
        "round 5": received(round_start(5)),
        "round without prekeys": received(round_start(9)),
        "round 2": received(round_start(2)),
        "round of others": received(round_start(4, (1, 2, 3))),
        "round of too few": received(round_start(4, (0, 1))),
        "round of one many times": received(round_start(4, (0, 0, 0, 1))),
        "round of strangers": received(round_start(4, (0, 1, 2, 9))),
        "round on another model": received(RoundStart(bad_model, WEIGHTS, 0.5)),
        "survivors": received(Survivors(2, (0, 1, 2))),
        "survivors of another round": received(Survivors(3, (0, 1, 2))),
        "survivors without this site": received(Survivors(2, (1, 2, 3))),
        "survivors too few": received(Survivors(2, (0, 1))),
        "computed 3": Computed(3, VECTOR),
        "computed 2": Computed(2, VECTOR),
        "failed 3": Failed(3),
        "failed 2": Failed(2),
        "charged 3": charged(3, own),
        "charged 2": charged(2, own),
        "another charge": Charged(3, paid(4, own), secret("charged")),
    }


EVENTS, PLAIN_EVENTS = events(TERMS), events(PLAIN_TERMS)
Expected = type[State] | type[ProtocolError]
J, W, C, P = Joining, Waiting, Computing, Charging
X, R, L = OutOfTurn, RemoteProtocolError, LocalProtocolError
SECURE_TABLE: dict[str, tuple[Expected, ...]] = {
    # outside, joining, joined, uploaded 2, computing 3, charging 3
    "start": (J, X, X, X, X, X),
    "roster": (X, W, X, X, X, X),
    "prekeys wanted": (X, X, W, W, X, X),
    "prekeys wanted again": (X, X, W, R, X, X),
    "prekeys wanted of the past": (X, X, R, R, X, X),
    "round 3": (X, X, R, C, R, R),
    "round 5": (X, X, C, C, C, C),
    "round without prekeys": (X, X, R, R, R, R),
    "round 2": (X, X, C, R, R, R),
    "round of others": (X, X, R, R, R, R),
    "round of too few": (X, X, R, R, R, R),
    "round of one many times": (X, X, R, R, R, R),
    "round of strangers": (X, X, R, R, R, R),
    "round on another model": (X, X, R, R, R, R),
    "survivors": (X, X, X, W, X, X),
    "survivors of another round": (X, X, X, R, X, X),
    "survivors without this site": (X, X, X, R, X, X),
    "survivors too few": (X, X, X, R, X, X),
    "computed 3": (X, X, W, W, P, P),
    "computed 2": (X, X, W, W, C, P),
    "failed 3": (X, X, W, W, W, P),
    "failed 2": (X, X, W, W, C, P),
    "charged 3": (X, X, W, W, C, W),
    "charged 2": (X, X, W, W, C, P),
    "another charge": (X, X, W, W, C, L),
}
PLAIN_TABLE: dict[str, tuple[Expected, ...]] = {
    # outside, waiting, done 2, computing 3, charging 3
    "start": (W, X, X, X, X),
    "roster": (X, X, X, X, X),
    "prekeys wanted": (X, R, R, X, X),
    "prekeys wanted again": (X, R, R, X, X),
    "prekeys wanted of the past": (X, R, R, X, X),
    "round 3": (X, C, C, R, R),
    "round 5": (X, C, C, C, C),
    "round without prekeys": (X, C, C, C, C),
    "round 2": (X, C, R, R, R),
    "round of others": (X, R, R, R, R),
    "round of too few": (X, C, C, C, C),
    "round of one many times": (X, C, C, C, C),
    "round of strangers": (X, C, C, C, C),
    "round on another model": (X, R, R, R, R),
    "survivors": (X, R, R, X, X),
    "survivors of another round": (X, R, R, X, X),
    "survivors without this site": (X, R, R, X, X),
    "survivors too few": (X, R, R, X, X),
    "computed 3": (X, W, W, P, P),
    "computed 2": (X, W, W, C, P),
    "failed 3": (X, W, W, W, P),
    "failed 2": (X, W, W, C, P),
    "charged 3": (X, W, W, C, W),
    "charged 2": (X, W, W, C, P),
    "another charge": (X, W, W, C, L),
}


@pytest.mark.parametrize(("column", "state"), list(enumerate(SECURE)))
@pytest.mark.parametrize("event", EVENTS)
def test_every_state_meets_every_event(column: int, state: str, event: str) -> None:
    check(SECURE[state], EVENTS[event], SECURE_TABLE[event][column])


@pytest.mark.parametrize(("column", "state"), list(enumerate(PLAIN)))
@pytest.mark.parametrize("event", PLAIN_EVENTS)
def test_every_state_without_a_secure_sum_meets_every_event(
    column: int, state: str, event: str
) -> None:
    check(PLAIN[state], PLAIN_EVENTS[event], PLAIN_TABLE[event][column])


def others_ciphertexts() -> list[Ciphertexts]:
    """Returns what the sites beside site 0 say to the roster of the post-quantum project."""
    said = []
    for k in range(1, 4):
        joining = walk(Outside(hybrid_setup().for_site(k, identity(k))), Start(secret("start", k)))
        _, (tell,) = step(joining, received(HYBRID_ROSTER))
        assert isinstance(tell, Tell)
        assert isinstance(tell.message, Ciphertexts)
        said.append(tell.message)
    return said


def hybrid_states() -> dict[str, State]:
    """Returns the states of a site's set-up in a post-quantum project."""
    joining = walk(Outside(HYBRID_TERMS), Start(secret("start", 0), 7))
    agreeing = walk(joining, received(HYBRID_ROSTER))
    return {
        "outside": Outside(HYBRID_TERMS),
        "joining": joining,
        "agreeing": agreeing,
        "joined": walk(agreeing, received(table_of(agreeing))),
    }


def table_of(state: State) -> CiphertextTable:
    """Returns the table in which a site finds its own ciphertexts."""
    assert isinstance(state, Joining)
    assert isinstance(state.sum, Encapsulated)
    return CiphertextTable((state.sum.said, *others_ciphertexts()))


HYBRID = hybrid_states()
HYBRID_EVENTS: dict[str, Event] = {
    "start": Start(secret("start", 0)),
    "roster": received(HYBRID_ROSTER),
    "roster of another project": received(ROSTER),
    "table": received(table_of(HYBRID["agreeing"])),
    "table without this site": received(CiphertextTable(tuple(others_ciphertexts()))),
    "prekeys wanted": received(PrekeysWanted(8)),
    "round 3": received(round_start(3)),
    "survivors": received(Survivors(2, (0, 1, 2))),
}
HYBRID_TABLE: dict[str, tuple[Expected, ...]] = {
    # outside, joining, agreeing, joined
    "start": (J, X, X, X),
    "roster": (X, J, X, X),
    "roster of another project": (X, R, X, X),
    "table": (X, X, W, X),
    "table without this site": (X, X, R, X),
    "prekeys wanted": (X, X, X, W),
    "round 3": (X, X, X, R),
    "survivors": (X, X, X, X),
}


@pytest.mark.parametrize(("column", "state"), list(enumerate(HYBRID)))
@pytest.mark.parametrize("event", HYBRID_EVENTS)
def test_every_state_of_a_hybrid_setup_meets_every_event(
    column: int, state: str, event: str
) -> None:
    check(HYBRID[state], HYBRID_EVENTS[event], HYBRID_TABLE[event][column])


def check(state: State, event: Event, expected: Expected) -> None:
    if issubclass(expected, ProtocolError):
        with pytest.raises(expected) as refused:
            step(state, event)
        assert type(refused.value) is expected
    else:
        assert isinstance(step(state, event)[0], expected)


# -- What is said and done ------------------------------------------------------------


def test_a_start_says_hello_and_without_a_secure_sum_ready() -> None:
    _, (hello,) = step(SECURE["outside"], Start(secret("start", 0)))
    _, (ready,) = step(PLAIN["outside"], Start(secret("start", 0)))

    assert isinstance(hello, Tell)
    assert isinstance(hello.message, Hello)
    assert ready == Tell(Ready(0))


def test_a_round_asks_for_a_contribution_with_the_shares_of_its_members() -> None:
    _, (expand, compute) = step(SECURE["uploaded"], received(round_start(3, (0, 1, 3))))

    assert isinstance(expand, Expand)
    assert (len(expand.keys.added), len(expand.keys.subtracted)) == (3, 0)  # its own, and a pair's
    assert isinstance(compute, Compute)
    assert (compute.assignment.round, compute.assignment.learning_rate) == (3, 0.5)
    assert compute.assignment.shares == noise_shares(make().job, members=3, noise_alone=False)


def test_a_contribution_is_paid_before_anything_is_said() -> None:
    _, commands = step(SECURE["computing"], Computed(3, VECTOR))

    assert [type(command) for command in commands] == [Pay]


def test_a_paid_contribution_leaves_with_the_prekeys_of_the_next_round() -> None:
    _, (tell,) = step(SECURE["charging"], charged(3, TERMS))

    assert isinstance(tell, Tell)
    assert isinstance(tell.message, Upload)
    assert tell.message.round == 3
    assert isinstance(tell.message.prekeys, Prekeys)
    assert tell.message.prekeys.round == 4


def test_a_paid_contribution_without_a_secure_sum_leaves_as_it_is() -> None:
    charging = replace(state_of(PLAIN, "charging"), vector=np.arange(DIMENSION, dtype=np.uint16))

    _, (tell,) = step(charging, charged(3, PLAIN_TERMS))

    assert tell == Tell(PlainUpdate(0, 3, np.arange(DIMENSION, dtype="<u2").tobytes()))


def test_the_receipt_of_another_round_sends_nothing() -> None:
    with pytest.raises(LocalProtocolError, match="another charge; nothing was sent"):
        step(SECURE["charging"], EVENTS["another charge"])


@pytest.mark.parametrize("change", [{"terms": bytes(32)}, {"mechanism": "free"}, {"site": 1}])
def test_the_receipt_of_another_project_mechanism_or_site_is_refused(
    change: dict[str, Any],
) -> None:
    charge = Charge(site=0, round=3, terms=TERMS.terms, mechanism=TERMS.mechanism)
    other = Receipt(charge=charge_digest(replace(charge, **change)), sequence=1)

    with pytest.raises(LocalProtocolError):
        step(SECURE["charging"], Charged(3, other, secret("charged")))


def test_what_was_computed_for_an_older_round_is_dropped() -> None:
    later = walk(SECURE["computing"], received(round_start(5)))

    state, commands = step(later, Computed(3, VECTOR))

    assert state is later
    assert commands == ()


def test_a_round_that_failed_is_not_computed_again_and_the_next_one_is() -> None:
    waiting = walk(SECURE["computing"], Failed(3))

    with pytest.raises(RemoteProtocolError, match="expected one after 3"):
        step(waiting, received(round_start(3)))
    assert isinstance(walk(waiting, received(PrekeysWanted(6))), Waiting)
    assert isinstance(walk(waiting, received(round_start(5))), Computing)


def test_a_charge_that_comes_after_its_round_pays_for_nothing() -> None:
    later = walk(SECURE["charging"], received(round_start(5)))

    state, commands = step(later, charged(3, TERMS))

    assert state is later
    assert commands == ()


def test_a_round_is_not_begun_again_with_another_model() -> None:
    other = weights_to_bytes(np.ones(DIMENSION, np.float32))
    again = RoundStart(Plan(3, (0, 1, 2, 3), model_digest(other)), other, 0.5)

    with pytest.raises(RemoteProtocolError, match="expected one after 3"):
        step(SECURE["computing"], received(again))


def test_a_round_is_answered_once() -> None:
    answered = walk(PLAIN["charging"], charged(3, PLAIN_TERMS))

    with pytest.raises(RemoteProtocolError, match="expected one after 3"):
        step(answered, received(round_start(3)))


def test_masks_that_were_expanded_ahead_give_the_same_upload() -> None:
    state, (expand, _) = step(SECURE["uploaded"], received(round_start(3)))
    assert isinstance(expand, Expand)
    words = np.zeros(DIMENSION, np.uint16)
    add_masks(words, add=expand.keys.added, subtract=expand.keys.subtracted)
    event = replace(charged(3, TERMS), mask=Mask(expand.keys.plan, words))

    _, ahead = step(walk(state, Computed(3, VECTOR)), event)
    _, at_once = step(SECURE["charging"], charged(3, TERMS))

    assert ahead == at_once


# -- A site that starts again ---------------------------------------------------------


@pytest.mark.parametrize(("own", "number"), [(TERMS, 4), (PLAIN_TERMS, 3)])
def test_a_restarted_site_never_answers_a_round_twice(own: SiteTerms, number: int) -> None:
    state = walk(Outside(own), Start(secret("start", 0), number))
    if own is TERMS:
        state = walk(state, received(ROSTER), *map(received, map(PrekeysWanted, (4, 5))))

    for past in range(1, number + 1):
        with pytest.raises(RemoteProtocolError, match=f"expected one after {number}"):
            step(state, received(round_start(past)))

    assert isinstance(step(state, received(round_start(number + 1)))[0], Computing)


def test_a_restarted_site_of_a_hybrid_job_never_answers_a_round_twice() -> None:
    state = HYBRID["joined"]
    assert isinstance(state, Waiting)
    assert state.done == 7

    for past in range(1, 8):
        with pytest.raises(RemoteProtocolError, match="expected one after 7"):
            step(state, received(round_start(past)))


def test_a_restarted_site_opens_nothing_of_an_older_session() -> None:
    state = walk(Outside(TERMS), Start(secret("start", 0), 2), received(ROSTER))

    with pytest.raises(OutOfTurn):
        step(state, EVENTS["survivors"])


def test_survivors_are_answered_and_the_round_is_over() -> None:
    state, (tell,) = step(SECURE["uploaded"], EVENTS["survivors"])

    assert isinstance(tell, Tell)
    assert not isinstance(state_sum(state), Uploaded)


# -- What a coordinator may not send --------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    weights = weights_to_bytes(np.array([value] + [0] * (DIMENSION - 1), np.float32))
    start = RoundStart(Plan(3, (0, 1, 2, 3), model_digest(weights)), weights, 0.5)

    with pytest.raises(RemoteProtocolError, match="not finite"):
        step(SECURE["joined"], received(start))


@pytest.mark.parametrize("count", [0, DIMENSION - 1, DIMENSION + 1])
def test_weights_of_another_model_are_refused(count: int) -> None:
    weights = weights_to_bytes(np.zeros(count, np.float32))
    start = RoundStart(Plan(3, (0, 1, 2, 3), model_digest(weights)), weights, 0.5)

    with pytest.raises(RemoteProtocolError, match="bytes; expected"):
        step(SECURE["joined"], received(start))


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1, 1e300])
def test_a_learning_rate_that_is_none_is_refused(rate: float) -> None:
    start = RoundStart(round_start(3).plan, WEIGHTS, rate)

    with pytest.raises(RemoteProtocolError, match="learning rate"):
        step(SECURE["joined"], received(start))


def test_prekeys_too_far_ahead_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="rounds ahead"):
        step(SECURE["joined"], received(PrekeysWanted(10_001)))


# -- Shares of noise ------------------------------------------------------------------


def test_a_round_with_fewer_members_counts_on_fewer_honest_sites() -> None:
    job = make().job

    assert noise_shares(job, members=4, noise_alone=False).honest == 2
    assert noise_shares(job, members=3, noise_alone=False).honest == 2


@pytest.mark.parametrize("members", [1, 3, 9])
def test_a_site_that_trusts_nobody_adds_the_whole_noise(members: int) -> None:
    assert noise_shares(make().job, members=members, noise_alone=True).honest == 1
    assert noise_shares(None, members=members, noise_alone=False).honest == 1


# -- Secrets --------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["outside", "charging"])
def test_no_key_and_no_vector_prints(state: str) -> None:
    shown = repr(SECURE[state])

    assert repr(identity(0))[2:-1] not in shown
    assert "array" not in shown


def state_of(states: dict[str, State], name: str) -> Charging:
    state = states[name]
    assert isinstance(state, Charging)
    return state


def state_sum(state: State) -> object:
    assert isinstance(state, Waiting)
    return state.sum
