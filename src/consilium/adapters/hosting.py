# SPDX-License-Identifier: Apache-2.0
"""From a started project to its training: what a coordinator's office runs, and who may watch.

    host = Host(office, board, engine, place)
    host.look()     now and then: takes up what was started, tells a run of a pause or an end

A run is taken up when its project is RUNNING here and nobody plays it; after a crash that is how
it goes on, from its own folder. Pausing holds it between two rounds. Guarantees: what is trained
is the project of the contract, under the run's name, and nothing else; every rule of a site (its
yes, its ledger, its records) is the site's own, whatever the engine. One run at a time.
Not here: how bytes travel (`Engine`).
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, final

from consilium.adapters.federated import Conditions, conduct
from consilium.adapters.office.office import Office
from consilium.adapters.office.permits import ProjectPermit
from consilium.adapters.office.terms import project_of
from consilium.adapters.office.values import NewModel, ProjectView
from consilium.adapters.released_models import result_name
from consilium.adapters.run_board import Level, RunBoard
from consilium.adapters.run_watch import RunWatch
from consilium.adapters.site_session import SiteSession, make_call
from consilium.adapters.stage import MODEL, RESULT, Observer, Run, finished_before
from consilium.adapters.store.office_shelves import PROJECTS
from consilium.adapters.whole_files import write_whole
from consilium.errors import AccessDenied, ConsiliumError, DataError, NotFound
from consilium.federation.enrolment import Call
from consilium.governance.access import Actor, ActorKind
from consilium.governance.projects import State

logger: Final = logging.getLogger("consilium.adapters")
_SEED: Final = 0  # of the first weights; coins and noise are the operating system's
_QUORUM_SECONDS: Final = 10.0
_NEWS_SECONDS: Final = 20.0  # until a site's courier has brought the others' decisions
_PAUSE: Final = 0.5  # seconds
_ENDED_BY_PEOPLE: Final = (State.STOPPED, State.REVOKED)


class Engine(Protocol):
    """What carries a run's messages."""

    def train(self, call: Call, run: Run, observer: Observer, stopped: Callable[[], bool]) -> None:
        """Trains to the end; model and result are in the run's folder then.

        Raises:
            ConsiliumError: It was refused, or stopped.
        """
        ...


# -- Sites on this machine ------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class SiteHere:
    """One site whose folder and office are on this machine."""

    kit: Path
    office: Office = field(repr=False)


@final
class SitesHere:
    """The engine of a demonstration: real sites with offices of their own, in this process."""

    def __init__(self, sites: Sequence[SiteHere]) -> None:
        self._sites = tuple(sites)

    def train(self, call: Call, run: Run, observer: Observer, stopped: Callable[[], bool]) -> None:
        """Trains among the sites; one that refuses takes no part."""
        lines = [_LineHere(site, call) for site in self._sites]
        conditions = Conditions(quorum_seconds=_QUORUM_SECONDS, stopped=stopped, observer=observer)
        outcome = "failed"
        try:
            conduct(call, run, lines, conditions)
            outcome = "finished"
        finally:
            for line in lines:
                line.close(outcome)


@final
class _LineHere:
    """The way to a site in this process: its session, with its own steward's permit."""

    def __init__(self, site: SiteHere, call: Call) -> None:
        self.name = site.office.desk.name
        self._site, self._call = site, call
        self._session: SiteSession | None = None

    def enrol(self) -> list[bytes]:
        """Returns the site's enrolment and standing, once it knows that all said yes.

        Raises:
            AccessDenied: It refuses.
        """
        deadline = time.monotonic() + _NEWS_SECONDS
        while True:
            try:
                return self._open().enrol()
            except AccessDenied:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)

    def standing(self) -> list[bytes]:
        """Returns the site's standing."""
        return self._open().enrol()[1:]

    def join(self, roll: bytes) -> list[bytes]:
        """Returns the site's first messages of a new session."""
        return self._open().join(roll)

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers."""
        return self._open().handle(data)

    def close(self, outcome: str) -> None:
        """Closes the session, and tells the site's office what became of the run."""
        if self._session is not None:
            self._session.close()
            agreement = self._call.project.terms(self._call.arm)
            permit = ProjectPermit(self._site.office.desk, agreement, self._call.run)
            report(self._site.office, permit.project, self._call.run, outcome)

    def _open(self) -> SiteSession:
        if self._session is None:
            self._session = SiteSession(self._site.kit, self._call)
        return self._session


