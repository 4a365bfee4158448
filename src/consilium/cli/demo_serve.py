# SPDX-License-Identifier: Apache-2.0
"""`consilium demo --serve`: a coordinator and three hospitals with their pages, on this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Final, final

import typer
from fastapi import FastAPI

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.demo_hospitals import write_hospitals, write_public
from consilium.adapters.demo_offices import (
    DATASET,
    Players,
    Staffed,
    associate,
    found_coordinator,
    found_hospital,
    submit,
)
from consilium.adapters.downloads import cache_folder, demo_source
from consilium.adapters.hosting import Host, Place, SiteHere, SitesHere
from consilium.adapters.machine import keep_freed_memory
from consilium.adapters.run_board import Level, RunBoard
from consilium.cli.demo import free_folder, make_project, read_source
from consilium.data.records import Splits
from consilium.errors import RoundAborted
from consilium.federation.progress import Progress
from consilium.federation.project import Project
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup
from consilium.governance.projects import OVER, State
from consilium.sdk import Options, default_data_folder, train
from consilium.web.app import WebSettings
from consilium.web.serving import Listening, place_of_office, serving

SITES: Final = ("hospital-a", "hospital-b", "hospital-c")
_CAP: Final = 8.0  # epsilon of each hospital's dataset
_STEP: Final = 0.3  # seconds between two looks
_COURIER_SECONDS: Final = 1.0
_LAST_SECONDS: Final = 10.0  # for a run that is told to end
_REFERENCES: Final = ("central", "federated", "central-dp", "federated-local-dp")
CHANGES: Final = {
    "name": "chest-x-ray",
    "data.source": DATASET,
    "sites.count": str(len(SITES)),
    "sites.colluders": "0",  # with three sites, one drop and one colluder would leave no sum
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be shown.

    Attributes:
        folder: Of everything; new.
        splits: Public data that stand for the hospitals' own.
        project: What the researcher hands in.
        seed: Of the division among the hospitals.
        yes: The first hospital's steward is played too, and the end of training is the end.
    """

    folder: Path
    splits: Splits
    project: Project
    seed: int
    yes: bool


@final
class Demonstration:
    """Four offices, their pages, and what happens without a click."""

    def __init__(self, asked: Asked) -> None:
        self._asked, self.board = asked, RunBoard()
        runs = asked.folder / "runs"
        write_public(asked.splits, asked.folder / "coordinator" / "data" / DATASET)
        folders = [asked.folder / name / "data" / DATASET for name in SITES]
        write_hospitals(asked.splits, folders, seed=asked.seed)
        self.coordinator = found_coordinator(asked.folder / "coordinator")
        self.hospitals = [found_hospital(asked.folder / name, name, SITES, _CAP) for name in SITES]
        engine = SitesHere([SiteHere(one.folder, one.office) for one in self.hospitals])
        self._models = asked.folder / "coordinator" / "models"
        place = Place(
            runs=runs,
            data=asked.folder / "coordinator" / "data",
            models=self._models,
            references=self.references,
        )
        self.host = Host(self.coordinator.office, self.board, engine, place)
        played = self.hospitals if asked.yes else self.hospitals[1:]
        self._players = Players(played, self.coordinator)
        self._levels: tuple[Level, ...] = ()
        self.project = ""
        self.links: dict[str, str] = {}

    def references(self) -> tuple[Level, ...]:
        """Returns what other arms reached on the same public data."""
        return self._levels

    def compare(self, levels: tuple[Level, ...]) -> None:
        """Shows other arms beside the run from now on."""
        self._levels = levels

    @contextmanager
    def open(self) -> Iterator[None]:
        """Serves all pages; `links` has a one-time link for each role then."""
        with ExitStack() as stack:
            at = self._serve(stack, self.coordinator, None)
            for hospital in self.hospitals:
                associate(hospital, self.coordinator, at)
            for one, other in combinations(self.hospitals, 2):
                associate(one, other)
            addresses = [
                self._serve(stack, hospital, _COURIER_SECONDS) for hospital in self.hospitals
            ]
            self._await_cards()
            toml = self._asked.project.resolved()
            self.project = submit(self.coordinator, toml, SITES)
            first = self.hospitals[0]
            self.links = {
                "Data steward, hospital A": _link(addresses[0], first, first.worker.id),
                "Researcher": _link(at, self.coordinator, self.coordinator.worker.id),
                "Administrator, hospital A": _link(addresses[0], first, first.owner.id),
                "Administrator, coordinator": _link(
                    at, self.coordinator, self.coordinator.owner.id
                ),
            }
            yield

    def step(self) -> State:
        """Does what waits for the people who are played; returns how the project stands."""
        self._players.act()
        self.host.look()
        projects = self.coordinator.office.projects
        return projects.get(self.coordinator.worker, self.project).state

    def end(self) -> None:
        """Ends a run that goes on."""
        self.host.end()
        self.host.wait(_LAST_SECONDS)

    def _serve(self, stack: ExitStack, staffed: Staffed, courier: float | None) -> str:
        place = place_of_office(staffed.office, Listening(), 0)
        settings = WebSettings(place=place, courier_seconds=courier, models_folder=self._models)
        app: FastAPI = stack.enter_context(serving(staffed.office, settings))
        app.state.runs = self.board
        origin: str = app.state.place.origins[0]
        return origin

    def _await_cards(self) -> None:
        """Waits until every hospital's card has come to the coordinator."""
        while len(self.coordinator.office.datasets.search(self.coordinator.worker)) < len(SITES):
            time.sleep(_STEP)


