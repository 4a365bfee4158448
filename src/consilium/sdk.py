# SPDX-License-Identifier: Apache-2.0
"""The front door from Python: read a project, train its arms, get models and a report.

>>> import consilium
>>> project = consilium.load_project("recipes/mnist.toml")
>>> project.name
'mnist'
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, final

import msgspec

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.machine import use_threads
from consilium.adapters.stage import (
    MODEL,
    PICTURES,
    NobodyWatches,
    Observer,
    Run,
    finished_before,
)
from consilium.adapters.training import train_arm
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError
from consilium.federation.arms import ARMS, MAIN_ARM
from consilium.federation.project import Project, parse_project
from consilium.federation.results import RunResult
from consilium.learning.pictures import Picture
from consilium.web.curves import draw_curves
from consilium.web.report import render_report

PROJECT: Final = "project.toml"
ARMS_FILE: Final = "arms.json"
DATA_VARIABLE: Final = "CONSILIUM_DATA"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What `train` leaves behind.

    Attributes:
        folder: With report.html, results.jsonl, curves.svg, model.safetensors, privacy.json.
        results: One for each arm and seed, in the order they were trained.
    """

    folder: Path
    results: tuple[RunResult, ...]

    def result(self, arm: str = MAIN_ARM) -> RunResult:
        """Returns the first seed's result of `arm`.

        Raises:
            ConfigError: It was not trained.
        """
        for one in self.results:
            if one.arm == arm:
                return one
        raise ConfigError(f"arm {arm!r} was not trained; expected one of {self.arms()}")

    def arms(self) -> tuple[str, ...]:
        """Returns the arms that were trained, in order."""
        return tuple(dict.fromkeys(one.arm for one in self.results))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to train; what is trained is the project's.

    Attributes:
        arms: Names, ("all",), or () for the main arm; with resume, () is the arms of before.
        seeds: Of the experiments, or () for the project's.
        data_folder: Where the datasets lie; None asks the variable CONSILIUM_DATA.
        resume: Go on from what is in the folder.
        processes: Sites are real processes.
        federation: The researcher's start-up kit: the sites are those of a federation, each on
            its own machine with its own records. None: all sites are on this machine.
        watch: Is told where a run at a federation stands, about every second.
        next_command: Shown at the end of the report.
    """

    arms: Sequence[str] = ()
    seeds: Sequence[int] = ()
    data_folder: Path | None = None
    resume: bool = False
    processes: bool = False
    federation: Path | None = None
    watch: Callable[[Mapping[str, object]], None] = lambda _seen: None
    next_command: str = "consilium train PROJECT.toml --arms all --seeds 5"


def load_project(path: str | Path, changes: Mapping[str, str] | None = None) -> Project:
    """Returns the project in a TOML file.

    Args:
        path: Of the file.
        changes: Settings to replace, such as {"training.rounds": "30"}.

    Raises:
        ConfigError: It cannot be read, or says something that is not understood.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"project file {path} cannot be read ({type(error).__name__}); expected a TOML file: "
            "see recipes/ for examples"
        ) from None
    return parse_project(text, changes)


def train(
    project: Project,
    out: str | Path,
    options: Options | None = None,
    observer: Observer | None = None,
) -> Trained:
    """Trains arms of a project, on this machine or at a federation, and writes the report.

    Args:
        project: What was agreed.
        out: Folder for everything that is left behind; must be new unless `resume`.
        options: How.
        observer: Who watches.

    Raises:
        ConsiliumError: Bad data, bad settings, or what the parties refuse; what was finished
            before stays in the folder, whole.
    """
    chosen, folder = options or Options(), Path(out)
    arms = _arms_before(folder) if chosen.resume and not chosen.arms else _arms(chosen.arms)
    project = msgspec.structs.replace(project, seeds=tuple(chosen.seeds) or project.seeds)
    for arm in arms:
        project.for_arm(arm)
    _check_folder(folder, project, resume=chosen.resume)
    data_folder = chosen.data_folder or default_data_folder()
    dataset = None if chosen.federation else read_dataset(project.data, data_folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / PROJECT, project.resolved().encode())
    write_whole(folder / ARMS_FILE, msgspec.json.encode(arms))
    results = []
    for seed in project.seeds:
        for arm in arms:
            run = Run(
                project=project,
                arm=arm,
                seed=seed,
                folder=folder / "runs" / f"{arm}-seed{seed}",
                data_folder=data_folder,
                resume=chosen.resume,
                processes=chosen.processes,
                threads=_cores(),
            )
            if dataset is None:
                results.append(_train_there(run, chosen))
            else:
                results.append(_train_here(run, dataset, observer or NobodyWatches()))
            _write_report(folder, results, chosen.next_command)
    return Trained(folder=folder, results=tuple(results))


