# SPDX-License-Identifier: Apache-2.0
"""`consilium data import`: from options to a dataset, a bar while it grows and a table at the end.

Guarantees: nothing here shows a file name, a patient or a value; only counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from consilium.adapters.dataset_summary import ImportSummary
from consilium.adapters.importing import ImportJob, run_import
from consilium.adapters.pseudonym_key import default_key_file
from consilium.data.deidentification import Dates
from consilium.data.manifest import Columns, Match
from consilium.data.reading import Policy
from consilium.data.records import SPLITS, Unit
from consilium.data.rendering import Plane, Rendering
from consilium.errors import ConfigError

INTERRUPTED: Final = 130
_MOST_TAGS: Final = 12  # shown; all are in the steward's report


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one call."""

    source: Path
    out: Path
    labels: Path | None
    patient_id: str | None
    label: str | None
    match: Match
    classes: tuple[str, ...]
    label_maps: Path | None
    unit: Unit
    size: int
    colour: Literal["grey", "rgb"]
    window: str | None
    plane: Plane
    depth: int | None
    validation_share: float
    test_share: float
    dates: Dates
    no_burned_in_text: bool
    no_faces: bool
    key: Path | None

    def job(self) -> ImportJob:
        """Returns what is to be done.

        Raises:
            ConfigError: An option has no meaning, or two do not go together.
        """
        rendering = Rendering(
            size=self.size,
            channels=1 if self.colour == "grey" else 3,
            plane=self.plane,
            depth=self.depth,
            window=_window(self.window),
        )
        policy = Policy(
            rendering=rendering,
            classes=self.classes,
            unit=self.unit,
            dates=self.dates,
            no_burned_in_text=self.no_burned_in_text,
            no_faces=self.no_faces,
            validation_share=self.validation_share,
            test_share=self.test_share,
        )
        return ImportJob(
            source=self.source,
            out=self.out,
            policy=policy,
            columns=Columns(patient=self.patient_id, label=self.label, match=self.match),
            key=self.key or default_key_file(),
            labels=self.labels,
            label_maps=self.label_maps,
        )


def import_data(request: Request, *, dry_run: bool, as_json: bool) -> None:
    """Imports and shows what came of it.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    job = request.job()
    console = Console(stderr=True)
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rejected]} left out"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bars:
        task = bars.add_task("reading" if dry_run else "importing", total=None, rejected=0)

        def watch(done: int, total: int, rejected: int) -> None:
            bars.update(task, completed=done, total=total, rejected=rejected)

        try:
            summary = run_import(job, dry_run=dry_run, watch=watch)
        except KeyboardInterrupt:
            typer.echo("consilium: interrupted; the same command goes on from here", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
        return
    show(summary, job)


def show(summary: ImportSummary, job: ImportJob) -> None:
    """Prints the tables of what came in, what was left out, and what stayed behind."""
    console = Console()
    console.print(_splits(summary))
    if summary.rejected:
        console.print(_counts("left out, by reason", "files", summary.rejected))
    if summary.removed:
        common = sorted(summary.removed.items(), key=lambda item: (-item[1], item[0]))
        shown = dict(common[:_MOST_TAGS])
        console.print(_counts("tags that stayed behind", "objects", shown))
        if len(common) > _MOST_TAGS:
            typer.echo(f"and {len(common) - _MOST_TAGS} tags more")
    if summary.copies:
        typer.echo(f"Copies between splits: {summary.copies}")
    if summary.note:
        typer.echo(f"Note: {summary.note}")
    typer.echo(f"For the steward alone, with file names: {job.steward}")
    if job.out.is_dir():
        typer.echo(f'Dataset: {job.out}; in a project: data.source = "{job.out}"')


def _splits(summary: ImportSummary) -> Table:
    table = Table("split", "patients", "records", *summary.classes)
    for split in SPLITS:
        one = summary.counts[split]
        each = map(str, one.of_each_class or ("-",) * len(summary.classes))
        table.add_row(split, f"{one.patients}", f"{one.records}", *each)
    return table


def _counts(title: str, what: str, counts: Mapping[str, int]) -> Table:
    table = Table(title, what)
    for name, count in counts.items():
        table.add_row(name, f"{count}")
    return table


def _window(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        black, white = (float(value) for value in text.split(","))
    except ValueError:
        raise ConfigError(f"--window {text!r}; expected BLACK,WHITE: -150,200 say") from None
    return black, white
