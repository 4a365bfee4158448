# SPDX-License-Identifier: Apache-2.0
"""How often somebody may try to log in, per account and per address, counted in the database.

A try is counted before the password is looked at, so that tries at the same time do not slip
through; a success forgets the account's. Names and addresses are kept as digests.
Guarantees: in any window of `WINDOW`, at most `PER_ACCOUNT` failures for one account and
`PER_ADDRESS` from one address, over all processes that share the database. Whoever knows a name
can shut its owner out for a window; a reset link opens the account at once.
"""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select

from consilium.adapters.store.identity_tables import TRIES, seconds
from consilium.errors import TooManyTries
from consilium.wire import digest

WINDOW: Final = timedelta(minutes=15)
PER_ACCOUNT: Final = 8
PER_ADDRESS: Final = 40


def count_try(connection: Connection, account: str, address: str, *, now: datetime) -> None:
    """Counts a try.

    Raises:
        TooManyTries: The account or the address has had its share of this window.
    """
    since = seconds(now - WINDOW)
    connection.execute(delete(TRIES).where(TRIES.c.at <= since))
    for key, most in ((_account(account), PER_ACCOUNT), (_address(address), PER_ADDRESS)):
        number, first = connection.execute(
            select(func.count(), func.min(TRIES.c.at)).where(TRIES.c.subject == key)
        ).one()
        if number >= most:
            wait = max(1, int(first) - since)
            raise TooManyTries(
                f"too many tries to log in; expected fewer: wait {wait} seconds, or ask an "
                "administrator for a reset link",
                wait,
            )
    for key in (_account(account), _address(address)):
        connection.execute(insert(TRIES).values(subject=key, at=seconds(now)))


def forget_tries(connection: Connection, account: str, address: str) -> None:
    """Forgets the account's tries and the last of the address: its owner has come in."""
    last = select(func.max(TRIES.c.id)).where(TRIES.c.subject == _address(address))
    connection.execute(delete(TRIES).where(TRIES.c.subject == _account(account)))
    connection.execute(delete(TRIES).where(TRIES.c.id == last.scalar_subquery()))


def _account(account: str) -> bytes:
    return digest("identity/account", account.casefold().encode("utf-8", "surrogatepass"))


def _address(address: str) -> bytes:
    return digest("identity/address", address.encode("utf-8", "surrogatepass"))
