# SPDX-License-Identifier: Apache-2.0
import os
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select
from tests.adapters.identity.conftest import NOW

from consilium.adapters.identity.links import (
    LASTS,
    end_links_of,
    find_link,
    make_link,
    use_link,
)
from consilium.adapters.store.identity_tables import LINKS
from consilium.errors import AccessDenied


def made(connection: Connection) -> str:
    return make_link(connection, "weber", now=NOW, randomness=os.urandom)


def test_a_link_lets_in_once(connection: Connection) -> None:
    word = made(connection)

    assert use_link(connection, word, now=NOW) == "weber"
    with pytest.raises(AccessDenied):
        use_link(connection, word, now=NOW)


def test_a_link_ends(connection: Connection) -> None:
    word = made(connection)

    with pytest.raises(AccessDenied):
        use_link(connection, word, now=NOW + LASTS)


def test_looking_does_not_use(connection: Connection) -> None:
    word = made(connection)

    assert find_link(connection, word, now=NOW) == "weber"

    assert use_link(connection, word, now=NOW + timedelta(minutes=59)) == "weber"


def test_a_new_link_ends_the_older(connection: Connection) -> None:
    old, new = made(connection), made(connection)

    with pytest.raises(AccessDenied):
        use_link(connection, old, now=NOW)
    assert use_link(connection, new, now=NOW) == "weber"


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
