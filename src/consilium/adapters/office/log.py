# SPDX-License-Identifier: Apache-2.0
"""The audit log of an office, and its witnesses."""

from collections.abc import Sequence
from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import LogFilter, LogReport, Page
from consilium.governance.access import Actor
from consilium.governance.audit_log import Entry


@final
class Log:
    """What happened, provably."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def entries(self, actor: Actor, which: LogFilter, page: Page) -> tuple[Entry, ...]:
        """Returns entries of a page, in order."""
        raise NotImplementedError

    def latest(self, actor: Actor, which: LogFilter, page: Page) -> tuple[Entry, ...]:
        """Returns entries of a page, newest first."""
        raise NotImplementedError

    def verify(self, actor: Actor, heads: Sequence[bytes] = ()) -> LogReport:
        """Checks the chain against the witnesses' signatures here, and `heads` from elsewhere."""
        raise NotImplementedError

    def export(self, actor: Actor) -> bytes:
        """Returns all entries and witnessed heads as JSON lines."""
        raise NotImplementedError

    def head(self) -> bytes:
        """Returns the signed head for other offices."""
        raise NotImplementedError

    def witness(self, actor: Actor, head: bytes) -> bytes:
        """Keeps another office's head and returns this office's signature of it."""
        raise NotImplementedError

    def keep(self, actor: Actor, cosigned: bytes) -> None:
        """Keeps another office's signature of our head."""
        raise NotImplementedError

    def held(self, actor: Actor, office: str) -> tuple[bytes, ...]:
        """Returns the heads of another office that this one keeps, as files for its `verify`."""
        raise NotImplementedError
