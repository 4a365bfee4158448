# SPDX-License-Identifier: Apache-2.0
"""Whether a run may charge: its project is approved here, unexpired, not revoked, not paused.

    permit = begin_run(office.desk, agreement, run)     once, before the first charge
    permit.check(connection)                            in the transaction of every charge

Guarantees: a charge is made only while every office's yes to exactly these terms stands, the
dataset is in use, its folder is to the byte the registered one when the run begins, and no person
paused, stopped or revoked it. As decision and charge share a transaction, what happens between
two charges stops the run at the second.
"""

from pathlib import Path
from typing import final

from sqlalchemy import Connection

from consilium.adapters.office import deliveries
from consilium.adapters.office.datasets import check_folder
from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.project_rows import Case, case_of
from consilium.adapters.office.runs import begin
from consilium.adapters.store.office_shelves import DATASETS, PROJECTS, REVISIONS, DatasetRow
from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, ActorKind
from consilium.governance.catalogue import DatasetState
from consilium.governance.projects import SPENDS, State


@final
class ProjectPermit:
    """The permission of one run under one agreement, asked anew for every charge.

    Attributes:
        project: Id.
        dataset: Name of this office's dataset, which pays.
        folder: Where its records lie.
        database: Of the office, which holds the ledger.
    """

    def __init__(self, desk: Desk, agreement: bytes, run: str) -> None:
        self._desk, self._agreement, self._run = desk, agreement, run
        with desk.database.reading() as connection:
            case = self._find(connection)
            self.project = case.row.id
            if desk.name not in case.contract.datasets:
                raise AccessDenied(f"project {case.row.name!r} names no dataset of {desk.name}")
            row = own_dataset(connection, desk, case)
        self.dataset, self.folder = row.card.name, Path(row.folder)
        self.database = desk.database

    def check(self, connection: Connection) -> None:
        """Refuses a charge that is not permitted now.

        Raises:
            AccessDenied: With what stands against it.
        """
        case = self._find(connection)
        state, name = case.row.state, case.row.name
        if state not in SPENDS:
            words = f": {case.row.last_words}" if case.row.last_words else ""
            raise AccessDenied(f"project {name!r} is {state} here{words}; nothing is charged")
        if self._desk.clock() >= case.expires():
            raise AccessDenied(f"project {name!r} expired on {case.expires():%Y-%m-%d %H:%M} UTC")
        if all(run.name != self._run or run.ended is not None for run in case.runs):
            raise AccessDenied(f"run {self._run!r} of project {name!r} was not begun, or has ended")
        row = own_dataset(connection, self._desk, case)
        if row.card.state is not DatasetState.REGISTERED:
            raise AccessDenied(f"dataset {row.card.name!r} is {row.card.state}; nothing is charged")

    def _find(self, connection: Connection) -> Case:
        return find_agreement(connection, self._desk, self._agreement)


def begin_run(desk: Desk, agreement: bytes, run: str) -> ProjectPermit:
    """Returns the permit of a run, begun here if it is new; a resumed run keeps its name.

    Args:
        desk: Of this office.
        agreement: `Project.terms` of the arm that is asked for.
        run: Its name.

    Raises:
        AccessDenied: These terms were not approved, or may not run now.
        Conflict: No further run is allowed.
        DataError: The dataset's folder changed since it was registered.
    """
    permit = ProjectPermit(desk, agreement, run)
    with desk.database.reading() as connection:
        case = find_agreement(connection, desk, agreement)
        row = own_dataset(connection, desk, case)
    check_folder(Path(row.folder), row.card.fingerprint)
    runner = Actor(
        id=f"run:{run}",
        name=f"run {run}",
        office=desk.name,
        kind=ActorKind.SERVICE,
        project=case.row.id,
    )
    with desk.acting(runner) as turn:
        case = find_agreement(turn.connection, desk, agreement)
        if _goes_on(case, run):
            return permit
        turn.allow(Action.START_RUN, case.resource())
        _check_own(turn, desk, case)
        begin(turn, desk, case, run)
        turn.note({"project": case.row.name, "run": run})
    return permit


def find_agreement(connection: Connection, desk: Desk, agreement: bytes) -> Case:
    """Returns the project whose present terms are these.

    Raises:
        AccessDenied: None has them.
    """
    for revision in REVISIONS.having(connection, "agreement", agreement.hex()):
        row = PROJECTS.get(connection, revision.project)
        if row.revision == revision.number:
            return case_of(connection, row, desk.name)
    raise AccessDenied(
        f"terms {agreement.hex()[:12]} are of no project at {desk.name}; expected one that was "
        "submitted, approved and not edited since: consilium project list"
    )


def own_dataset(connection: Connection, desk: Desk, case: Case) -> DatasetRow:
    """Returns this office's dataset of a project.

    Raises:
        AccessDenied: It is not here any more.
    """
    bound = case.contract.datasets[desk.name]
    for row in DATASETS.having(connection, "office", desk.name):
        if row.card.name == bound.dataset and row.card.fingerprint == bound.fingerprint:
            return row
    raise AccessDenied(f"dataset {bound.dataset!r} with the approved fingerprint is not here")


def _goes_on(case: Case, run: str) -> bool:
    known = any(one.name == run and one.ended is None for one in case.runs)
    return known and case.row.state is State.RUNNING


def _check_own(turn: Turn, desk: Desk, case: Case) -> None:
    deliveries.own_card(turn, desk, case.contract)
