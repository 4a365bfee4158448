# SPDX-License-Identifier: Apache-2.0
"""The log: what is changed, removed, inserted or rewritten is named; a fork is proved."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import RemoteProtocolError
from consilium.governance.audit_log import (
    COSIGNED,
    HEAD,
    LARGEST,
    START,
    Entry,
    Fact,
    Head,
    check_cosigned,
    check_head,
    cosign,
    facts_json,
    follows,
    make_entry,
    make_head,
    verify,
)
from consilium.wire import decode, encode

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OURS, THEIRS = bytes(range(32)), bytes(range(1, 33))


def public(key: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()


def make_log(count: int, *, changed: int | None = None) -> list[Entry]:
    entries: list[Entry] = []
    for place in range(1, count + 1):
        fact = Fact(
            time=NOW + timedelta(minutes=place),
            actor="01A",
            actor_name="Weber" if place != changed else "Nobody",
            action="approve-project",
            resource=f"project:{place}",
            facts=facts_json({"words": "ok"}),
        )
        before = entries[-1].link if entries else START
        entries.append(make_entry(before, place, fact))
    return entries


def test_an_untouched_log_is_intact() -> None:
    log = make_log(9)

    assert verify(log) == ()
    assert verify(log, [make_head("charite", log, NOW, OURS)]) == ()
    assert verify([]) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"actor": "01B"},
        {"actor_name": "Rossi"},
        {"action": "refuse-project"},
        {"resource": "project:0"},
        {"facts": "{}"},
        {"time": NOW},
        {"link": bytes(32)},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_changed_entry_is_named(change: dict[str, object]) -> None:
    log = make_log(9)
    log[4] = replace(log[4], **change)  # type: ignore[arg-type]  # its own fields

    assert verify(log)[0].sequence == 5


def test_a_removed_entry_is_named() -> None:
    log = make_log(9)
    del log[3]

    assert (verify(log)[0].sequence, verify(log)[0].what) == (4, "is missing")


def test_an_inserted_or_repeated_entry_is_named() -> None:
    log = make_log(9)
    log.insert(3, log[2])

    assert verify(log)[0].sequence == 4


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))
def test_a_rewritten_database_is_found_by_what_others_signed(
    length: int, changed: int, seen: int
) -> None:
    changed, seen = min(changed, length), min(seen, length)
    true, forged = make_log(length), make_log(length, changed=changed)
    head = make_head("charite", true[:seen], NOW, OURS)

    assert verify(forged) == ()  # by itself it is a perfect chain
    findings = verify(forged, [head])
    assert [one.sequence for one in findings[:1]] == ([changed] if changed <= seen else [])


def test_a_log_that_was_cut_off_is_found_by_what_others_signed() -> None:
    log = make_log(9)
    head = make_head("charite", log, NOW, OURS)

    assert verify(log[:6]) == ()
    assert [(one.sequence, one.what) for one in verify(log[:6], [head])] == [
        (7, "to 9 are missing; another office signed them")
    ]


# -- Heads ------------------------------------------------------------------------------


def test_heads_and_signatures_travel() -> None:
    head = make_head("charite", make_log(3), NOW, OURS)
    signed = cosign(head, "tum", NOW, THEIRS)

    check_head(decode(encode(head), HEAD, limit=LARGEST), public(OURS))
    check_cosigned(decode(encode(signed), COSIGNED, limit=LARGEST), public(THEIRS))


@pytest.mark.parametrize(
    "change",
    [
        {"office": "tum"},
        {"sequence": 4},
        {"links": (bytes(32),)},
        {"time": "never"},
        {"signature": bytes(64)},
        {"links": (b"short",)},
        {"sequence": 1},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_forged_head_is_refused(change: dict[str, object]) -> None:
    head = msgspec.structs.replace(make_head("charite", make_log(3), NOW, OURS), **change)

    with pytest.raises(RemoteProtocolError):
        check_head(head, public(OURS))


@pytest.mark.parametrize("change", [{"witness": "lmu"}, {"time": "x"}, {"signature": bytes(64)}])
def test_a_forged_witness_is_refused(change: dict[str, object]) -> None:
    signed = cosign(make_head("charite", make_log(3), NOW, OURS), "tum", NOW, THEIRS)

    with pytest.raises(RemoteProtocolError):
        check_cosigned(msgspec.structs.replace(signed, **change), public(THEIRS))


def head_of(log: list[Entry]) -> Head:
    return make_head("charite", log, NOW, OURS)


def test_a_later_head_that_overlaps_follows() -> None:
    log = make_log(9)

    follows(None, head_of(log[:4]))
    follows(head_of(log[:4]), head_of(log[3:]))
    follows(head_of(log), head_of(log[8:]))


@pytest.mark.parametrize(
    ("later", "words"),
    [
        (make_log(3), "entries were removed"),
        (make_log(9, changed=2), "was rewritten"),
        (make_log(9)[6:], "must be there again"),
    ],
)
def test_a_head_that_contradicts_the_one_before_is_refused(later: list[Entry], words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        follows(head_of(make_log(5)), head_of(later))
