# SPDX-License-Identifier: Apache-2.0
"""One-time links that let a person in: for a demonstration, or from the office's own console.

Invitations and resets are `office.people`'s; the word of either kind is made and hashed here.
Guarantees: of two that use a link at the same time, one gets in; a new link of a person ends the
older one. The table holds digests; the word is shown once, to whoever made the link.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from consilium.adapters.identity.one_time import Randomness, new_word, word_digest
from consilium.adapters.store.identity_tables import LINKS, seconds
from consilium.errors import AccessDenied

USE: Final = "entry"
INVITATION: Final = "link"  # the use under which words of `office.people` are hashed
LASTS: Final = timedelta(hours=1)
INVITATION_LASTS: Final = timedelta(days=7)
RESET_LASTS: Final = timedelta(hours=2)
FIRST_LASTS: Final = timedelta(hours=24)


def make_link(connection: Connection, person: str, *, now: datetime, randomness: Randomness) -> str:
    """Returns the word of a new link; an older one of the same person ends."""
    end_links_of(connection, person)
    word = new_word(randomness)
    connection.execute(
        insert(LINKS).values(
            digest=word_digest(USE, word), person=person, expires_at=seconds(now + LASTS)
        )
    )
    return word


def find_link(connection: Connection, word: str, *, now: datetime) -> str | None:
    """Returns whom `word` would let in, or None, and leaves it usable."""
    return connection.execute(
        select(LINKS.c.person).where(
            LINKS.c.digest == word_digest(USE, word),
            LINKS.c.used_at.is_(None),
            LINKS.c.expires_at > seconds(now),
        )
    ).scalar_one_or_none()


def use_link(connection: Connection, word: str, *, now: datetime) -> str:
    """Returns whom `word` lets in, and makes it useless.

    Raises:
        AccessDenied: It is unknown, used or too old; which of these is not said.
    """
    person = find_link(connection, word, now=now)
    used = connection.execute(
        update(LINKS)
        .where(LINKS.c.digest == word_digest(USE, word), LINKS.c.used_at.is_(None))
        .values(used_at=seconds(now))
    )
    if person is None or used.rowcount != 1:
        raise AccessDenied(
            "this link is unknown, was used, or has ended; expected a link that nobody used: "
            "ask whoever sent it for a new one"
        )
    return person


def end_links_of(connection: Connection, person: str) -> None:
    """Makes every link of `person` useless."""
    connection.execute(delete(LINKS).where(LINKS.c.person == person))
