# SPDX-License-Identifier: Apache-2.0
import os
from datetime import timedelta

from sqlalchemy import Connection, select
from tests.adapters.identity.conftest import NOW

from consilium.adapters.identity.sessions import (
    DECIDER,
    end_session,
    end_sessions_of,
    find_session,
    forget_old_sessions,
    is_stale,
    open_session,
    touch_session,
)
from consilium.adapters.store.identity_tables import SESSIONS

MINUTE = timedelta(minutes=1)


def opened(connection: Connection, person: str = "weber") -> str:
    return open_session(connection, person, DECIDER, now=NOW, randomness=os.urandom)


def test_a_new_session_is_its_persons(connection: Connection) -> None:
    word = opened(connection)

    found = find_session(connection, word, now=NOW + MINUTE)

    assert found is not None
    assert found.person == "weber"


def test_the_database_does_not_hold_the_word(connection: Connection) -> None:
    word = opened(connection)

    row = connection.execute(select(SESSIONS)).one()

    assert word.encode() not in row.digest
    assert word not in repr(row)


def test_a_word_that_was_never_given_is_nobodys(connection: Connection) -> None:
    opened(connection)

    assert find_session(connection, "A" * 43, now=NOW) is None


def test_an_idle_session_ends(connection: Connection) -> None:
    word = opened(connection)

    assert find_session(connection, word, now=NOW + 14 * MINUTE) is not None
    assert find_session(connection, word, now=NOW + 15 * MINUTE) is None


def test_use_keeps_a_session(connection: Connection) -> None:
    word = opened(connection)

    touch_session(connection, word, now=NOW + 14 * MINUTE)

    assert find_session(connection, word, now=NOW + 28 * MINUTE) is not None


def test_a_late_touch_does_not_revive(connection: Connection) -> None:
    word = opened(connection)

    touch_session(connection, word, now=NOW + 16 * MINUTE)

    assert find_session(connection, word, now=NOW + 16 * MINUTE) is None


def test_no_use_keeps_a_session_beyond_its_longest(connection: Connection) -> None:
    word = opened(connection)

    for minute in range(10, 610, 10):
        touch_session(connection, word, now=NOW + minute * MINUTE)

    assert find_session(connection, word, now=NOW + 600 * MINUTE) is None


def test_an_ended_session_is_nobodys(connection: Connection) -> None:
    word = opened(connection)

    end_session(connection, word)

    assert find_session(connection, word, now=NOW) is None


def test_all_sessions_of_one_person_end(connection: Connection) -> None:
    words = [opened(connection) for _ in range(3)]
    other = opened(connection, "rossi")

    assert end_sessions_of(connection, "weber") == 3
    assert all(find_session(connection, word, now=NOW) is None for word in words)
    assert find_session(connection, other, now=NOW) is not None


def test_old_sessions_are_forgotten(connection: Connection) -> None:
    opened(connection)

    forget_old_sessions(connection, now=NOW + 20 * MINUTE)

    assert connection.execute(select(SESSIONS)).all() == []


def test_a_use_is_written_down_at_most_every_few_seconds(connection: Connection) -> None:
    word = opened(connection)

    assert not is_stale(connection, word, now=NOW + timedelta(seconds=14))
    assert is_stale(connection, word, now=NOW + timedelta(seconds=15))
    assert not is_stale(connection, "unknown", now=NOW)
