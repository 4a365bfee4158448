# SPDX-License-Identifier: Apache-2.0
"""The privacy ledger in a database: who may write holds the office's only pen, and nothing is lost.

Every method that changes something takes the connection of a `Database.transaction`, so that a
caller's own rows (an audit entry, a checkpoint) and the charge are durable together or not at all.
It loads the few rows that the rules need, asks `governance.ledger`, and writes what they say and
one entry of the chain. As there is one writer at a time, what was read still holds.

A commit touches two rows, however many patients take part: their cohorts were charged for all
steps when these were reserved.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias, final

from sqlalchemy import Connection, Select, Update, insert, literal, select, update

from consilium.adapters.store.database import Database
from consilium.adapters.store.ledger_rows import (
    About,
    account_of,
    add_entry,
    groups_of,
    need_patients,
    next_number,
    patients_allowance,
    reservation_of,
    reservation_row,
    select_reservations,
)
from consilium.adapters.store.ledger_tables import (
    CAP,
    COHORT,
    DATASET,
    ENTRY,
    MEMBER,
    PART,
    PATIENT,
    RESERVATION,
)
from consilium.errors import AccessDenied, Conflict, NotFound
from consilium.governance import ledger, ledger_entries
from consilium.governance.composition import Cap
from consilium.governance.ledger import Granted, Receipt, Request, Reservation
from consilium.governance.ledger_entries import Move, Reserved, entry_of, members_digest
from consilium.governance.participation import Group

Clock: TypeAlias = Callable[[], datetime]


def utc_now() -> datetime:
    """Returns what this machine's clock says."""
    return datetime.now(UTC)


_AT_ONCE: Final = 500  # values in one statement


