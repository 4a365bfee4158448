# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select
from tests.adapters.identity.conftest import NOW

from consilium.adapters.identity.tries import (
    PER_ACCOUNT,
    PER_ADDRESS,
    WINDOW,
    count_try,
    forget_tries,
)
from consilium.adapters.store.identity_tables import TRIES
from consilium.errors import TooManyTries


def tried(connection: Connection, times: int, *, account: str = "weber@a", start: int = 0) -> None:
    for number in range(times):
        count_try(connection, account, f"10.0.{start}.{number}", now=NOW)


def test_an_account_has_a_limit_from_all_addresses_together(connection: Connection) -> None:
    tried(connection, PER_ACCOUNT)

    with pytest.raises(TooManyTries) as refused:
        count_try(connection, "weber@a", "10.9.9.9", now=NOW)

    assert refused.value.seconds == WINDOW.total_seconds()


def test_another_spelling_is_the_same_account(connection: Connection) -> None:
    tried(connection, PER_ACCOUNT)

    with pytest.raises(TooManyTries):
        count_try(connection, "WEBER@A", "10.9.9.9", now=NOW)


def test_an_address_has_a_limit_over_all_accounts(connection: Connection) -> None:
    for number in range(PER_ADDRESS):
        count_try(connection, f"person{number}", "10.0.0.1", now=NOW)

    with pytest.raises(TooManyTries):
        count_try(connection, "somebody", "10.0.0.1", now=NOW)
    count_try(connection, "somebody", "10.0.0.2", now=NOW)


def test_the_window_moves_on(connection: Connection) -> None:
    tried(connection, PER_ACCOUNT)

    count_try(connection, "weber@a", "10.0.0.1", now=NOW + WINDOW)


def test_a_refused_try_does_not_make_the_wait_longer(connection: Connection) -> None:
    tried(connection, PER_ACCOUNT)
    later = NOW + timedelta(minutes=5)

    with pytest.raises(TooManyTries):
        count_try(connection, "weber@a", "10.0.0.1", now=later)

    count_try(connection, "weber@a", "10.0.0.1", now=NOW + WINDOW)


def test_success_forgets(connection: Connection) -> None:
    tried(connection, PER_ACCOUNT - 1)
    count_try(connection, "weber@a", "10.8.8.8", now=NOW)

    forget_tries(connection, "weber@a", "10.8.8.8")

    tried(connection, PER_ACCOUNT, start=1)


def test_success_does_not_forget_what_else_an_address_tried(connection: Connection) -> None:
    for number in range(PER_ADDRESS):
        count_try(connection, f"person{number}", "10.0.0.1", now=NOW)

    forget_tries(connection, "person0", "10.0.0.1")

    count_try(connection, "one-more", "10.0.0.1", now=NOW)
    with pytest.raises(TooManyTries):
        count_try(connection, "two-more", "10.0.0.1", now=NOW)


def test_neither_names_nor_addresses_are_kept(connection: Connection) -> None:
    count_try(connection, "weber@a", "10.0.0.1", now=NOW)

    rows = repr(connection.execute(select(TRIES)).all())

    assert "weber" not in rows
    assert "10.0" not in rows
