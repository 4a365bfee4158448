# SPDX-License-Identifier: Apache-2.0
"""What drivers tell of themselves while a run goes on: bytes by kind, phases, charges.

Not here: who listens (`health`), and what a report says of a finished run (`measures`).
"""

from typing import Literal, Protocol, TypeAlias, final

Way: TypeAlias = Literal["in", "out"]
Phase: TypeAlias = Literal[
    "waiting", "gathering", "agreeing", "computing", "paying", "sealing", "opening", "looking",
    "saving",
]  # fmt: skip


class Meter(Protocol):
    """Who counts; nothing it does changes the run."""

    def passed(self, way: Way, kind: str, size: int) -> None:
        """A message came in or goes out; `kind` is the name of its type."""
        ...

    def enters(self, phase: Phase) -> None:
        """A phase begins, and the one before it ends."""
        ...

    def charged(self, round_: int, count: int) -> None:
        """A round was paid for; the ledger now shows so many charges of this run."""
        ...


@final
class Unmetered:
    """The meter of runs that nobody counts."""

    def passed(self, way: Way, kind: str, size: int) -> None:
        """Does nothing."""

    def enters(self, phase: Phase) -> None:
        """Does nothing."""

    def charged(self, round_: int, count: int) -> None:
        """Does nothing."""
