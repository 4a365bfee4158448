# SPDX-License-Identifier: Apache-2.0
"""Sessions that live at the server; a browser holds a random word, the table its digest.

Guarantees: a session that was idle too long, is too old, was ended, or whose account's password
was set anew, is nobody's. The words are never written down.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, final

from sqlalchemy import Connection, Row, delete, insert, select, update

from consilium.adapters.identity.one_time import Randomness, new_word, word_digest
from consilium.adapters.store.identity_tables import SESSIONS, seconds

USE: Final = "session"
_TOUCH_SECONDS: Final = 15  # a session is written down as used at most this often


@final
@dataclass(frozen=True, slots=True)
class Terms:
    """How long a session may last.

    Attributes:
        idle: Since it was last used.
        longest: Since it was opened.
    """

    idle: timedelta
    longest: timedelta


DECIDER: Final = Terms(timedelta(minutes=15), timedelta(hours=10))
READER: Final = Terms(timedelta(hours=1), timedelta(hours=10))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that holds now.

    Attributes:
        person: Whose.
        opened: When.
        ends: When it ends at the latest, if it is used until then.
    """

    person: str
    opened: datetime
    ends: datetime


def open_session(
    connection: Connection, person: str, terms: Terms, *, now: datetime, randomness: Randomness
) -> str:
    """Returns the word of a new session of `person`."""
    word = new_word(randomness)
    connection.execute(
        insert(SESSIONS).values(
            digest=word_digest(USE, word),
            person=person,
            opened_at=seconds(now),
            used_at=seconds(now),
            idle_seconds=int(terms.idle.total_seconds()),
            expires_at=seconds(now + terms.longest),
        )
    )
    return word


def find_session(connection: Connection, word: str, *, now: datetime) -> Session | None:
    """Returns the session behind `word` if it holds now, or None."""
    row = connection.execute(
        select(SESSIONS).where(SESSIONS.c.digest == word_digest(USE, word))
    ).one_or_none()
    if row is None or not _holds(row, seconds(now)):
        return None
    return Session(
        person=row.person,
        opened=datetime.fromtimestamp(row.opened_at, tz=now.tzinfo),
        ends=datetime.fromtimestamp(row.expires_at, tz=now.tzinfo),
    )


def is_stale(connection: Connection, word: str, *, now: datetime) -> bool:
    """Returns whether the last use that is written down is so old that this one should be."""
    used = connection.execute(
        select(SESSIONS.c.used_at).where(SESSIONS.c.digest == word_digest(USE, word))
    ).scalar_one_or_none()
    return used is not None and seconds(now) - int(used) >= _TOUCH_SECONDS


def touch_session(connection: Connection, word: str, *, now: datetime) -> None:
    """Writes down that the session was used; does nothing to one that no longer holds."""
    connection.execute(
        update(SESSIONS)
        .where(SESSIONS.c.digest == word_digest(USE, word))
        .where(SESSIONS.c.used_at + SESSIONS.c.idle_seconds > seconds(now))
        .values(used_at=seconds(now))
    )


def end_session(connection: Connection, word: str) -> None:
    """Ends one session; a word of none is well."""
    connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == word_digest(USE, word)))


def end_sessions_of(connection: Connection, person: str) -> int:
    """Ends every session of `person`; returns how many there were."""
    return connection.execute(delete(SESSIONS).where(SESSIONS.c.person == person)).rowcount


def forget_old_sessions(connection: Connection, *, now: datetime) -> None:
    """Takes out what no longer holds."""
    connection.execute(
        delete(SESSIONS).where(
            (SESSIONS.c.expires_at <= seconds(now))
            | (SESSIONS.c.used_at + SESSIONS.c.idle_seconds <= seconds(now))
        )
    )


def _holds(row: Row[tuple[object, ...]], now: int) -> bool:
    return bool(now < row.expires_at and now < row.used_at + row.idle_seconds)
