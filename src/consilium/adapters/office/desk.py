# SPDX-License-Identifier: Apache-2.0
"""What every service of an office works with: database, clock, names, key.

Guarantees: an actor's roles, groups and state are read again in the transaction of the act; what
the actor object says of them is not believed. A refusal is logged too, and commits nothing else.
"""

from dataclasses import dataclass, field
from typing import final

from consilium.adapters.office.moments import Clock, Names, new_name, system_clock
from consilium.adapters.store.database import Database


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What services share.

    Attributes:
        database: Of the office.
        name: Of the office.
        key: Its Ed25519 private key.
        clock: Tells the time, in UTC.
        names: Makes ids.
    """

    database: Database
    name: str
    key: bytes = field(repr=False)
    clock: Clock = system_clock
    names: Names = new_name