def default_data_folder() -> Path | None:
    """Returns the folder that the variable CONSILIUM_DATA names, if it does."""
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else None


def _train_here(run: Run, dataset: Dataset, observer: Observer) -> RunResult:
    use_threads(1)  # sites compute side by side, one core each
    return train_arm(run, dataset, observer)


def _train_there(run: Run, chosen: Options) -> RunResult:
    if run.resume and (before := finished_before(run)) is not None:
        return before
    try:
        submission = import_module("consilium.adapters.nvflare.submission")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"package {error.name} is missing; expected the extra for federations: "
            "pip install 'consilium[federation]'"
        ) from None
    result: RunResult = submission.train_there(run, chosen.federation, chosen.watch)
    return result


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _arms(names: Sequence[str]) -> tuple[str, ...]:
    if list(names) == ["all"]:
        return tuple(ARMS)
    return tuple(dict.fromkeys(names)) or (MAIN_ARM,)


def _arms_before(folder: Path) -> tuple[str, ...]:
    try:
        return msgspec.json.decode((folder / ARMS_FILE).read_bytes(), type=tuple[str, ...])
    except (OSError, msgspec.MsgspecError):
        return _arms(())


def load_run(folder: str | Path) -> Project:
    """Returns the project of a run that was begun in `folder`.

    Raises:
        ConfigError: No run was begun there.
    """
    if not (Path(folder) / PROJECT).exists():
        raise ConfigError(
            f"folder {folder} holds no run to resume; expected {PROJECT} in it: leave out --resume"
        )
    return load_project(Path(folder) / PROJECT)


def _check_folder(folder: Path, project: Project, *, resume: bool) -> None:
    if resume and load_run(folder) != project:
        raise ConfigError(
            f"folder {folder} holds a run of another project; expected the one in its {PROJECT}: "
            "resume with that file and the same settings, or choose another --out"
        )
    if not resume and folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"folder {folder} is not empty; expected a new one: choose another --out, or go on "
            "with --resume"
        )


def _write_report(folder: Path, results: Sequence[RunResult], next_command: str) -> None:
    """Writes what a reader opens; every file is whole at any moment."""
    main = next((one for one in results if one.arm == MAIN_ARM), results[0])
    lines = b"".join(msgspec.json.encode(one) + b"\n" for one in results)
    write_whole(folder / "results.jsonl", lines)
    write_whole(folder / "curves.svg", draw_curves(results))
    own = folder / "runs" / f"{main.arm}-seed{main.seed}"
    page = render_report(
        results, title=main.project, next_command=next_command, pictures=_pictures(own)
    )
    write_whole(folder / "report.html", page.encode())
    statement = msgspec.json.format(msgspec.json.encode(main.statement), indent=2)
    write_whole(folder / "privacy.json", statement + b"\n")
    write_whole(folder / MODEL, (own / MODEL).read_bytes())


def _pictures(run: Path) -> tuple[Picture, ...]:
    """Returns the test pictures that a run left, if its project shows any."""
    path = run / PICTURES
    if not path.exists():
        return ()
    return msgspec.msgpack.decode(path.read_bytes(), type=tuple[Picture, ...])
