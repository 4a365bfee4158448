# SPDX-License-Identifier: Apache-2.0
"""Many at one cap, and killed at any moment: exactly what fits is granted, and nothing is lost."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select
from tests.adapters.store.racing import CAP, FITTING, processes, spend_many, spend_one

from consilium.adapters.store.database import Database
from consilium.adapters.store.ledger_check import verify
from consilium.adapters.store.ledger_rows import account_of
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_tables import RESERVATION

CLIENTS = 64
SPENDS = 200
MANY_FITTING = 120


@pytest.fixture
def prepared(database: Database) -> Database:
    """Gives a ledger of one dataset with three patients."""
    store = LedgerStore(database)
    with database.transaction() as connection:
        store.cap_patients(connection, CAP, ["weber"])
        store.set_cap(connection, "x", CAP, ["weber"])
        store.enrol(connection, "x", ["a", "b", "c"])
    return database


def _granted(database: Database) -> set[str]:
    with database.reading() as connection:
        query = select(RESERVATION.c.key).where(RESERVATION.c.committed == 1)
        return set(connection.execute(query).scalars())


def _check(database: Database) -> None:
    with database.reading() as connection:
        verdict = verify(connection)
        _, account = account_of(connection, "x")
        committed = connection.execute(select(func.sum(RESERVATION.c.committed))).scalar_one()
        reservations = connection.execute(select(func.count(RESERVATION.c.id))).scalar_one()
    assert verdict.wrong is None
    assert account.charged <= account.allowance.units
    assert committed == reservations  # a reservation and its commit are one transaction


@pytest.mark.timeout(300)
def test_64_racing_clients_get_exactly_what_fits(prepared: Database, database_url: str) -> None:
    context = processes()
    barrier = context.Barrier(CLIENTS)
    clients = [
        context.Process(target=spend_one, args=(database_url, f"spend {k}", barrier))
        for k in range(CLIENTS)
    ]

    for client in clients:
        client.start()
    for client in clients:
        client.join()

    codes = [client.exitcode for client in clients]
    assert (codes.count(0), codes.count(1)) == (FITTING, CLIENTS - FITTING)
    assert len(_granted(prepared)) == FITTING
    _check(prepared)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [0, 1])
def test_spends_that_are_killed_are_never_lost_and_never_too_many(
    prepared: Database, database_url: str, tmp_path: Path, seed: int
) -> None:
    keys = [f"spend {k}" for k in range(SPENDS)]
    said = tmp_path / "said"
    said.touch()

    left: Sequence[str] = keys
    while left:
        _race_and_kill(database_url, left, said, random.Random(f"{seed} {len(left)}"))  # noqa: S311
        answered = {line.split(" ", 1)[1] for line in said.read_text().splitlines()}
        left = [key for key in keys if key not in answered]

    told = {line[8:] for line in said.read_text().splitlines() if line.startswith("granted ")}
    assert told == _granted(prepared)
    assert len(told) == MANY_FITTING
    _check(prepared)


def _race_and_kill(url: str, keys: Sequence[str], said: Path, choice: random.Random) -> None:
    """Starts four spenders and kills all after some answers, in the midst of whatever they do."""
    context = processes()
    shares = [keys[k::4] for k in range(4)]
    spenders = [
        context.Process(target=spend_many, args=(url, share, said, MANY_FITTING))
        for share in shares
    ]
    before, wanted = said.stat().st_size, choice.randint(1, 60) * len("granted spend 100")
    for spender in spenders:
        spender.start()
    while said.stat().st_size < before + wanted and any(one.is_alive() for one in spenders):
        time.sleep(choice.uniform(0, 0.01))
    for spender in spenders:
        spender.kill()
        spender.join()
