# SPDX-License-Identifier: Apache-2.0
"""Offices become known: a request proves a key, two people prove whose; all else is refused."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from consilium.errors import RemoteProtocolError
from consilium.governance.association import (
    ANSWER,
    INTRODUCTION,
    LARGEST,
    Answer,
    Introduction,
    answer,
    check_answer,
    check_introduction,
    introduce,
)
from consilium.wire import decode, encode

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OURS, THEIRS = bytes(range(32)), bytes(range(1, 33))
SAID = introduce(
    Introduction(
        "charite", "site", "", b"", "centre", "one federation", NOW.isoformat(), bytes(16), b""
    ),
    OURS,
)
YES = answer(SAID, Answer(b"", True, "centre", "coordinator", b"", NOW.isoformat(), b""), THEIRS)


def check(said: Introduction, *, now: datetime = NOW, seen: tuple[bytes, ...] = ()) -> None:
    check_introduction(said, to="centre", now=now, seen=seen)


def test_a_true_introduction_and_its_answer_pass() -> None:
    check(decode(encode(SAID), INTRODUCTION, limit=LARGEST))
    check_answer(SAID, decode(encode(YES), ANSWER, limit=LARGEST))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "tum"},
        {"kind": "coordinator"},
        {"address": "https://evil.example"},
        {"key": YES.key},
        {"to": "centre "},
        {"reason": "another"},
        {"time": (NOW + timedelta(seconds=1)).isoformat()},
        {"nonce": bytes([1]) * 16},
        {"signature": bytes(64)},
    ],
    ids=lambda one: next(iter(one)),
)
def test_a_forged_introduction_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError, match="is not signed by the key in it"):
        check(msgspec.structs.replace(SAID, **change))


def test_an_introduction_to_somebody_else_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="this office is 'tum'"):
        check_introduction(SAID, to="tum", now=NOW, seen=())


def test_a_repeated_introduction_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="came before"):
        check(SAID, seen=(SAID.nonce,))


@pytest.mark.parametrize("hours", [-25, 25])
def test_a_stale_introduction_is_refused(hours: int) -> None:
    with pytest.raises(RemoteProtocolError, match="last 24 h"):
        check(SAID, now=NOW + timedelta(hours=hours))


@pytest.mark.parametrize("time", ["yesterday", "2026-11-21T00:00:00"])
def test_a_time_that_is_none_is_refused(time: str) -> None:
    said = introduce(msgspec.structs.replace(SAID, time=time), OURS)

    with pytest.raises(RemoteProtocolError, match="last 24 h"):
        check(said)


@pytest.mark.parametrize(
    "change",
    [{"accepted": False}, {"name": "tum"}, {"key": SAID.key}, {"signature": bytes(64)}],
    ids=lambda one: next(iter(one)),
)
def test_a_forged_answer_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(RemoteProtocolError):
        check_answer(SAID, msgspec.structs.replace(YES, **change))


def test_an_answer_to_another_introduction_is_refused() -> None:
    other = introduce(msgspec.structs.replace(SAID, reason="another"), OURS)

    with pytest.raises(RemoteProtocolError, match="another introduction"):
        check_answer(other, YES)


def test_an_answer_by_another_name_is_refused() -> None:
    claim = Answer(b"", True, "tum", "site", b"", NOW.isoformat(), b"")

    with pytest.raises(RemoteProtocolError, match="we asked 'centre'"):
        check_answer(SAID, answer(SAID, claim, THEIRS))
