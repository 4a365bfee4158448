# SPDX-License-Identifier: Apache-2.0
"""Sessions at one operator: tokens, one use, an end, and that they are forgotten."""

import time

import pytest

from consilium.adapters.inference import sessions as module
from consilium.adapters.inference.sessions import MOST, Busy, Sessions
from consilium.errors import AccessDenied, DataError
from consilium.inference.messages import AnswerShare, InputShare

NAME, TOKEN = bytes(16), bytes(32)
ANSWER = AnswerShare(NAME, b"answer")


def begun(name: bytes = NAME) -> Sessions:
    sessions = Sessions()
    sessions.add(InputShare(b"p" * 32, name, 1, b"share"), TOKEN)
    return sessions


def test_an_answer_leaves_against_its_token_only() -> None:
    sessions = begun()
    sessions.end(NAME, ANSWER)

    assert sessions.wait(NAME, TOKEN, 0.0).answer == ANSWER
    for name, token in ((NAME, bytes(31) + b"1"), (bytes(15) + b"1", TOKEN), (NAME, b"")):
        with pytest.raises(AccessDenied, match="no such session here"):
            sessions.wait(name, token, 0.0)


def test_a_share_is_taken_once() -> None:
    sessions = begun()
    sessions.take(NAME, 0.0)

    with pytest.raises(DataError, match="begun before; a retry is a new session"):
        sessions.take(NAME, 0.0)


@pytest.mark.parametrize("ended", [False, True])
def test_a_session_comes_once(*, ended: bool) -> None:
    sessions = begun()
    if ended:
        sessions.end(NAME, "broken")

    with pytest.raises(DataError, match="here already; a retry is a new session"):
        sessions.add(InputShare(b"p" * 32, NAME, 1, b"other"), TOKEN)


@pytest.mark.parametrize(("name", "token"), [(b"short", TOKEN), (NAME, b"short")])
def test_sizes_are_exact(name: bytes, token: bytes) -> None:
    with pytest.raises(DataError, match="16 bytes and a token of 32"):
        Sessions().add(InputShare(b"p" * 32, name, 1, b""), token)


def test_too_many_under_way_are_refused_and_ended_ones_do_not_count() -> None:
    sessions = Sessions()
    for number in range(MOST):
        sessions.add(InputShare(b"p" * 32, number.to_bytes(16), 1, b""), TOKEN)
    with pytest.raises(Busy, match="try again"):
        sessions.add(InputShare(b"p" * 32, b"n" * 16, 1, b""), TOKEN)

    sessions.end(bytes(16), ANSWER)

    sessions.add(InputShare(b"p" * 32, b"n" * 16, 1, b""), TOKEN)


def test_shares_and_answers_are_forgotten_without_another_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = begun()
    sessions.end(NAME, ANSWER)
    monkeypatch.setattr(module, "KEPT", -1.0)

    sessions.forget()

    assert not sessions._sessions
    with pytest.raises(AccessDenied):
        sessions.wait(NAME, TOKEN, 0.0)


def test_waiting_ends_in_time_and_with_the_operator() -> None:
    sessions = begun()
    start = time.monotonic()

    assert sessions.wait(NAME, TOKEN, 0.2).under_way
    with pytest.raises(DataError, match="did not come to both"):
        sessions.take(b"n" * 16, 0.2)
    sessions.close()
    assert sessions.wait(NAME, TOKEN, 30.0).under_way

    assert time.monotonic() - start < 5


def test_no_share_token_or_answer_prints() -> None:
    sessions = begun()
    sessions.end(NAME, ANSWER)

    shown = repr(sessions._sessions[NAME])

    for secret in ("share", "answer", repr(TOKEN)):
        assert secret not in shown
