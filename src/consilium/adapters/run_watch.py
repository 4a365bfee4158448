# SPDX-License-Identifier: Apache-2.0
"""What is told of a run while it goes on, and how people's pauses and ends reach it.

Looks are at public validation records of the coordinator; epsilon is that of the worst view.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, final

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.run_board import Level, Look, RunBoard, RunProgress, SiteProgress
from consilium.adapters.stage import epsilon_after
from consilium.federation.progress import Progress, Validation
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup
from consilium.governance.contract import Contract
from consilium.governance.projects import State

_GOES_ON: Final = (State.RUNNING, State.PAUSED)
_PAUSE: Final = 0.2  # seconds between two looks at whether a pause is over


@final
class RunWatch:
    """Watches one run of `project` and publishes it."""

    def __init__(
        self,
        project: str,
        contract: Contract,
        board: RunBoard,
        references: Callable[[], tuple[Level, ...]],
    ) -> None:
        self.project = project
        self._unit = "record" if contract.guarantee is None else contract.guarantee.unit
        self._board, self._references = board, references
        self._state = State.RUNNING
        self._over, self._left = threading.Event(), False
        self._setup: Setup | None = None
        self._word: RunProgress | None = None
        self._prices: dict[int, float] = {}
        self._began = time.monotonic()

    # -- What people say --------------------------------------------------------------

    def hear(self, state: State) -> None:
        """Notes the project's state as the office has it now."""
        self._state = state
        if state not in _GOES_ON:
            self._over.set()
            self._say(state="stopped")

    def end(self) -> None:
        """Leaves the run as it is: this process ends."""
        self._left = True
        self._over.set()

    def is_stopped(self) -> bool:
        """Returns whether the run is to end."""
        return self._over.is_set()

    def is_left(self) -> bool:
        """Returns whether only this process ends."""
        return self._left

    # -- What the run says ------------------------------------------------------------

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:  # noqa: ARG002
        """Publishes the plan."""
        plan, steps = setup.plan, setup.steps_allowed
        self._setup = setup
        self._word = RunProgress(
            project=self.project,
            run="",
            state="running",
            round=progress.round,
            rounds=setup.agenda.rounds,
            epsilon=self._price(progress.attempts),
            granted=self._price(steps or 0),
            delta=0.0 if plan is None else plan.delta,
            unit=self._unit,
            measure="quality",
            looks=self._looks(progress),
            references=self._references(),
            sites=(),
            seconds_left=None,
            began=datetime.now(UTC),
            public_looks=True,
        )
        self._say()

    def round_done(self, report: RoundReport) -> None:
        """Publishes the round; holds the run here while it is paused."""
        progress = report.progress
        if self._word is None:
            return
        looks = self._looks(progress)
        done = max(1, progress.round)
        left = (time.monotonic() - self._began) / done * (self._word.rounds - progress.round)
        self._say(
            round=progress.round,
            epsilon=self._price(progress.attempts),
            measure=_measure(progress.history),
            looks=looks,
            references=self._references(),
            seconds_left=max(0.0, left),
        )
        self._hold()

    def ends(self, result: RunResult) -> None:
        """Publishes the end."""
        sites = tuple(
            SiteProgress(
                name=site.name,
                state="done",
                step=f"{site.charges} rounds paid",
                seconds=None,
                spent=self._price(site.charges),
            )
            for site in result.sites
        )
        self._say(state="finished", seconds_left=0.0, sites=sites)

    def failed(self, why: str) -> None:  # noqa: ARG002 - the log has it; pages name no reason
        """Publishes that it ended early."""
        self._say(state="stopped" if self.is_stopped() else "failed", seconds_left=None)

    def _hold(self) -> None:
        if self._state is not State.PAUSED:
            return
        self._say(state="paused")
        while self._state is State.PAUSED and not self._over.is_set():
            time.sleep(_PAUSE)
        if not self._over.is_set():
            self._say(state="running")

    def _looks(self, progress: Progress) -> tuple[Look, ...]:
        """Returns the looks; a round without retries is as many charges as its number."""
        extra = progress.attempts - progress.round
        return tuple(
            Look(one.round, self._price(one.round + extra), one.score) for one in progress.history
        )

    def _price(self, steps: int) -> float:
        if self._setup is None or steps == 0:
            return 0.0
        if steps not in self._prices:
            self._prices[steps] = epsilon_after(self._setup, steps) or 0.0
        return self._prices[steps]

    def _say(self, **changes: object) -> None:
        if self._word is not None:
            self._word = replace(self._word, **changes)  # type: ignore[arg-type]  # by name
            self._board.publish(self._word)


def _measure(history: tuple[Validation, ...]) -> str:
    if not history:
        return "quality"
    last = history[-1]
    if last.dice is not None:
        return "Dice"
    return "accuracy" if last.auc is None else "AUC"
