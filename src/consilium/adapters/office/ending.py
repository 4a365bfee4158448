# SPDX-License-Identifier: Apache-2.0
"""What ends with something else: grants and projects of a person, projects on a dataset, holds.

Guarantees: all in the transaction of the end, so nothing is charged in between. What a project
held and did not spend goes back to the caps; what it spent stays spent.
"""

from dataclasses import replace

from sqlalchemy import select

from consilium.adapters.office.desk import Turn
from consilium.adapters.store.ledger_tables import RESERVATION
from consilium.adapters.store.office_shelves import (
    GRANTS,
    GROUPS,
    PROJECTS,
    REVISIONS,
    RUNS,
    DatasetRow,
    ProjectRow,
)
from consilium.governance.catalogue import Dataset
from consilium.governance.contract import read_contract
from consilium.governance.projects import OVER, Event, next_state


def end_person(turn: Turn, person: str, reason: str) -> dict[str, object]:
    """Revokes the grants and unfinished projects of a person and takes them out of groups."""
    for group in GROUPS.where(turn.connection):
        if person in group.members:
            GROUPS.put(turn.connection, group.id, replace(group, members=group.members - {person}))
    grants = end_grants(turn, person)
    own = [row for row in PROJECTS.where(turn.connection) if row.author == person]
    return {"grants": grants, "projects": _end(turn, own, reason)}


def end_grants(turn: Turn, holder: str) -> int:
    """Revokes every grant of a person or a group; returns how many."""
    living = [
        one for one in GRANTS.having(turn.connection, "holder", holder) if one.revoked is None
    ]
    for one in living:
        GRANTS.put(turn.connection, one.id, replace(one, revoked=turn.now))
    return len(living)


def end_dataset(turn: Turn, dataset: DatasetRow, reason: str) -> list[str]:
    """Revokes every unfinished project on a dataset of this office; returns their names."""
    card = dataset.card
    using = [row for row in PROJECTS.where(turn.connection) if _uses(turn, row, card)]
    return _end(turn, using, reason)


def end_office(turn: Turn, office: str, reason: str) -> list[str]:
    """Revokes every unfinished project that an office delivered; returns their names."""
    own = [row for row in PROJECTS.where(turn.connection) if row.from_office == office]
    return _end(turn, own, reason)


def _uses(turn: Turn, row: ProjectRow, card: Dataset) -> bool:
    revision = REVISIONS.get(turn.connection, f"{row.id}:{row.revision}")
    bound = read_contract(revision.contract).datasets.get(card.office)
    return bound is not None and bound.dataset == card.name


def _end(turn: Turn, rows: list[ProjectRow], reason: str) -> list[str]:
    living = [row for row in rows if row.state not in OVER]
    for row in living:
        state = next_state(row.state, Event.REVOKE)
        ended = replace(
            row, state=state, since=turn.now, last_words=reason, version=row.version + 1
        )
        PROJECTS.put(turn.connection, row.id, ended)
        return_holds(turn, row.id, reason)
    return [row.name for row in living]


def return_holds(turn: Turn, project: str, reason: str) -> int:
    """Returns how many reservations of a project's runs were given back to the caps."""
    runs = [row.name for row in RUNS.having(turn.connection, "project", project)]
    query = select(RESERVATION.c.id).where(RESERVATION.c.run.in_(runs), RESERVATION.c.is_open)
    held = turn.connection.execute(query).scalars().all()
    for number in held:
        turn.ledger.void(turn.connection, number, reason or "the run is over")
    return len(held)