# -- The host -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a host works.

    Attributes:
        runs: Folder of all runs.
        data: Where the coordinator's public validation records lie.
        models: Folder of published models.
        references: Returns what other arms reached, to be shown beside.
    """

    runs: Path
    data: Path
    models: Path
    references: Callable[[], tuple[Level, ...]] = tuple


@final
class Host:
    """Plays the runs of one coordinator's office, one at a time, on a thread of its own.

    Args:
        office: The coordinator's.
        board: Where runs are told of.
        engine: Carries messages.
        place: Where it works.
    """

    def __init__(self, office: Office, board: RunBoard, engine: Engine, place: Place) -> None:
        self._office, self._board, self._engine, self._place = office, board, engine, place
        self._thread: threading.Thread | None = None
        self._now: RunWatch | None = None

    def look(self) -> None:
        """Takes up what was started; tells the run that goes on of a pause or an end."""
        if self._now is not None and self._thread is not None and self._thread.is_alive():
            self._now.hear(self._state(self._now.project))
            return
        started = self._started()
        if started is not None:
            self._now = RunWatch(started.id, started.contract, self._board, self._place.references)
            self._thread = threading.Thread(
                target=self._play, args=(started, self._now), name="host", daemon=True
            )
            self._thread.start()

    def end(self) -> None:
        """Ends the run of this process after its round; `look` of another goes on with it."""
        if self._now is not None:
            self._now.end()

    def wait(self, seconds: float) -> bool:
        """Returns whether no run goes on, after waiting for at most so long."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _started(self) -> ProjectView | None:
        """Returns a project that has a run which nobody plays."""
        with self._office.desk.database.reading() as connection:
            rows = PROJECTS.where(connection)
        for row in rows:
            if row.state is State.RUNNING:
                view = self._office.projects.get(_service(self._office, row.id), row.id)
                if any(run.ended is None for run in view.runs):
                    return view
        return None

    def _state(self, project: str) -> State:
        try:
            return self._office.projects.get(_service(self._office, project), project).state
        except NotFound:
            return State.REVOKED

    def _play(self, view: ProjectView, watch: RunWatch) -> None:
        name = next(run.name for run in view.runs if run.ended is None)
        try:
            outcome = self._train(view, name, watch)
        except ConsiliumError as error:
            logger.warning("run ended early: %s", error, extra={"run": name})
            outcome = "failed"
            watch.failed(str(error))
        except Exception:
            logger.exception("run failed", extra={"run": name})
            outcome = "failed"
            watch.failed("an unexpected error; see the coordinator's log")
        if not watch.is_left() and self._state(view.id) not in _ENDED_BY_PEOPLE:
            report(self._office, view.id, name, outcome)

    def _train(self, view: ProjectView, name: str, watch: RunWatch) -> str:
        project = project_of(view.contract)
        call = make_call(project.resolved(), view.contract.arm, _SEED, name)
        run = Run(
            project=project,
            arm=view.contract.arm,
            seed=_SEED,
            folder=self._place.runs / name,
            data_folder=self._place.data,
            office=self._office.models.signer().publisher,
        )
        self._engine.train(call, run, watch, watch.is_stopped)
        self._publish(view, run)
        return "finished"

    def _publish(self, view: ProjectView, run: Run) -> None:
        """Keeps the model as a version under the project's name; it is open for nothing yet."""
        result = finished_before(run)
        if result is None:
            raise DataError(f"run {run.folder.name} left no result; see the coordinator's log")
        weights = (run.folder / MODEL).read_bytes()
        self._place.models.mkdir(parents=True, exist_ok=True)
        file = f"{run.folder.name}.safetensors"
        write_whole(self._place.models / file, weights)
        write_whole(self._place.models / result_name(file), (run.folder / RESULT).read_bytes())
        promised = result.statement.guarantees
        new = NewModel(
            name=view.name,
            digest=hashlib.sha256(weights).hexdigest(),
            file=file,
            project=view.id,
            run=run.folder.name,
            epsilon=max((one.epsilon for one in promised), default=None),
            delta=result.statement.delta,
        )
        self._office.models.publish(_service(self._office, view.id), new)


# -- For an office --------------------------------------------------------------------


def report(office: Office, project: str, run: str, outcome: str) -> None:
    """Writes down what became of a run; what an office refuses to hear is logged."""
    try:
        office.runs.report(_service(office, project), project, run, outcome)
    except ConsiliumError as error:
        logger.warning("outcome not written: %s", error, extra={"run": run})


def _service(office: Office, project: str) -> Actor:
    return Actor(
        id="host",
        name="the host of runs",
        office=office.desk.name,
        kind=ActorKind.SERVICE,
        project=project,
    )
