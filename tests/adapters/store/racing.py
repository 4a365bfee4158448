# SPDX-License-Identifier: Apache-2.0
"""What a racing client does, in a process of its own that may be killed at any moment."""

import os
from collections.abc import Iterable
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.synchronize import Barrier
from pathlib import Path

from dp_accounting.dp_event import ZCDpEvent

from consilium.adapters.store.database import open_database
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.errors import BudgetExceeded
from consilium.governance.composition import ORDERS, UNIT, Cap, Step
from consilium.governance.events import encode_event
from consilium.governance.ledger import Request

CAP = Cap(epsilon=2.0, delta=1e-6)
FITTING = 33


def fitting_step(fitting: int = FITTING) -> Step:
    """Returns an event of which exactly `fitting` fit the cap."""
    room = CAP.units(CAP.place()) * UNIT / ORDERS[CAP.place()]
    return Step(event=encode_event(ZCDpEvent(room / (fitting + 0.5))))


def processes() -> ForkServerContext:
    """Returns what starts processes that have this module, and what it imports, already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.adapters.store.racing"])
    return context


def spend_one(url: str, key: str, barrier: Barrier) -> None:
    """Waits for the others, spends once; the exit code is 0 if it was granted, 1 if refused."""
    database = open_database(url)
    barrier.wait()
    os._exit(0 if _spend(LedgerStore(database), key, fitting_step()) else 1)


def spend_many(url: str, keys: Iterable[str], said: Path, fitting: int) -> None:
    """Spends for each key, and notes each answer in a file after it was given."""
    store = LedgerStore(open_database(url))
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for key in keys:
        granted = _spend(store, key, fitting_step(fitting))
        os.write(handle, f"{'granted' if granted else 'refused'} {key}\n".encode())
    os._exit(0)


def _spend(store: LedgerStore, key: str, step: Step) -> bool:
    with store.database.transaction() as connection:
        try:
            store.spend(connection, Request(dataset="x", key=key, project="p", step=step))
        except BudgetExceeded:
            return False
    return True