@final
class LedgerStore:
    """The ledger of one office."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self.database, self._clock = database, clock

    # -- Spending ---------------------------------------------------------------------

    def reserve(self, connection: Connection, request: Request) -> Reservation:
        """Returns what is now held for `request`; asked again with its key, what was held then.

        Raises:
            BudgetExceeded: It does not fit a cap; nothing changed.
            AccessDenied: The dataset is frozen.
            Conflict: The key was used for another request.
            NotFound: The dataset has no account.
        """
        if (before := self._by_key(connection, request.key)) is not None:
            if before.request != request:
                raise Conflict(
                    f"key {request.key!r} was used for another request; expected one key a request"
                )
            return before
        dataset, account = account_of(connection, request.dataset)
        patients = need_patients(connection)
        number = next_number(connection, RESERVATION.c.id)
        groups = groups_of(connection, dataset)
        granted = ledger.reserve(account, patients, groups, request, number)
        self._hold(connection, dataset, granted)
        return granted.reservation

    def commit(
        self,
        connection: Connection,
        reservation: int,
        *,
        key: str | None = None,
        steps: int = 1,
        round_: int = 0,
    ) -> Receipt:
        """Returns the receipt of `steps` more; asked again with its key, the same receipt.

        What is released is released once: a caller who sends a value under a receipt that it was
        given again must send the same bytes. Rounds need no key: each is charged once.

        Raises:
            BudgetExceeded: More than is held; nothing changed.
            AccessDenied: The dataset is frozen, or the reservation was returned.
            Conflict: The key was used for something else, or the round was charged before.
        """
        entry = ledger_entries.Committed(reservation=reservation, steps=steps, round=round_)
        if key is not None and (before := self._repeated(connection, key, entry)) is not None:
            return before
        row = self._row(connection, RESERVATION.c.id == reservation)
        _, account = account_of(connection, row.request.dataset)
        after = ledger.commit(account, row, steps, round_)
        connection.execute(
            _one(RESERVATION, reservation).values(
                committed=after.committed, last_round=after.last_round
            )
        )
        return self._write(connection, entry, About(reservation=reservation, key=key))

    def spend(self, connection: Connection, request: Request) -> Receipt:
        """Returns the receipt of a request that is reserved and committed at once."""
        reservation = self.reserve(connection, request)
        return self.commit(connection, reservation.number, key=request.key, steps=request.steps)

    def void(self, connection: Connection, reservation: int, reason: str) -> Receipt:
        """Returns what is held and not spent to the caps; the receipt of that.

        Raises:
            Conflict: It was returned before.
            NotFound: There is no such reservation.
        """
        row = self._row(connection, RESERVATION.c.id == reservation)
        dataset, account = account_of(connection, row.request.dataset)
        after, _ = ledger.void(account, row)
        joined = select(PART.c.cohort).where(PART.c.reservation == reservation)
        refund = row.held * row.patient_cost
        connection.execute(
            update(COHORT).where(COHORT.c.id.in_(joined)).values(charged=COHORT.c.charged - refund)
        )
        connection.execute(_one(RESERVATION, reservation).values(is_open=False))
        connection.execute(_one(DATASET, dataset).values(charged=after.charged))
        entry = ledger_entries.Voided(reservation=reservation, returned=row.held, reason=reason)
        return self._write(connection, entry, About(reservation=reservation))

    # -- Caps -------------------------------------------------------------------------

    def cap_patients(self, connection: Connection, cap: Cap, people: Sequence[str]) -> None:
        """Sets the cap of every patient of the office, over all datasets.

        Raises:
            AccessDenied: It is raised, and fewer than two people stand for it.
        """
        before = patients_allowance(connection)
        after = ledger.begin(cap) if before is None else ledger.with_cap(before, cap, people)
        values = {"epsilon": cap.epsilon, "delta": cap.delta}
        if before is None:
            connection.execute(CAP.insert().values(id=1, place=after.place, **values))
        else:
            connection.execute(update(CAP).values(**values))
        entry = ledger_entries.PatientsCapped(people=tuple(people), **values)
        self._write(connection, entry, About())

    def set_cap(
        self, connection: Connection, dataset: str, cap: Cap, people: Sequence[str]
    ) -> None:
        """Sets a dataset's cap; opens its account where there is none.

        Raises:
            AccessDenied: It is raised, and fewer than two people stand for it.
        """
        values = {"epsilon": cap.epsilon, "delta": cap.delta}
        try:
            number, account = account_of(connection, dataset)
        except NotFound:
            number = next_number(connection, DATASET.c.id)
            place = ledger.begin(cap).place
            row = {"id": number, "name": dataset, "place": place, "charged": 0, "frozen": False}
            connection.execute(DATASET.insert().values(**row, **values))
            opened = ledger_entries.Opened(dataset=dataset, people=tuple(people), **values)
            self._write(connection, opened, About(dataset=number))
            return
        ledger.with_cap(account.allowance, cap, people)
        connection.execute(_one(DATASET, number).values(**values))
        entry = ledger_entries.Capped(dataset=dataset, people=tuple(people), **values)
        self._write(connection, entry, About(dataset=number))

    def freeze(self, connection: Connection, dataset: str, people: Sequence[str]) -> None:
        """Refuses every charge on a dataset from now on."""
        number, account = account_of(connection, dataset)
        ledger.frozen(account, people)
        connection.execute(_one(DATASET, number).values(frozen=True))
        entry = ledger_entries.Frozen(dataset=dataset, people=tuple(people))
        self._write(connection, entry, About(dataset=number))

    def thaw(self, connection: Connection, dataset: str, people: Sequence[str]) -> None:
        """Allows charges on a dataset again; two people stand for it."""
        number, account = account_of(connection, dataset)
        ledger.thawed(account, people)
        connection.execute(_one(DATASET, number).values(frozen=False))
        entry = ledger_entries.Thawed(dataset=dataset, people=tuple(people))
        self._write(connection, entry, About(dataset=number))

    # -- Patients ---------------------------------------------------------------------

    def enrol(self, connection: Connection, dataset: str, pseudonyms: Iterable[str]) -> int:
        """Makes sure that the ledger knows a dataset's patients; returns how many it added.

        A pseudonym that another dataset of this office has is the same patient, with one account.
        """
        number, _ = account_of(connection, dataset)
        wanted = sorted(set(pseudonyms))
        known = _known(connection, wanted)
        new = [name for name in wanted if name not in known]
        cohort = self._add_patients(connection, new, known)
        members = {known[name] for name in wanted} - _members(connection, number)
        if not members:
            return 0
        entry = ledger_entries.Enrolled(
            dataset=dataset,
            members=len(members),
            digest=members_digest(members),
            cohort=cohort,
            new=len(new),
            content=members_digest(known[name] for name in new) if new else "",
        )
        receipt = self._write(connection, entry, About(dataset=number))
        rows = [
            {"dataset": number, "patient": one, "entry": receipt.sequence}
            for one in sorted(members)
        ]
        connection.execute(insert(MEMBER), rows)
        return len(members)

    def opt_out(self, connection: Connection, pseudonym: str, people: Sequence[str]) -> None:
        """Leaves a patient out of everything that is computed from now on."""
        self._opt(connection, pseudonym, people, out=True)

    def opt_in(self, connection: Connection, pseudonym: str, people: Sequence[str]) -> None:
        """Lets a patient who opted out take part again."""
        self._opt(connection, pseudonym, people, out=False)

    # -- Inside -----------------------------------------------------------------------

    def _opt(
        self, connection: Connection, pseudonym: str, people: Sequence[str], *, out: bool
    ) -> None:
        query = select(PATIENT.c.id, PATIENT.c.opted_out).where(PATIENT.c.pseudonym == pseudonym)
        row = connection.execute(query).first()
        if row is None:
            raise NotFound(
                "this ledger has no such patient; expected a pseudonym of a dataset here: it is "
                "in the dataset's records.csv"
            )
        if not people:
            raise AccessDenied("nobody stands for it; expected one person")
        if row.opted_out == out:
            return
        connection.execute(_one(PATIENT, row.id).values(opted_out=out))
        make = ledger_entries.OptedOut if out else ledger_entries.OptedIn
        self._write(connection, make(patient=row.id, people=tuple(people)), About())

    def _hold(self, connection: Connection, dataset: int, granted: Granted) -> None:
        reservation, account = granted.reservation, granted.account
        connection.execute(insert(RESERVATION), [reservation_row(reservation, dataset)])
        connection.execute(_one(DATASET, dataset).values(charged=account.charged))
        moves = [
            _move(connection, dataset, group, reservation) for group in granted.admission.joined
        ]
        request = reservation.request
        entry = Reserved(
            reservation=reservation.number,
            dataset=request.dataset,
            key=request.key,
            project=request.project,
            run=request.run,
            event=request.step.event.decode(),
            slack=request.step.slack,
            steps=request.steps,
            moves=tuple(moves),
        )
        self._write(connection, entry, About(dataset=dataset, reservation=reservation.number))

    def _add_patients(
        self, connection: Connection, new: Sequence[str], known: dict[str, int]
    ) -> int:
        """Returns the new cohort of patients whom the office did not know, 0 without any."""
        if not new:
            return 0
        cohort = next_number(connection, COHORT.c.id)
        first = next_number(connection, PATIENT.c.id)
        connection.execute(COHORT.insert().values(id=cohort, charged=0))
        known.update(zip(new, range(first, first + len(new)), strict=True))
        rows = [
            {"id": known[name], "pseudonym": name, "cohort": cohort, "opted_out": False}
            for name in new
        ]
        connection.execute(insert(PATIENT), rows)
        return cohort

    def _repeated(
        self, connection: Connection, key: str, entry: ledger_entries.Entry
    ) -> Receipt | None:
        query = select(ENTRY.c.sequence, ENTRY.c.body, ENTRY.c.link).where(ENTRY.c.key == key)
        row = connection.execute(query).first()
        if row is None:
            return None
        before = entry_of(row.body)
        if before != entry or not isinstance(before, ledger_entries.Committed):
            raise Conflict(f"key {key!r} was used for another charge; expected one key a charge")
        return Receipt(before.reservation, row.sequence, bytes(row.link))

    def _by_key(self, connection: Connection, key: str) -> Reservation | None:
        query = select_reservations().where(RESERVATION.c.key == key)
        row = connection.execute(query).mappings().first()
        return None if row is None else reservation_of(row)

    def _row(self, connection: Connection, condition: Any) -> Reservation:  # noqa: ANN401 - SQL
        row = connection.execute(select_reservations().where(condition)).mappings().first()
        if row is None:
            raise NotFound("there is no such reservation; expected one of this ledger")
        return reservation_of(row)

    def _write(self, connection: Connection, entry: ledger_entries.Entry, about: About) -> Receipt:
        row = add_entry(connection, entry, self._clock(), about)
        return Receipt(about.reservation or 0, row.sequence, row.link)


# -- Cohorts --------------------------------------------------------------------------


def _move(connection: Connection, dataset: int, group: Group, reservation: Reservation) -> Move:
    """Charges the patients of `group` for all steps; splits their cohort where others stay."""
    into, digest = group.cohort, ""
    if group.present < group.size:
        into = next_number(connection, COHORT.c.id)
        digest = _split(connection, dataset, group, into)
    cost = reservation.patient_cost * reservation.request.steps
    connection.execute(_one(COHORT, into).values(charged=group.charged + cost))
    connection.execute(PART.insert().values(reservation=reservation.number, cohort=into))
    return Move(origin=group.cohort, into=into, patients=group.present, digest=digest)


def _split(connection: Connection, dataset: int, group: Group, into: int) -> str:
    """Moves who is present to a new cohort with the same history; returns who that is, digested."""
    connection.execute(COHORT.insert().values(id=into, charged=group.charged))
    history = select(PART.c.reservation, literal(into)).where(PART.c.cohort == group.cohort)
    connection.execute(insert(PART).from_select(["reservation", "cohort"], history))
    members = select(MEMBER.c.patient).where(MEMBER.c.dataset == dataset)
    who = (
        PATIENT.c.cohort == group.cohort,
        PATIENT.c.opted_out.is_(False),
        PATIENT.c.id.in_(members),
    )
    moved = connection.execute(select(PATIENT.c.id).where(*who)).scalars().all()
    connection.execute(update(PATIENT).where(*who).values(cohort=into))
    return members_digest(moved)


def _known(connection: Connection, names: Sequence[str]) -> dict[str, int]:
    """Returns the numbers of the patients whom the office knows."""
    found: dict[str, int] = {}
    for start in range(0, len(names), _AT_ONCE):
        query = select(PATIENT.c.pseudonym, PATIENT.c.id).where(
            PATIENT.c.pseudonym.in_(names[start : start + _AT_ONCE])
        )
        found.update((row.pseudonym, row.id) for row in connection.execute(query))
    return found


def _members(connection: Connection, dataset: int) -> set[int]:
    query: Select[int] = select(MEMBER.c.patient).where(MEMBER.c.dataset == dataset)
    return set(connection.execute(query).scalars())


def _one(table: Any, number: int) -> Update:  # noqa: ANN401 - of any table with an id
    return update(table).where(table.c.id == number)
