# SPDX-License-Identifier: Apache-2.0
"""What sites state before a run, and every way in which a roll can be wrong."""

import doctest
from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consilium import wire
from consilium.errors import ConfigError, RemoteProtocolError
from consilium.federation import enrolment
from consilium.federation.enrolment import (
    ROLL,
    Call,
    Enrolment,
    Roll,
    SiteFacts,
    check_roll,
    enrol,
    make_roll,
    place_of,
    roster_fingerprint,
)
from consilium.federation.project import parse_project
from consilium.federation.setup import PublicFacts

PROJECT = """
name = "p"
data.source = "digits"
sites.count = 3
model.name = "logistic"
training.rounds = 1
"""
CALL = Call(project=parse_project(PROJECT), arm="federated", seed=0, run="r")
KEYS = {name: wire.digest("test identity", name) for name in "abc"}


def facts(name: str, **changes: object) -> SiteFacts:
    known = SiteFacts(name=name, patients=10, records=20, dimension=7, classes=("0", "1"))
    return replace(known, **changes)  # type: ignore[arg-type]


def enrolments(**changes: object) -> list[Enrolment]:
    """Returns three enrolments, the last with changes."""
    first = [enrol(CALL, facts(name), KEYS[name]) for name in "ab"]
    return [*first, enrol(CALL, facts("c", **changes), KEYS["c"])]


def test_everybody_derives_the_same_from_one_roll() -> None:
    enrolled = check_roll(CALL, make_roll(enrolments()[::-1]))

    assert enrolled.facts == PublicFacts(patients=30, records=60, dimension=7)
    assert [site.name for site in enrolled.sites] == ["a", "b", "c"]
    assert list(enrolled.roster()) == ["a", "b", "c"]


def test_a_roll_comes_back_from_the_wire() -> None:
    roll = make_roll(enrolments())

    assert wire.decode(wire.encode(roll), ROLL, limit=10**6) == roll


def test_a_site_finds_its_place() -> None:
    one, two, three = enrolments()

    assert place_of(one, make_roll([three, two, one])) == 0
    assert place_of(three, make_roll([one, three])) == 1


def other_call(**changes: object) -> Enrolment:
    return enrol(replace(CALL, **changes), facts("c"), KEYS["c"])  # type: ignore[arg-type]


REFUSALS: dict[str, tuple[Callable[[], list[Enrolment]], str]] = {
    "too few": (lambda: enrolments()[:2], r"2 sites enrolled .*sites\.count = 3"),
    "twice": (lambda: [*enrolments()[:2], enrolments()[1]], "expected each once"),
    "other dimension": (lambda: enrolments(dimension=8), "different model dimension .*c: 8"),
    "other classes": (lambda: enrolments(classes=("1", "0")), "different classes"),
    "no patient": (lambda: enrolments(patients=0), "counts below 1"),
    "too many": (lambda: enrolments(records=2**63), "counts below 1"),
    "other seed": (lambda: [*enrolments()[:2], other_call(seed=1)], "not signed by its identity"),
    "other run": (lambda: [*enrolments()[:2], other_call(run="s")], "not signed"),
    "other arm": (lambda: [*enrolments()[:2], other_call(arm="federated-dp")], "not signed"),
    "other name": (
        lambda: [*enrolments()[:2], msgspec.structs.replace(enrolments()[2], name="d")],
        "not signed",
    ),
    "other key": (
        lambda: [*enrolments()[:2], msgspec.structs.replace(enrolments()[2], identity=bytes(32))],
        "not signed",
    ),
    "short key": (
        lambda: [*enrolments()[:2], msgspec.structs.replace(enrolments()[2], identity=b"x")],
        "not signed",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_wrong_roll_is_refused(name: str) -> None:
    make, message = REFUSALS[name]

    with pytest.raises((RemoteProtocolError, ConfigError), match=message):
        check_roll(CALL, make_roll(make()))


def test_a_roll_out_of_order_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="by name"):
        check_roll(CALL, Roll(tuple(enrolments()[::-1])))


def test_a_site_that_is_not_on_the_roll_as_it_said_refuses() -> None:
    own = enrol(CALL, facts("c", patients=11), KEYS["c"])

    with pytest.raises(RemoteProtocolError, match="do not take part"):
        place_of(own, make_roll(enrolments()))


@given(st.dictionaries(st.sampled_from("abcde"), st.binary(min_size=32, max_size=32), min_size=1))
def test_a_fingerprint_names_every_site_and_key(roster: dict[str, bytes]) -> None:
    other = {**roster, min(roster): Ed25519PrivateKey.generate().public_key().public_bytes_raw()}

    assert roster_fingerprint(roster) == roster_fingerprint(dict(reversed(roster.items())))
    assert roster_fingerprint(roster) != roster_fingerprint(other)
    assert roster_fingerprint(roster) != roster_fingerprint({**roster, "f": bytes(32)})


def test_the_examples_are_true() -> None:
    assert doctest.testmod(enrolment).failed == 0
