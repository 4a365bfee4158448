# SPDX-License-Identifier: Apache-2.0
"""A site: every state meets every event, and what it refuses."""

from contextlib import suppress
from dataclasses import replace
from itertools import product

import msgspec
import numpy as np
import pytest
from tests.secagg import fips203
from tests.secagg.conftest import MODEL, Play, make_identities, make_job, make_vectors, secret

from consilium.errors import (
    ConfigError,
    LocalProtocolError,
    OutOfTurn,
    ProtocolError,
    RemoteProtocolError,
)
from consilium.secagg.masks import Mask
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Survivors,
    Upload,
)
from consilium.secagg.site import (
    MOST_STEPS,
    Begin,
    Contribute,
    Encapsulate,
    Encapsulated,
    Introduced,
    Invited,
    Joined,
    Open,
    Prepare,
    SiteEvent,
    SiteState,
    Uploaded,
    plan_masks,
    site_step,
)

JOB = make_job(3, 3, 1)
HYBRID = replace(JOB, post_quantum=True)
VECTOR = make_vectors(JOB)[0]
EVERYONE = (0, 1, 2)


def states() -> dict[str, SiteState]:
    """Returns site 0 in each of its states; it has prepared rounds 2 and 5, and uploaded in 2."""
    play = Play(JOB)
    invited = play.sites[0]
    play.introduce()
    introduced = play.sites[0]
    play = Play(JOB).join().prepare(2).prepare(5)
    joined = play.sites[0]
    play.upload(0, Plan(2, EVERYONE, MODEL), VECTOR)
    return {
        "invited": invited,
        "introduced": introduced,
        **hybrid_states(),
        "joined": joined,
        "uploaded": play.sites[0],
    }


def hybrid_states() -> dict[str, SiteState]:
    """Returns site 0 of a post-quantum job in the states of its set-up."""
    play = Play(HYBRID)
    roster = play.introduce()
    introduced = play.sites[0]
    play.encapsulate(0, roster)
    return {"introduced, hybrid": introduced, "encapsulated": play.sites[0]}


def hybrid_events() -> dict[str, SiteEvent]:
    """Returns what site 0 of a post-quantum job meets in its set-up."""
    play = Play(HYBRID)
    roster = play.introduce()
    table = play.agree(roster)
    return {
        "hybrid roster": roster,
        "encapsulate": Encapsulate(roster, fips203.replayed(0)),
        "table": table,
        "table of too few": CiphertextTable(table.entries[:2]),
    }


def contribute(number: int, following: bytes | None = None) -> Contribute:
    return Contribute(plan=Plan(number, EVERYONE, MODEL), vector=VECTOR, next_secret=following)


def opening(number: int) -> Open:
    return Open(survivors=Survivors(number, EVERYONE), secret=secret("open"))


STATES = states()
EVENTS: dict[str, SiteEvent] = {
    "begin": Begin(secret("begin", 0)),
    "roster": Play(JOB).introduce(),
    **hybrid_events(),
    "encapsulate for another job": Encapsulate(Play(JOB).introduce(), fips203.replayed(0)),
    "prepare": Prepare(round=3, secret=secret("prepare")),
    "prepare again": Prepare(round=5, secret=secret("prepare")),
    "contribute": contribute(5),
    "contribute and prepare": contribute(5, secret("next")),
    "contribute to the first": contribute(2),
    "contribute unprepared": contribute(4),
    "open": opening(2),
    "open another": opening(5),
}
Expected = tuple[type[SiteState], type | None]
ALLOWED: dict[tuple[str, str], Expected | type[ProtocolError]] = {
    ("invited", "begin"): (Introduced, Hello),
    ("introduced", "roster"): (Joined, None),
    ("introduced", "hybrid roster"): RemoteProtocolError,
    ("introduced, hybrid", "encapsulate"): (Encapsulated, Ciphertexts),
    ("introduced, hybrid", "encapsulate for another job"): RemoteProtocolError,
    ("encapsulated", "table"): (Joined, None),
    ("encapsulated", "table of too few"): RemoteProtocolError,
    ("joined", "prepare"): (Joined, Prekeys),
    ("joined", "prepare again"): LocalProtocolError,
    ("joined", "contribute"): (Uploaded, Upload),
    ("joined", "contribute and prepare"): (Uploaded, Upload),
    ("joined", "contribute to the first"): (Uploaded, Upload),
    ("joined", "contribute unprepared"): RemoteProtocolError,
    ("uploaded", "prepare"): (Uploaded, Prekeys),
    ("uploaded", "prepare again"): LocalProtocolError,
    ("uploaded", "contribute"): (Uploaded, Upload),
    ("uploaded", "contribute and prepare"): (Uploaded, Upload),
    ("uploaded", "contribute to the first"): RemoteProtocolError,
    ("uploaded", "contribute unprepared"): RemoteProtocolError,
    ("uploaded", "open"): (Joined, Opening),
    ("uploaded", "open another"): RemoteProtocolError,
}


@pytest.mark.parametrize(("state", "event"), list(product(STATES, EVENTS)))
def test_every_state_meets_every_event(state: str, event: str) -> None:
    expected = ALLOWED.get((state, event), OutOfTurn)

    if isinstance(expected, tuple):
        after, sent = site_step(STATES[state], EVENTS[event])
        assert isinstance(after, expected[0])
        assert [type(message) for message in sent] == [kind for kind in expected[1:] if kind]
    else:
        with pytest.raises(expected):
            site_step(STATES[state], EVENTS[event])