def run_serve(out: Path, *, offline: bool, seed: int, yes: bool) -> None:
    """Opens four offices on the best data that are at hand.

    Raises:
        ConsiliumError: The data cannot be used.
    """
    keep_freed_memory()
    source = demo_source(default_data_folder(), cache_folder(), offline=offline)
    typer.echo(f"Data: {source.why}")
    splits = read_source(source)
    folder = free_folder(out.with_name(f"{out.name}-offices"))
    asked = Asked(
        folder=folder,
        splits=splits,
        project=make_project(source, splits, CHANGES),
        seed=seed,
        yes=yes,
    )
    compare = Comparison(make_project(source, splits), source.folder, folder / "references")
    show(asked, compare)


def show(asked: Asked, compare: "Comparison") -> None:
    """Serves until Ctrl-C, or with `yes` until the model is trained."""
    demonstration = Demonstration(asked)
    with demonstration.open():
        typer.echo("Four offices are open. Each link lets one person in, once:")
        for role, link in demonstration.links.items():
            typer.echo(f"  {role + ':':28} {link}")
        typer.echo(
            "First click: the steward's inbox holds a project. Hospitals B and C say yes by "
            "themselves. Ctrl-C ends everything."
        )
        compare.start(demonstration)
        try:
            _play(demonstration, until_over=asked.yes)
        except KeyboardInterrupt:
            typer.echo("")
        finally:
            compare.stop()
            demonstration.end()
    typer.echo(f"Everything is in {asked.folder}")


def _play(demonstration: Demonstration, *, until_over: bool) -> None:
    """Says how the project stands, whenever that changes."""
    before = None
    while True:
        state = demonstration.step()
        if state is not before:
            typer.echo(f"the project is {state}")
            before = state
        if until_over and state in OVER:
            return
        time.sleep(_STEP)


@final
class Comparison:
    """Other arms on the same public data, to be shown beside the run; an observer that may end."""

    def __init__(self, project: Project, data: Path | None, folder: Path) -> None:
        self._project, self._data, self._folder = project, data, folder
        self._over = threading.Event()
        self._thread = threading.Thread(name="references")

    def start(self, demonstration: Demonstration) -> None:
        """Trains them on a thread, one after another, and shows each when it is there."""
        self._thread = threading.Thread(
            target=self._train, args=(demonstration,), name="references"
        )
        self._thread.start()

    def stop(self) -> None:
        """Ends it after the present round."""
        self._over.set()
        self._thread.join()

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """Goes on."""

    def round_done(self, report: RoundReport) -> None:  # noqa: ARG002 - an observer's
        """Ends the run if the demonstration is over."""
        if self._over.is_set():
            raise RoundAborted("the demonstration is over; nothing is wrong")

    def ends(self, result: RunResult) -> None:
        """Goes on."""

    def _train(self, demonstration: Demonstration) -> None:
        levels: tuple[Level, ...] = ()
        options = Options(data_folder=self._data)
        for arm in _REFERENCES:
            try:
                chosen = replace(options, arms=(arm,))
                result = train(self._project, self._folder / arm, chosen, self).result(arm)
            except RoundAborted:
                return
            last = result.curve[-1]
            quality = last.accuracy if last.auc is None else last.auc
            levels = (*levels, Level(arm, quality, "reference on public data"))
            demonstration.compare(levels)


def _link(origin: str, staffed: Staffed, person: str) -> str:
    actor = staffed.owner if staffed.owner.id == person else staffed.worker
    return f"{origin}/links/{staffed.entry(actor)}"
