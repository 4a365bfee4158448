# SPDX-License-Identifier: Apache-2.0
"""Hosted processes, published models, grants and cards: each limit, each refusal."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import ConfigError, NotFound
from consilium.governance.catalogue import Dataset, DatasetState, matches
from consilium.governance.grants import Grant, ReleaseKind, Wanted, any_covers, covers
from consilium.governance.hosting import (
    Candidate,
    Cycle,
    Limits,
    ProcessState,
    Update,
    close,
    join,
    joined,
    next_cycle,
    receive,
    received,
)
from consilium.governance.model_permissions import (
    ModelPermissions,
    ModelVersion,
    Use,
    may_use,
    resolve,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIMITS = Limits(
    name="heart",
    version="1",
    fewest_sites=2,
    most_sites=3,
    cycle_seconds=60,
    cycles=2,
    fewest_updates=2,
    most_updates=2,
    least_upload=1,
    least_download=2,
    largest_update=100,
    rest_cycles=1,
)
GOING = Cycle(began=NOW, sites=frozenset({"a", "b"}))
FAST = {"upload": 9.0, "download": 9.0}


@pytest.mark.parametrize(
    ("cycle", "candidate", "words"),
    [
        (Cycle(), Candidate(site="a", **FAST), "within the limits"),
        (replace(GOING, state=ProcessState.ENDED), Candidate(site="c", **FAST), "has ended"),
        (GOING, Candidate(site="a", **FAST), "takes part already"),
        (replace(GOING, sites=frozenset("abc")), Candidate(site="d", **FAST), "has its 3 sites"),
        (Cycle(), Candidate(site="a", upload=0.5, download=9), "upload 0.5"),
        (Cycle(), Candidate(site="a", upload=9, download=float("nan")), "download nan"),
        (Cycle(number=2, last_part={"a": 1}), Candidate(site="a", **FAST), "until cycle 3"),
        (Cycle(number=3, last_part={"a": 1}), Candidate(site="a", **FAST), "within the limits"),
    ],
)
def test_who_may_join(cycle: Cycle, candidate: Candidate, words: str) -> None:
    decision = join(LIMITS, cycle, candidate)

    assert words in decision.reason
    assert decision.allowed == (words == "within the limits")


@pytest.mark.parametrize(
    ("cycle", "update", "later", "words"),
    [
        (GOING, Update(site="a", cycle=1, size=100), 0, "within the limits"),
        (replace(GOING, state=ProcessState.ENDED), Update(site="a", cycle=1, size=1), 0, "ended"),
        (GOING, Update(site="a", cycle=2, size=1), 0, "for cycle 2"),
        (GOING, Update(site="c", cycle=1, size=1), 0, "was not admitted"),
        (replace(GOING, began=None), Update(site="a", cycle=1, size=1), 0, "waits for 2"),
        (GOING, Update(site="a", cycle=1, size=1), 60, "ended after 60 s"),
        (replace(GOING, updates=frozenset("a")), Update(site="a", cycle=1, size=1), 0, "handed in"),
        (
            replace(GOING, sites=frozenset("abc"), updates=frozenset("bc")),
            Update(site="a", cycle=1, size=1),
            0,
            "has its 2 updates",
        ),
        (GOING, Update(site="a", cycle=1, size=101), 0, "101 bytes"),
    ],
)
def test_which_update_is_taken(cycle: Cycle, update: Update, later: int, words: str) -> None:
    decision = receive(LIMITS, cycle, update, NOW + timedelta(seconds=later))

    assert words in decision.reason
    assert decision.allowed == (words == "within the limits")


def test_a_process_goes_through_its_cycles_and_ends() -> None:
    cycle = Cycle()
    for pair in ("ab", "cd"):
        for site in pair:
            cycle = joined(LIMITS, cycle, site, NOW)
        for site in pair:
            cycle = received(cycle, site)
        assert close(LIMITS, cycle, NOW).allowed
        cycle = next_cycle(LIMITS, cycle)

    assert cycle.state is ProcessState.ENDED


def test_a_cycle_with_too_few_updates_is_repeated() -> None:
    cycle = received(GOING, "a")
    late = NOW + timedelta(seconds=60)

    assert close(LIMITS, cycle, late).allowed
    assert next_cycle(LIMITS, cycle).number == 1
    assert not close(LIMITS, cycle, NOW).allowed
    assert not close(LIMITS, Cycle(), NOW).allowed


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"fewest_sites": 4},
        {"fewest_updates": 3},
        {"most_updates": 4},
        {"cycle_seconds": 0},
        {"cycles": 0},
        {"rest_cycles": -1},
    ],
)
def test_impossible_limits_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(LIMITS, **change)  # type: ignore[arg-type]  # its own fields


# -- Models -----------------------------------------------------------------------------

MODEL = ModelVersion(
    id="m",
    name="heart",
    version=1,
    digest="0" * 64,
    file="f",
    project="p",
    run="r",
    epsilon=1.9,
    delta=1e-5,
    published=NOW,
)


@pytest.mark.parametrize("use", Use)
def test_a_new_model_may_be_used_for_nothing(use: Use) -> None:
    assert not may_use(MODEL, use).allowed


def test_encrypted_only_refuses_the_download_and_works_encrypted() -> None:
    model = replace(MODEL, permissions=ModelPermissions(encrypted_only=True))

    assert {use: may_use(model, use).allowed for use in Use} == {
        Use.DOWNLOAD: False,
        Use.DEVICE: False,
        Use.REMOTE_INFERENCE: False,
        Use.ENCRYPTED_INFERENCE: True,
    }


def test_a_model_without_a_guarantee_never_leaves() -> None:
    open_ = ModelPermissions(allow_download=True, allow_remote_inference=True)
    model = replace(MODEL, epsilon=None, permissions=open_)

    assert not may_use(model, Use.DOWNLOAD).allowed
    assert not may_use(model, Use.REMOTE_INFERENCE).allowed
    assert may_use(replace(model, epsilon=1.0), Use.DOWNLOAD).allowed


def test_a_way_around_encrypted_only_cannot_be_built() -> None:
    with pytest.raises(ConfigError):
        ModelPermissions(encrypted_only=True, allow_download=True)


def test_latest_is_the_highest_that_was_not_withdrawn() -> None:
    versions = [
        MODEL,
        replace(MODEL, version=2),
        replace(MODEL, version=3, withdrawn=NOW),
        replace(MODEL, name="other", version=9),
    ]

    assert resolve(versions, "heart").version == 2
    assert resolve(versions, "heart", "3").withdrawn == NOW
    with pytest.raises(NotFound, match="no version '4'"):
        resolve(versions, "heart", "4")


# -- Grants -----------------------------------------------------------------------------

GRANT = Grant(
    id="g",
    dataset="d",
    holder="p",
    purposes=frozenset({"heart"}),
    kinds=frozenset({ReleaseKind.QUERY}),
    epsilon_cap=1.0,
    expires=NOW + timedelta(days=1),
    given_by="s",
)
WANTED = Wanted(
    dataset="d", holders=frozenset({"p", "g"}), purpose="heart", kind=ReleaseKind.QUERY, epsilon=1.0
)


def test_a_grant_covers_what_it_names() -> None:
    assert covers(GRANT, WANTED, NOW).allowed
    assert any_covers([replace(GRANT, dataset="x"), GRANT], WANTED, NOW).allowed


@pytest.mark.parametrize(
    ("grant", "wanted", "words"),
    [
        (GRANT, replace(WANTED, dataset="x"), "another dataset"),
        (GRANT, replace(WANTED, holders=frozenset({"q"})), "somebody else"),
        (replace(GRANT, revoked=NOW), WANTED, "was revoked"),
        (replace(GRANT, expires=NOW), WANTED, "expired on"),
        (GRANT, replace(WANTED, kind=ReleaseKind.TRAINING), "does not cover training"),
        (GRANT, replace(WANTED, purpose="lung"), "is for heart"),
        (GRANT, replace(WANTED, epsilon=1.01), "epsilon would be 1.01"),
        (GRANT, replace(WANTED, epsilon=float("nan")), "epsilon would be nan"),
    ],
)
def test_a_grant_covers_nothing_else(grant: Grant, wanted: Wanted, words: str) -> None:
    decision = covers(grant, wanted, NOW)

    assert not decision.allowed
    assert words in decision.reason


def test_no_grant_is_a_no() -> None:
    assert not any_covers([], WANTED, NOW).allowed


@pytest.mark.parametrize(
    "change",
    [{"epsilon_cap": 0.0}, {"kinds": frozenset()}, {"expires": datetime(2026, 1, 1)}],  # noqa: DTZ001
)
def test_impossible_grants_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        replace(GRANT, **change)  # type: ignore[arg-type]  # its own fields


# -- Cards ------------------------------------------------------------------------------

CARD = Dataset(
    id="d",
    name="CXR-2024",
    office="charite",
    description="Chest X-rays of adults",
    tags=("xray", "lung"),
    task="classification",
    unit="patient",
    classes=("healthy", "pneumonia"),
    features=(),
    shape=(1, 64, 64),
    noisy_patients=12_000,
    count_epsilon=0.1,
    fingerprint="0" * 64,
    state=DatasetState.REGISTERED,
    registered=NOW,
)


@pytest.mark.parametrize("words", ["", "chest adults", "PNEUMONIA", "lung cxr"])
def test_a_card_is_found_by_its_words(words: str) -> None:
    assert matches(CARD, words, ("XRAY",))


def test_a_card_is_not_found_by_others() -> None:
    assert not matches(CARD, "chest children")
    assert not matches(CARD, "", ("mri",))


@given(st.integers(0, 10**7))
def test_a_size_is_a_bucket(count: int) -> None:
    assert replace(CARD, noisy_patients=count).size().endswith(("patients", "or more"))
