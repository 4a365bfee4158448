# SPDX-License-Identifier: Apache-2.0
"""`consilium train`: from options to a report."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import msgspec
import typer

from consilium.adapters.machine import keep_freed_memory
from consilium.cli.display import Display, program, show_summary
from consilium.errors import ConfigError
from consilium.federation.project import Project
from consilium.sdk import PROJECT, Options, load_project, load_run, train


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of one call."""

    project: Path | None
    arms: tuple[str, ...]
    changes: tuple[str, ...]
    seeds: int | None
    out: Path | None
    resume: Path | None
    data: Path | None
    processes: bool
    federation: Path | None
    json: bool


def run_training(request: Request) -> None:
    """Trains what was asked for and shows the table of arms.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    keep_freed_memory()
    if request.out is not None and request.resume is not None:
        raise ConfigError("--out and --resume were both given; expected one: --resume DIR goes on")
    if request.seeds is not None and request.seeds < 1:
        raise ConfigError(f"--seeds is {request.seeds}; expected 1 or more")
    project = _project(request)
    out = request.resume or request.out or Path("runs") / project.name
    with Display() as display:
        options = Options(
            arms=request.arms,
            seeds=tuple(range(request.seeds)) if request.seeds else (),
            data_folder=request.data,
            resume=request.resume is not None,
            processes=request.processes,
            federation=_kit(request.federation),
            watch=display.follow,
            next_command=_next(request),
        )
        trained = train(project, out, options, display)
    if request.json:
        for one in trained.results:
            typer.echo(msgspec.json.encode(one).decode())
        return
    show_summary(trained, next_command=_next(request))


def _kit(named: Path | None) -> Path | None:
    """Returns the researcher's kit: the folder itself, or the one in what `init` made."""
    inside = None if named is None else named / "kits" / "researcher"
    return inside if inside is not None and inside.is_dir() else named


def _project(request: Request) -> Project:
    if request.project is not None:
        return load_project(request.project, _changes(request.changes))
    if request.resume is None:
        raise ConfigError("no project file was given; expected one: see recipes/, or --resume DIR")
    if request.changes:
        raise ConfigError("--set was given with --resume; expected neither or a new --out")
    return load_run(request.resume)


def _next(request: Request) -> str:
    project = request.project or (request.resume or Path()) / PROJECT
    if request.federation is not None:
        arm = "federated-local-dp" if "federated-local-dp" not in request.arms else "federated"
        return f"{program()} train {project} --federation {request.federation} --arm {arm}"
    if request.arms != ("all",):
        return f"{program()} train {project} --arms all --out runs/all-arms"
    return f"{program()} train {project} --arms all --seeds 5 --out runs/five-seeds"


def _changes(words: tuple[str, ...]) -> dict[str, str]:
    changes = {}
    for word in words:
        path, equals, value = word.partition("=")
        if not equals or ("." not in path and path not in ("name", "seeds")):
            raise ConfigError(f"--set {word!r}; expected section.key=value, dp.delta=1e-5 say")
        changes[path] = value
    return changes
