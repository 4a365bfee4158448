# SPDX-License-Identifier: Apache-2.0
"""What a ledger says to people: how a dataset stands, what a request would cost.

Epsilons compose, they do not add: every number here is the composed one, rounded up; a project's
own is a share that does not add to the whole. What is left is rounded down.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from sqlalchemy import Connection, func, select

from consilium.adapters.store.ledger_rows import (
    account_of,
    all_accounts,
    groups_of,
    need_patients,
    reservation_of,
    select_reservations,
)
from consilium.adapters.store.ledger_tables import ENTRY, MEMBER, PART, PATIENT, RESERVATION
from consilium.governance.composition import (
    Curve,
    Step,
    added,
    best_guess,
    curve_of,
    epsilon_of,
    fixed_epsilon,
)
from consilium.governance.ledger import Reservation
from consilium.governance.ledger_entries import Committed, entry_of
from consilium.governance.participation import admit

_NOTHING: Final = added(())


@final
@dataclass(frozen=True, slots=True)
class Project:
    """What one project has spent of a dataset, by itself."""

    name: str
    epsilon: float
    steps: int
    held: int


@final
@dataclass(frozen=True, slots=True)
class Month:
    """What was spent until the end of a month, composed; `month` is as 2026-11."""

    month: str
    epsilon: float


@final
@dataclass(frozen=True, slots=True)
class Patients:
    """How many patients have spent so much, over all datasets of this office."""

    epsilon: float
    patients: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a dataset stands.

    Attributes:
        dataset: Its name.
        cap: Epsilon that is never exceeded.
        delta: Of `cap`, `epsilon`, `reserved` and `free`.
        epsilon: Composed, of what was released.
        reserved: What held steps would bring it up by.
        free: What then remains to the cap.
        share: Of the cap's room that is spent and held, 0 to 1: what the refusals go by.
        exact: Epsilon by privacy loss distributions, where one contract fixed all in advance.
        guess: How often at most somebody guesses a patient's part right, at `epsilon`.
        frozen: Nothing is charged.
        patients: How many it has.
        opted_out: How many of them take part in nothing.
        patient_cap: Epsilon of every patient over all datasets, at `patient_delta`.
    """

    dataset: str
    cap: float
    delta: float
    epsilon: float
    reserved: float
    free: float
    share: float
    exact: float | None
    guess: float
    frozen: bool
    patients: int
    opted_out: int
    patient_cap: float
    patient_delta: float
    by_project: tuple[Project, ...]
    by_month: tuple[Month, ...]
    by_patient: tuple[Patients, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a request would cost a dataset.

    Attributes:
        alone: Epsilon by itself, by privacy loss distributions where they can.
        before: Composed, of all that is spent and held.
        after: The same with this request.
        cap: Epsilon.
        delta: Of all four.
        fits: Whether the ledger would grant it now.
        most_steps: How many steps it would grant now.
        patients: Who would take part.
        exhausted: Patients who would be left out.
    """

    alone: float
    before: float
    after: float
    cap: float
    delta: float
    fits: bool
    most_steps: int
    patients: int
    exhausted: int

    @property
    def remaining(self) -> float:
        """What would remain to the cap."""
        return max(0.0, self.cap - self.after)


@final
@dataclass(frozen=True, slots=True)
class Held:
    """Steps that are held and not spent."""

    number: int
    dataset: str
    project: str
    run: str
    steps: int


# -- Standing -------------------------------------------------------------------------


def datasets(connection: Connection) -> list[str]:
    """Returns the names of all datasets with an account."""
    return [account.name for account in all_accounts(connection).values()]


def open_reservations(connection: Connection) -> list[Held]:
    """Returns what is held, by reservation."""
    query = select_reservations().where(RESERVATION.c.is_open.is_(True))
    found = map(reservation_of, connection.execute(query).mappings())
    return [
        Held(one.number, one.request.dataset, one.request.project, one.request.run, one.held)
        for one in found
        if one.held
    ]


def standing(connection: Connection, dataset: str) -> Standing:
    """Returns how `dataset` stands.

    Raises:
        NotFound: It has no account.
        ConfigError: Patients have no cap.
    """
    number, account = account_of(connection, dataset)
    patients, cap = need_patients(connection), account.allowance.cap
    reservations = _reservations(connection, number)
    spent = epsilon_of(_curve(reservations, held=False), cap.delta)
    charged = epsilon_of(_curve(reservations, held=True), cap.delta)
    total, opted_out = _count_members(connection, number)
    return Standing(
        dataset=dataset,
        cap=cap.epsilon,
        delta=cap.delta,
        epsilon=spent,
        reserved=charged - spent,
        free=max(0.0, cap.epsilon - charged),
        share=min(1.0, account.charged / account.allowance.units),
        exact=_exact(reservations, cap.delta),
        guess=best_guess(spent, cap.delta),
        frozen=account.frozen,
        patients=total,
        opted_out=opted_out,
        patient_cap=patients.cap.epsilon,
        patient_delta=patients.cap.delta,
        by_project=_by_project(reservations, cap.delta),
        by_month=_by_month(connection, reservations, cap.delta),
        by_patient=_by_patient(connection, number, patients.cap.delta),
    )


def price(connection: Connection, dataset: str, step: Step, steps: int = 1) -> Price:
    """Returns what `steps` of `step` would cost `dataset` now; nothing is held.

    Raises:
        NotFound: It has no account.
        UnsupportedEvent: No theorem prices it.
    """
    number, account = account_of(connection, dataset)
    patients, cap = need_patients(connection), account.allowance.cap
    curve, held = curve_of(step), _curve(_reservations(connection, number), held=True)
    cost = curve[account.allowance.place]
    admission = admit(
        groups_of(connection, number),
        cost=curve[patients.place] * steps,
        allowance=patients.units,
    )
    fits = cost * steps <= account.free and not account.frozen and admission.patients > 0
    return Price(
        alone=fixed_epsilon([(step, steps)], cap.delta),
        before=epsilon_of(held, cap.delta),
        after=epsilon_of(added([(held, 1), (curve, steps)]), cap.delta),
        cap=cap.epsilon,
        delta=cap.delta,
        fits=fits,
        most_steps=0 if account.frozen else account.free // max(1, cost),
        patients=admission.patients,
        exhausted=sum(group.present for group in admission.exhausted),
    )


def _reservations(connection: Connection, dataset: int) -> list[Reservation]:
    query = select_reservations().where(RESERVATION.c.dataset == dataset)
    rows = connection.execute(query.order_by(RESERVATION.c.id)).mappings()
    return [reservation_of(row) for row in rows]


def _curve(reservations: Sequence[Reservation], *, held: bool) -> Curve:
    return added(
        (curve_of(one.request.step), one.charged if held else one.committed) for one in reservations
    )


def _exact(reservations: Sequence[Reservation], delta: float) -> float | None:
    """Returns the tight price of the one contract there was, for all the steps it fixed."""
    if len(reservations) != 1 or not reservations[0].committed:
        return None
    request = reservations[0].request
    return fixed_epsilon([(request.step, request.steps)], delta)


def _count_members(connection: Connection, dataset: int) -> tuple[int, int]:
    query = (
        select(PATIENT.c.opted_out, func.count())
        .join(MEMBER, MEMBER.c.patient == PATIENT.c.id)
        .where(MEMBER.c.dataset == dataset)
        .group_by(PATIENT.c.opted_out)
    )
    counts = {bool(out): count for out, count in connection.execute(query)}
    return sum(counts.values()), counts.get(True, 0)


def _by_project(reservations: Sequence[Reservation], delta: float) -> tuple[Project, ...]:
    found: dict[str, list[Reservation]] = defaultdict(list)
    for one in reservations:
        found[one.request.project].append(one)
    return tuple(
        Project(
            name=name,
            epsilon=epsilon_of(_curve(own, held=False), delta),
            steps=sum(one.committed for one in own),
            held=sum(one.held for one in own),
        )
        for name, own in found.items()
    )


def _by_month(
    connection: Connection, reservations: Sequence[Reservation], delta: float
) -> tuple[Month, ...]:
    curves = {one.number: curve_of(one.request.step) for one in reservations}
    query = (
        select(ENTRY.c.time, ENTRY.c.body)
        .where(ENTRY.c.kind == "committed", ENTRY.c.reservation.in_(curves))
        .order_by(ENTRY.c.sequence)
    )
    spent: dict[str, Curve] = defaultdict(lambda: _NOTHING)
    for row in connection.execute(query):
        entry = entry_of(row.body)
        assert isinstance(entry, Committed)  # noqa: S101 - of that kind
        month = f"{row.time:%Y-%m}"
        spent[month] = added([(spent[month], 1), (curves[entry.reservation], entry.steps)])
    months, total = [], _NOTHING
    for month in sorted(spent):
        total = added([(total, 1), (spent[month], 1)])
        months.append(Month(month, epsilon_of(total, delta)))
    return tuple(months)


def _by_patient(connection: Connection, dataset: int, delta: float) -> tuple[Patients, ...]:
    """Returns a histogram, by what cohorts have spent at this office."""
    members = (
        select(PATIENT.c.cohort, func.count())
        .join(MEMBER, MEMBER.c.patient == PATIENT.c.id)
        .where(MEMBER.c.dataset == dataset)
        .group_by(PATIENT.c.cohort)
    )
    curves = spent_by_cohort(connection)
    counted: dict[float, int] = defaultdict(int)
    for cohort, count in connection.execute(members):
        counted[epsilon_of(curves.get(cohort, _NOTHING), delta)] += count
    return tuple(Patients(value, counted[value]) for value in sorted(counted))


def spent_by_cohort(connection: Connection) -> Mapping[int, Curve]:
    """Returns what every patient of each cohort has spent, over all datasets."""
    query = select_reservations().add_columns(PART.c.cohort)
    query = query.join(PART, PART.c.reservation == RESERVATION.c.id)
    found: dict[int, list[tuple[Curve, int]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        one = reservation_of(row)
        found[row["cohort"]].append((curve_of(one.request.step), one.committed))
    return {cohort: added(lines) for cohort, lines in found.items()}
