# SPDX-License-Identifier: Apache-2.0
import os
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select
from tests.adapters.identity.conftest import NOW

from consilium.adapters.identity.links import (
    LASTS,
    Link,
    LinkKind,
    end_links_of,
    find_link,
    make_link,
    use_link,
)
from consilium.adapters.store.identity_tables import LINKS
from consilium.errors import AccessDenied

INVITATION = Link(LinkKind.INVITATION, "weber")


def made(connection: Connection, link: Link = INVITATION) -> str:
    return make_link(connection, link, now=NOW, randomness=os.urandom)


@pytest.mark.parametrize("kind", LinkKind)
def test_a_link_is_used_once(connection: Connection, kind: LinkKind) -> None:
    word = made(connection, Link(kind, "weber"))

    assert use_link(connection, word, now=NOW) == Link(kind, "weber")
    with pytest.raises(AccessDenied):
        use_link(connection, word, now=NOW)


@pytest.mark.parametrize("kind", LinkKind)
def test_a_link_ends(connection: Connection, kind: LinkKind) -> None:
    word = made(connection, Link(kind, "weber"))

    with pytest.raises(AccessDenied):
        find_link(connection, word, now=NOW + LASTS[kind])


def test_looking_does_not_use(connection: Connection) -> None:
    word = made(connection)

    find_link(connection, word, now=NOW)

    assert use_link(connection, word, now=NOW + timedelta(days=6)) == INVITATION


def test_a_new_link_ends_the_older(connection: Connection) -> None:
    old, new = made(connection), made(connection)

    with pytest.raises(AccessDenied):
        use_link(connection, old, now=NOW)
    assert use_link(connection, new, now=NOW) == INVITATION


def test_an_unknown_link_is_refused(connection: Connection) -> None:
    with pytest.raises(AccessDenied, match="unknown, was used, or has ended"):
        use_link(connection, "A" * 43, now=NOW)


def test_links_of_a_revoked_person_end(connection: Connection) -> None:
    word = made(connection)

    end_links_of(connection, "weber")

    with pytest.raises(AccessDenied):
        use_link(connection, word, now=NOW)


def test_the_database_does_not_hold_the_word(connection: Connection) -> None:
    word = made(connection)

    assert word not in repr(connection.execute(select(LINKS)).one())
