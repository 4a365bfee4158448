# SPDX-License-Identifier: Apache-2.0
"""What a run looks like in a terminal: a bar an arm while it runs, a table at the end."""

import math
import os
import shutil
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)
from rich.table import Table

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.stage import epsilon_after
from consilium.federation.arms import MAIN_ARM
from consilium.federation.progress import Progress, Validation
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup
from consilium.learning.resampling import Interval
from consilium.sdk import Trained
from consilium.web.formats import pixels, share
from consilium.web.summary import ArmSummary, Spread, summary_rows

_NO_PROMISE: Final = "∞"
_STEPS: Final = ("phase", "look", "auc", "accuracy", "epsilon")


@final
class Display:
    """Shows progress on standard error; a plain line an arm where that is not a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Bars(
            TextColumn("[bold]{task.description:<18}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[privacy]}"),
            TextColumn("{task.fields[score]}"),
            TextColumn("{task.fields[sites]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._setup: Setup | None = None
        self._step: dict[str, object] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """Starts a bar."""
        self._setup = setup
        name = setup.arm.name if not seed else f"{setup.arm.name} #{seed}"
        self._task = self._bars.add_task(
            name,
            total=setup.agenda.rounds,
            completed=progress.round,
            privacy="no privacy" if setup.plan is None else "epsilon 0",
            score="",
            sites=f"{setup.sites} sites" if setup.sites > 1 else "1 place",
        )

    def round_done(self, report: RoundReport) -> None:
        """Moves the bar; at a look also shows score and epsilon."""
        if self._task is None or self._setup is None:
            return
        progress = report.progress
        self._bars.update(self._task, completed=progress.round)
        if progress.history and progress.history[-1].round == progress.round:
            seen = progress.history[-1]
            self._bars.update(self._task, score=_score(seen), privacy=self._privacy(progress))

    def ends(self, result: RunResult) -> None:
        """Fills the bar, or prints a line where there is none."""
        if not self._console.is_terminal:
            seconds = f"{result.seconds:.1f} s"
            self._console.print(
                f"{result.arm} seed {result.seed}: {result.rounds} rounds, {seconds}"
            )

    def follow(self, seen: Mapping[str, object]) -> None:
        """Prints where a run at a federation stands, when it has come on by a phase or a look."""
        step = {key: seen[key] for key in _STEPS if seen.get(key) is not None}
        if step and step != self._step:
            self._step = step
            self.say(", ".join(f"{key} {_short(value)}" for key, value in step.items()))

    def say(self, line: str) -> None:
        """Prints one line above the bars."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _privacy(self, progress: Progress) -> str:
        setup = self._setup
        if setup is None or setup.plan is None:
            return "no privacy"
        spent = epsilon_after(setup, progress.attempts)
        budget = epsilon_after(setup, setup.steps_allowed or setup.plan.steps)
        return f"epsilon {_epsilon(spent, private=True)} of {_epsilon(budget, private=True)}"


def _score(seen: Validation) -> str:
    if seen.dice is not None:
        return f"Dice {seen.dice:.3f}"
    return f"AUC {seen.auc:.3f}" if seen.auc is not None else f"acc {seen.accuracy:.3f}"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def program() -> str:
    """Returns what to type for this program here: its name, or its path where that is not found."""
    return "consilium" if shutil.which("consilium") else os.path.relpath(sys.argv[0])


def show_summary(trained: Trained, *, next_command: str) -> None:
    """Prints the table of arms on standard output, where the report is, and what to try next."""
    console = Console()
    table = Table(
        title=f"On {trained.results[0].test.records} test records. ∞ is no guarantee at all.",
        title_justify="left",
        title_style="",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    table.add_column("arm", no_wrap=True)
    maps = trained.results[0].maps is not None
    last = "kappa" if trained.results[0].ordered else "MCC"
    scores = ("Dice", "IoU", "95 % CI", "HD95") if maps else ("accuracy", "AUC", "95 % CI", last)
    for column in (*scores, "epsilon", "curious"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in summary_rows(trained.results):
        table.add_row(*_cells(row, maps=maps), style="bold" if row.arm == MAIN_ARM else "")
    console.print(table)
    console.print(f"Report: {trained.folder / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"Next:   {next_command}", highlight=False, soft_wrap=True)


def _cells(row: ArmSummary, *, maps: bool) -> tuple[str, ...]:
    scores = (
        (_defined(row.dice), _defined(row.iou), _span(row.dice_interval), pixels(row.hausdorff95))
        if maps
        else (
            _spread(row.accuracy),
            _defined(row.auc),
            _span(row.auc_interval),
            share((row.quadratic_kappa or row.mcc).mean),
        )
    )
    return (
        row.arm,
        *scores,
        _epsilon(row.epsilon_outsider, private=row.private),
        _epsilon(row.epsilon_participant, private=row.private),
    )


def _defined(value: Spread | None) -> str:
    return "-" if value is None else _spread(value)


def _span(interval: Interval | None) -> str:
    return "-" if interval is None else f"{share(interval[0])}-{share(interval[1])}"


def _spread(value: Spread) -> str:
    return share(value.mean) + ("" if value.sd is None else f"±{share(value.sd)}")


def _epsilon(value: float | None, *, private: bool) -> str:
    if not private:
        return _NO_PROMISE
    return "-" if value is None else f"{math.ceil(value * 100) / 100:.2f}"
