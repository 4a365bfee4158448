# SPDX-License-Identifier: Apache-2.0
"""`consilium search`: from a space of settings to the best of them, and what it cost."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgspec
import typer

from consilium.adapters.machine import keep_freed_memory, use_threads
from consilium.adapters.search import Found, Search, search
from consilium.adapters.whole_files import write_whole
from consilium.cli.display import program
from consilium.federation.project import parse_project
from consilium.federation.search_space import parse_space
from consilium.sdk import default_data_folder, load_project
from consilium.web.importance import draw_importances

BEST: Final = "best.toml"
FOUND: Final = "search.json"
IMPORTANCE: Final = "importance.svg"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one call."""

    project: Path
    space: tuple[str, ...]
    trials: int
    arm: str
    public_twin: str | None
    out: Path | None
    data: Path | None
    seed: int
    json: bool


def run_search(request: Request) -> None:
    """Searches what was asked for, shows the best settings and leaves them in a project file.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    keep_freed_memory()
    use_threads(1)
    project = load_project(request.project)
    folder = request.out or Path("searches") / project.name
    asked = Search(
        project=project,
        arm=request.arm,
        space=parse_space(request.space),
        trials=request.trials,
        folder=folder,
        public_twin=request.public_twin,
        data_folder=request.data or default_data_folder(),
        seed=request.seed,
        told=_say,
    )
    found = search(asked)
    best = parse_project(project.resolved(), found.best)
    write_whole(folder / BEST, best.resolved().encode())
    write_whole(folder / FOUND, msgspec.json.encode(found))
    if found.importances:
        write_whole(folder / IMPORTANCE, draw_importances(found.importances, arm=request.arm))
    if request.json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    _show(found, folder, request.arm)


def _say(number: int, settings: Mapping[str, str], score: float | None) -> None:
    words = ", ".join(f"{key.split('.', 2)[-1]} {value}" for key, value in settings.items())
    end = "cut short or failed" if score is None else f"score {score:.4f}"
    typer.echo(f"trial {number}: {words}: {end}", err=True)


def _show(found: Found, folder: Path, arm: str) -> None:
    typer.echo(
        f"{found.whole} whole trials, {found.pruned} pruned, {found.failed} failed; best "
        f"validation score {found.score:.4f} with"
    )
    for key, value in found.best.items():
        typer.echo(f"  {key} = {value}")
    for key, share in found.importances.items():
        typer.echo(f"  {key} explains {share:.0%} of the differences")
    typer.echo(found.cost)
    typer.echo(f"Next: {program()} train {folder / BEST} --arm {arm}")