@pytest.mark.parametrize(("state", "event"), list(product(STATES, EVENTS)))
def test_no_event_changes_the_state_it_met(state: str, event: str) -> None:
    before = STATES[state]
    text = full(before)

    with suppress(ProtocolError):
        site_step(before, EVENTS[event])

    assert full(before) == text


def full(state: SiteState) -> str:
    """Returns every field of a state, also those that do not print."""
    inner = state.joined if isinstance(state, Uploaded) else state
    return repr([repr(getattr(inner, name)) for name in type(inner).__slots__])


# -- Refusals of the caller -----------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "event"),
    [
        ("invited", Begin(b"short")),
        ("joined", Prepare(round=3, secret=b"short")),
        ("joined", contribute(5, b"short")),
        ("uploaded", Open(survivors=Survivors(2, EVERYONE), secret=b"short")),
    ],
)
def test_a_short_secret_is_refused(state: str, event: SiteEvent) -> None:
    with pytest.raises(LocalProtocolError, match="secret of 5 bytes; expected 32"):
        site_step(STATES[state], event)


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(6, np.uint16),
        np.zeros(8, np.uint16),
        np.zeros((7, 1), np.uint16),
        np.zeros(7, np.uint32),
        np.zeros(7, np.int16),
        np.zeros(7, ">u2"),
    ],
)
def test_a_vector_that_does_not_fit_the_job_is_refused(vector: np.ndarray) -> None:
    event = Contribute(plan=Plan(5, EVERYONE, MODEL), vector=vector)

    with pytest.raises(LocalProtocolError, match="vector of shape"):
        site_step(STATES["joined"], event)


@pytest.mark.parametrize("number", [-1, 0, 1, 2])
def test_prekeys_of_a_past_round_are_refused(number: int) -> None:
    with pytest.raises(LocalProtocolError, match="prepare a later round"):
        site_step(STATES["uploaded"], Prepare(round=number, secret=secret("prepare")))


def test_prekeys_too_far_ahead_are_refused() -> None:
    event = Prepare(round=MOST_STEPS + 3, secret=secret("prepare"))

    with pytest.raises(LocalProtocolError, match="at most 10000 rounds ahead"):
        site_step(STATES["uploaded"], event)


def test_the_next_round_is_not_prepared_twice() -> None:
    state, _ = site_step(STATES["joined"], Prepare(round=6, secret=secret("prepare")))

    with pytest.raises(LocalProtocolError, match="prekeys of round 6 were already given"):
        site_step(state, contribute(5, secret("next")))


@pytest.mark.parametrize("site", [1, 3, -1])
def test_an_identity_that_the_job_does_not_name_is_refused(site: int) -> None:
    with pytest.raises(ConfigError, match="names another identity"):
        Invited(job=JOB, site=site, identity=make_identities(3)[0])


def test_a_mask_of_another_plan_is_refused() -> None:
    mask = Mask(bytes(32), np.zeros(JOB.length, JOB.word))

    with pytest.raises(LocalProtocolError, match="mask is not of the plan of round 5"):
        site_step(STATES["joined"], replace(contribute(5), mask=mask))


def test_a_mask_of_another_length_is_refused() -> None:
    state = STATES["joined"]
    assert isinstance(state, Joined)
    digest = plan_masks(state, contribute(5).plan).plan

    with pytest.raises(LocalProtocolError, match="vector of shape"):
        site_step(state, replace(contribute(5), mask=Mask(digest, VECTOR[:1])))


@pytest.mark.parametrize(("state", "number"), [("joined", 4), ("uploaded", 2)])
def test_no_mask_is_made_for_a_plan_that_breaks_a_rule(state: str, number: int) -> None:
    found = STATES[state]
    assert isinstance(found, Joined | Uploaded)

    with pytest.raises(RemoteProtocolError, match=f"plan of round {number}"):
        plan_masks(found, contribute(number).plan)


# -- Refusals of the coordinator ------------------------------------------------------


def test_a_model_digest_of_another_size_is_refused() -> None:
    event = Contribute(plan=Plan(5, EVERYONE, MODEL[:31]), vector=VECTOR)

    with pytest.raises(RemoteProtocolError, match="model digest of 31 bytes"):
        site_step(STATES["joined"], event)


# -- What the same input gives --------------------------------------------------------


@pytest.mark.parametrize(("state", "event"), [("joined", "contribute"), ("uploaded", "open")])
def test_a_step_is_a_function_of_its_arguments(state: str, event: str) -> None:
    first = site_step(STATES[state], EVENTS[event])[1]
    second = site_step(STATES[state], EVENTS[event])[1]

    assert first == second


def test_the_vector_is_not_changed() -> None:
    vector = VECTOR.copy()

    site_step(STATES["joined"], Contribute(plan=Plan(5, EVERYONE, MODEL), vector=vector))

    assert vector.tolist() == VECTOR.tolist()


def test_one_secret_for_two_rounds_makes_different_prekeys() -> None:
    made = [
        site_step(STATES["joined"], Prepare(round=number, secret=secret("same")))[1][0]
        for number in (3, 4)
    ]

    fields = [msgspec.structs.astuple(prekeys)[2:] for prekeys in made]

    assert all(first != second for first, second in zip(*fields, strict=True))


def test_riding_prekeys_are_those_of_an_event_of_their_own() -> None:
    state, (upload,) = site_step(STATES["joined"], contribute(5, secret("next")))
    alone, _ = site_step(STATES["joined"], contribute(5))
    _, (prekeys,) = site_step(alone, Prepare(round=6, secret=secret("next")))

    assert isinstance(upload, Upload)
    assert upload.prekeys == prekeys
    assert isinstance(state, Uploaded)
    assert list(state.joined.prepared) == [6]
