# SPDX-License-Identifier: Apache-2.0
"""How runs stand now, for whoever watches: the last word of each, and a way to wait for the next.

What runs a project publishes here; pages read. In memory alone: what must outlast a process is in
the ledger, in the log and in the run's folder. Guarantees: a reader never sees half a word; a slow
reader misses words, never the last one. A word holds what may be released: no value that was not
charged.
"""

import threading
from dataclasses import dataclass
from datetime import datetime
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Look:
    """One look at the validation records: after which round, at what epsilon, how good."""

    round: int
    epsilon: float
    quality: float


@final
@dataclass(frozen=True, slots=True)
class Level:
    """What another arm reached, and on what data: a reference, not a part of the run."""

    arm: str
    quality: float
    source: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProgress:
    """One site of a run.

    Attributes:
        name: Of the site.
        state: In one word: "done", "computing", "late", "gone".
        step: What it did last, in words.
        seconds: That took, or None.
        spent: Epsilon of this run on its ledger.
    """

    name: str
    state: str
    step: str
    seconds: float | None
    spent: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """How a run stands.

    Attributes:
        project: Id of the project.
        run: Its name.
        state: "running", "paused", "finished", "stopped", "failed".
        round: That is done.
        rounds: Planned.
        epsilon: Spent, in the worst view.
        granted: Most that it may spend.
        delta: Of both.
        unit: Whose loss is bounded.
        measure: What quality is: "AUC", "accuracy", "Dice".
        looks: So far, in order.
        references: Other arms.
        sites: In order.
        seconds_left: At the present pace, or None.
        began: UTC.
        public_looks: Whether the validation records are public, so that looks cost nothing.
    """

    project: str
    run: str
    state: str
    round: int
    rounds: int
    epsilon: float
    granted: float
    delta: float
    unit: str
    measure: str
    looks: tuple[Look, ...]
    references: tuple[Level, ...]
    sites: tuple[SiteProgress, ...]
    seconds_left: float | None
    began: datetime
    public_looks: bool = False

    @property
    def moving(self) -> bool:
        """Whether another word may follow."""
        return self.state in {"running", "paused"}


@final
class RunBoard:
    """The last word of every run. Threads share it."""

    def __init__(self) -> None:
        self._words: dict[str, tuple[int, RunProgress]] = {}
        self._changed = threading.Condition()

    def publish(self, progress: RunProgress) -> None:
        """Replaces the last word of a project's run."""
        with self._changed:
            number, _ = self._words.get(progress.project, (0, None))
            self._words[progress.project] = (number + 1, progress)
            self._changed.notify_all()

    def of(self, project: str) -> RunProgress | None:
        """Returns the last word, or None."""
        with self._changed:
            word = self._words.get(project)
            return None if word is None else word[1]

    def after(self, project: str, seen: int, seconds: float) -> tuple[int, RunProgress] | None:
        """Returns a word that is newer than number `seen`, with its number.

        Waits at most `seconds` for one; None if none came.
        """

        def newer() -> bool:
            return self._words.get(project, (0, None))[0] > seen

        with self._changed:
            return self._words[project] if self._changed.wait_for(newer, seconds) else None
