# SPDX-License-Identifier: Apache-2.0
"""The log's table: entries are appended in the caller's transaction, never changed.

Guarantees: an entry is committed with the act that it describes, or neither is. The transaction
is the only writer, so no two entries follow the same one.
"""

from collections.abc import Iterator
from typing import Final

from sqlalchemy import ColumnElement, Connection, Row, insert, select

from consilium.adapters.store.office_tables import LOG
from consilium.governance.audit_log import START, Entry, Fact, Outcome, make_entry

_AT_ONCE: Final = 1000  # rows that are read together


def append_entry(connection: Connection, fact: Fact) -> Entry:
    """Returns `fact` as the log's new last entry."""
    before = last_entry(connection)
    previous, place = (START, 0) if before is None else (before.link, before.sequence)
    entry = make_entry(previous, place + 1, fact)
    connection.execute(
        insert(LOG).values(
            sequence=entry.sequence,
            time=entry.time,
            actor=entry.actor,
            actor_name=entry.actor_name,
            action=entry.action,
            resource=entry.resource,
            outcome=str(entry.outcome),
            facts=entry.facts,
            link=entry.link,
        )
    )
    return entry


def last_entry(connection: Connection) -> Entry | None:
    """Returns the log's last entry, or None."""
    row = connection.execute(select(LOG).order_by(LOG.c.sequence.desc()).limit(1)).first()
    return None if row is None else _entry(row)


def entries_from(connection: Connection, first: int = 1) -> Iterator[Entry]:
    """Gives the entries from `first` on, in order."""
    query = select(LOG).where(LOG.c.sequence >= first).order_by(LOG.c.sequence)
    for row in connection.execute(query, execution_options={"yield_per": _AT_ONCE}):
        yield _entry(row)


def some_entries(
    connection: Connection, *conditions: ColumnElement[bool], most: int, newest_first: bool
) -> list[Entry]:
    """Returns at most `most` entries for which every condition holds."""
    order = LOG.c.sequence.desc() if newest_first else LOG.c.sequence
    query = select(LOG).where(*conditions).order_by(order).limit(most)
    return [_entry(row) for row in connection.execute(query)]


def _entry(row: Row[tuple[object, ...]]) -> Entry:
    found = row._mapping
    return Entry(
        sequence=found["sequence"],
        time=found["time"],
        actor=found["actor"],
        actor_name=found["actor_name"],
        action=found["action"],
        resource=found["resource"],
        outcome=Outcome(found["outcome"]),
        facts=found["facts"],
        link=bytes(found["link"]),
    )
