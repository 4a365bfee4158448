# SPDX-License-Identifier: Apache-2.0
"""The ledger's rows as the values that its rules speak of, and back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final

from sqlalchemy import Connection, RowMapping, Select, func, select

from consilium.adapters.store.ledger_tables import (
    CAP,
    COHORT,
    DATASET,
    ENTRY,
    MEMBER,
    PATIENT,
    RESERVATION,
)
from consilium.errors import ConfigError, NotFound
from consilium.governance.composition import Cap, Step
from consilium.governance.ledger import Account, Allowance, Request, Reservation
from consilium.governance.ledger_entries import (
    START,
    Entry,
    Row,
    body_of,
    kind_of,
    link_of,
)
from consilium.governance.participation import Group


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an entry is about, for those who look for it: never part of what is hashed."""

    dataset: int | None = None
    reservation: int | None = None
    key: str | None = None


def add_entry(connection: Connection, entry: Entry, time: datetime, about: About) -> Row:
    """Appends `entry` to the chain and returns its row."""
    last = connection.execute(
        select(ENTRY.c.sequence, ENTRY.c.link).order_by(ENTRY.c.sequence.desc()).limit(1)
    ).first()
    previous, sequence = (START, 1) if last is None else (bytes(last.link), last.sequence + 1)
    body = body_of(entry)
    row = Row(sequence=sequence, time=time, body=body, link=link_of(previous, sequence, time, body))
    connection.execute(
        ENTRY.insert().values(
            sequence=sequence,
            time=time,
            kind=kind_of(entry),
            dataset=about.dataset,
            reservation=about.reservation,
            key=about.key,
            body=body,
            link=row.link,
        )
    )
    return row


# -- Accounts -------------------------------------------------------------------------


def patients_allowance(connection: Connection) -> Allowance | None:
    """Returns the cap of every patient of the office, if there is one."""
    row = connection.execute(select(CAP)).mappings().first()
    return None if row is None else _allowance(row)


def need_patients(connection: Connection) -> Allowance:
    """Returns the cap of every patient of the office.

    Raises:
        ConfigError: There is none.
    """
    found = patients_allowance(connection)
    if found is None:
        raise ConfigError(
            "patients have no cap yet; expected one over all datasets here: consilium ledger cap "
            "--patients"
        )
    return found


def account_of(connection: Connection, name: str) -> tuple[int, Account]:
    """Returns the number and the account of a dataset.

    Raises:
        NotFound: It has none.
    """
    row = connection.execute(select(DATASET).where(DATASET.c.name == name)).mappings().first()
    if row is None:
        raise NotFound(
            f"dataset {name!r} has no account in this ledger; expected a cap that its steward set: "
            "consilium ledger cap"
        )
    return row["id"], _account(row)


def all_accounts(connection: Connection) -> dict[int, Account]:
    """Returns every dataset's account, by its number."""
    rows = connection.execute(select(DATASET).order_by(DATASET.c.id)).mappings()
    return {row["id"]: _account(row) for row in rows}


def _account(row: RowMapping) -> Account:
    return Account(
        name=row["name"],
        allowance=_allowance(row),
        charged=row["charged"],
        frozen=row["frozen"],
    )


def _allowance(row: RowMapping) -> Allowance:
    return Allowance(cap=Cap(epsilon=row["epsilon"], delta=row["delta"]), place=row["place"])


# -- Reservations ---------------------------------------------------------------------


def reservation_row(reservation: Reservation, dataset: int) -> Mapping[str, Any]:
    """Returns the row of `reservation` on the dataset of that number."""
    request = reservation.request
    return {
        "id": reservation.number,
        "dataset": dataset,
        "key": request.key,
        "project": request.project,
        "run": request.run,
        "event": request.step.event,
        "slack": request.step.slack,
        "steps": request.steps,
        "committed": reservation.committed,
        "last_round": reservation.last_round,
        "dataset_cost": reservation.dataset_cost,
        "patient_cost": reservation.patient_cost,
        "is_open": reservation.is_open,
    }


def select_reservations() -> Select[Any]:
    """Returns the query of all reservations with their datasets' names, to be narrowed."""
    return select(RESERVATION, DATASET.c.name.label("dataset_name")).join(DATASET)


def reservation_of(row: RowMapping) -> Reservation:
    """Returns the reservation in a row of `select_reservations`."""
    request = Request(
        dataset=row["dataset_name"],
        key=row["key"],
        project=row["project"],
        run=row["run"],
        step=Step(event=bytes(row["event"]), slack=row["slack"]),
        steps=row["steps"],
    )
    return Reservation(
        number=row["id"],
        request=request,
        dataset_cost=row["dataset_cost"],
        patient_cost=row["patient_cost"],
        committed=row["committed"],
        last_round=row["last_round"],
        is_open=row["is_open"],
    )


# -- Patients -------------------------------------------------------------------------


def groups_of(connection: Connection, dataset: int) -> list[Group]:
    """Returns the cohorts that patients of a dataset are in, with how many of them take part."""
    present = (
        select(PATIENT.c.cohort, func.count().label("present"))
        .join(MEMBER, MEMBER.c.patient == PATIENT.c.id)
        .where(MEMBER.c.dataset == dataset, PATIENT.c.opted_out.is_(False))
        .group_by(PATIENT.c.cohort)
        .subquery()
    )
    sizes = select(PATIENT.c.cohort, func.count().label("size")).group_by(PATIENT.c.cohort)
    counted = sizes.subquery()
    query = (
        select(COHORT.c.id, COHORT.c.charged, present.c.present, counted.c.size)
        .join(present, present.c.cohort == COHORT.c.id)
        .join(counted, counted.c.cohort == COHORT.c.id)
        .order_by(COHORT.c.id)
    )
    return [
        Group(cohort=row.id, present=row.present, size=row.size, charged=row.charged)
        for row in connection.execute(query)
    ]


def next_number(connection: Connection, column: Any) -> int:  # noqa: ANN401 - of any table
    """Returns one more than the largest number in `column`, from 1."""
    largest: int | None = connection.execute(select(func.max(column))).scalar_one()
    return 1 if largest is None else largest + 1
