# SPDX-License-Identifier: Apache-2.0
"""The audit log of an office, and its witnesses."""

from collections.abc import Sequence
from itertools import islice
from typing import Final, final

import msgspec
from sqlalchemy import ColumnElement, Connection

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import LogFilter, LogReport, Page
from consilium.adapters.store.audit_store import entries_from, last_entry, some_entries
from consilium.adapters.store.office_shelves import ASSOCIATIONS, COSIGNED, HEADS, HeadRow
from consilium.adapters.store.office_tables import LOG
from consilium.errors import RemoteProtocolError
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.audit_log import COSIGNED as COSIGNED_MESSAGE
from consilium.governance.audit_log import (
    HEAD,
    LARGEST,
    MOST_LINKS,
    Cosigned,
    Entry,
    Finding,
    check_cosigned,
    check_head,
    cosign,
    follows,
    make_head,
    verify,
)
from consilium.wire import decode, encode

_LOG: Final = Resource(kind=ResourceKind.LOG)
_MOST: Final = 1000  # entries of a page
_LARGEST_COSIGNED: Final = LARGEST + 4096


@final
class Log:
    """What happened, provably."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def entries(self, actor: Actor, which: LogFilter, page: Page) -> tuple[Entry, ...]:
        """Returns entries of a page, in order."""
        beyond = [] if page.beyond is None else [LOG.c.sequence > page.beyond]
        return self._page(actor, [*_conditions(which), *beyond], page.most, newest_first=False)

    def latest(self, actor: Actor, which: LogFilter, page: Page) -> tuple[Entry, ...]:
        """Returns entries of a page, newest first."""
        beyond = [] if page.beyond is None else [LOG.c.sequence < page.beyond]
        return self._page(actor, [*_conditions(which), *beyond], page.most, newest_first=True)

    def _page(
        self, actor: Actor, wanted: list[ColumnElement[bool]], most: int, *, newest_first: bool
    ) -> tuple[Entry, ...]:
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_LOG, _LOG)
            most = max(1, min(most, _MOST))
            found = some_entries(turn.connection, *wanted, most=most, newest_first=newest_first)
        return tuple(found)

    def verify(self, actor: Actor, heads: Sequence[bytes] = ()) -> LogReport:
        """Checks the chain against the witnesses' signatures here, and `heads` from elsewhere.

        Args:
            actor: Who asks.
            heads: Heads of this office's log as other offices hold them (`held`).
        """
        with self._desk.looking(actor) as turn:
            turn.allow(Action.VERIFY_LOG, _LOG)
            return self._verified(turn.connection, heads)

    def _verified(self, connection: Connection, heads: Sequence[bytes]) -> LogReport:
        messages = [row.message for row in COSIGNED.where(connection)]
        known = [_cosigned(message) for message in (*messages, *heads)]
        forged = [self._forgery(connection, one) for one in known]
        true = [one for one, wrong in zip(known, forged, strict=True) if wrong is None]
        found = verify(entries_from(connection), [one.head for one in true])
        last = max(true, key=lambda one: one.head.sequence, default=None)
        end = last_entry(connection)
        return LogReport(
            entries=0 if end is None else end.sequence,
            findings=(*(one for one in forged if one is not None), *found),
            witnessed=0 if last is None else last.head.sequence,
            witness=None if last is None else last.witness,
            witnessed_at=None if last is None else last.time,
        )

    def _forgery(self, connection: Connection, one: Cosigned) -> Finding | None:
        """Returns what is wrong with a witness's signature; of unknown witnesses ours counts."""
        keys, place = _keys(connection, one.witness), one.head.sequence
        if one.head.office != self._desk.name:
            return Finding(place, f"is in a head of {one.head.office}, not of this office")
        try:
            check_head(one.head, self._desk.public_key())
        except RemoteProtocolError as error:
            return Finding(place, f"{error}")
        if keys and not any(_signed(one, key) for key in keys):
            return Finding(place, f"carries a forged signature of {one.witness}")
        return None

    def export(self, actor: Actor) -> bytes:
        """Returns all entries and witnessed heads as JSON lines."""
        with self._desk.acting(actor) as turn:
            turn.allow(Action.EXPORT_LOG, _LOG)
            lines = [msgspec.json.encode(one) for one in entries_from(turn.connection)]
            lines += [
                msgspec.json.encode({"cosigned": row.message, "witness": row.office})
                for row in COSIGNED.where(turn.connection)
            ]
            turn.note({"lines": len(lines)})
        return b"".join(line + b"\n" for line in lines)

    # -- Witnesses --------------------------------------------------------------------

    def head(self, to: str) -> bytes:
        """Returns the signed head for the office `to`: the links since it last signed."""
        with self._desk.database.reading() as connection:
            signed = [row.sequence for row in COSIGNED.having(connection, "witness", to)]
            first = max(1, *signed, 1)
            entries = list(islice(entries_from(connection, first), MOST_LINKS))
        return encode(make_head(self._desk.name, entries, self._desk.clock(), self._desk.key))

    def witness(self, actor: Actor, head: bytes) -> bytes:
        """Keeps another office's head and returns this office's signature of it.

        Raises:
            RemoteProtocolError: It is not theirs, or contradicts what they signed before.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.WITNESS_LOG, _LOG)
            shown = decode(head, HEAD, limit=LARGEST)
            if shown.office != turn.actor.office or turn.actor.key is None:
                raise RemoteProtocolError(
                    f"a head of {shown.office!r}, brought by {turn.actor.office!r}; expected its "
                    "own"
                )
            check_head(shown, turn.actor.key)
            held = HEADS.having(turn.connection, "office", shown.office)
            last = max(held, key=lambda row: row.sequence, default=None)
            follows(None if last is None else _cosigned(last.message).head, shown)
            signed = encode(cosign(shown, self._desk.name, turn.now, self._desk.key))
            row = HeadRow(office=shown.office, sequence=shown.sequence, message=signed)
            HEADS.add(turn.connection, self._desk.new_id(), row)
            turn.note({"office": shown.office, "entries": shown.sequence, "link": shown.link.hex()})
        return signed

    def keep(self, actor: Actor, cosigned: bytes) -> None:
        """Keeps another office's signature of our head.

        Raises:
            RemoteProtocolError: It is forged, or of a head that is not ours.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.WITNESS_LOG, _LOG)
            signed = _cosigned(cosigned)
            if signed.witness != turn.actor.office or turn.actor.key is None:
                raise RemoteProtocolError(
                    f"a signature of {signed.witness!r}, brought by {turn.actor.office!r}"
                )
            check_cosigned(signed, turn.actor.key)
            check_head(signed.head, self._desk.public_key())
            row = HeadRow(office=signed.witness, sequence=signed.head.sequence, message=cosigned)
            COSIGNED.add(turn.connection, self._desk.new_id(), row)
            turn.note({"witness": signed.witness, "entries": signed.head.sequence})

    def held(self, actor: Actor, office: str) -> tuple[bytes, ...]:
        """Returns the heads of another office that this one keeps, as files for its `verify`."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_LOG, _LOG)
            return tuple(row.message for row in HEADS.having(turn.connection, "office", office))


def _cosigned(message: bytes) -> Cosigned:
    return decode(message, COSIGNED_MESSAGE, limit=_LARGEST_COSIGNED)


def _signed(one: Cosigned, key: bytes) -> bool:
    try:
        check_cosigned(one, key)
    except RemoteProtocolError:
        return False
    return True


def _keys(connection: Connection, office: str) -> list[bytes]:
    return [row.known.key for row in ASSOCIATIONS.having(connection, "name", office)]


def _conditions(which: LogFilter) -> list[ColumnElement[bool]]:
    same = {
        LOG.c.actor: which.actor,
        LOG.c.action: which.action,
        LOG.c.resource: which.resource,
        LOG.c.outcome: which.outcome,
    }
    found = [column == value for column, value in same.items() if value is not None]
    return found + ([] if which.since is None else [LOG.c.time >= which.since])
