# SPDX-License-Identifier: Apache-2.0
"""Whether a ledger is what it was: every link, every rule, and every table against the entries.

Guarantees: an entry that was changed, moved, added or taken out of the middle is found, and the
first wrong row is named; so is a table that is not what the entries add up to. Not found here:
entries cut off at the end, or a database that was rewritten whole by somebody who knows how; the
heads that other offices signed show these (`audit_log`).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from sqlalchemy import Connection, func, select

from consilium.adapters.store.ledger_rows import (
    all_accounts,
    patients_allowance,
    reservation_of,
    select_reservations,
)
from consilium.adapters.store.ledger_tables import COHORT, ENTRY, MEMBER, PART, PATIENT
from consilium.errors import DataError
from consilium.governance.ledger_entries import (
    START,
    Cohort,
    LedgerState,
    Row,
    check_row,
    members_digest,
)


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found: how many entries follow from one another, the last link, what is wrong."""

    entries: int
    head: bytes
    wrong: str | None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong is None


def rows(connection: Connection) -> Iterator[Row]:
    """Yields the entries in order."""
    query = select(ENTRY.c.sequence, ENTRY.c.time, ENTRY.c.body, ENTRY.c.link)
    for row in connection.execute(query.order_by(ENTRY.c.sequence)):
        yield Row(sequence=row.sequence, time=row.time, body=row.body, link=bytes(row.link))


def verify(connection: Connection) -> Verdict:
    """Returns whether entries and tables are what they were."""
    state, head, count = LedgerState(), START, 0
    for row in rows(connection):
        try:
            state = check_row(state, row, (count, head))
        except DataError as error:
            return Verdict(count, head, str(error))
        head, count = row.link, row.sequence
    wrong = next(_differences(connection, state), None)
    return Verdict(count, head, wrong)


def _differences(connection: Connection, state: LedgerState) -> Iterator[str]:
    if patients_allowance(connection) != state.patients:
        yield _differs("ledger_cap", "the patients' cap")
    accounts = {account.name: account for account in all_accounts(connection).values()}
    yield from _compare("ledger_dataset", accounts, state.accounts)
    found = [reservation_of(row) for row in connection.execute(select_reservations()).mappings()]
    reservations = {one.number: one for one in found}
    yield from _compare("ledger_reservation", reservations, state.reservations)
    yield from _cohorts(connection, state)
    yield from _patients(connection, state)
    yield from _members(connection, state)


def _cohorts(connection: Connection, state: LedgerState) -> Iterator[str]:
    charged = dict(connection.execute(select(COHORT.c.id, COHORT.c.charged)).all())
    expected = {number: one.charged for number, one in state.cohorts.items()}
    yield from _compare("ledger_cohort", charged, expected)
    parts: dict[int, set[int]] = defaultdict(set)
    for reservation, cohort in connection.execute(select(PART.c.reservation, PART.c.cohort)):
        parts[cohort].add(reservation)
    histories = {number: set(one.reservations) for number, one in state.cohorts.items()}
    yield from _compare("ledger_part", {one: parts[one] for one in histories}, histories)
    yield from _compare("ledger_part", dict(parts), {one: histories.get(one) for one in parts})


def _patients(connection: Connection, state: LedgerState) -> Iterator[str]:
    """Compares who is in which cohort: a cohort's patients never come back, so those of the
    cohorts that were split off from it, and its own, are those it began with."""
    within: dict[int, list[int]] = defaultdict(list)
    opted_out = set()
    query = select(PATIENT.c.id, PATIENT.c.cohort, PATIENT.c.opted_out)
    for patient, cohort, out in connection.execute(query):
        within[cohort].append(patient)
        if out:
            opted_out.add(patient)
    if opted_out != state.opted_out:
        yield _differs("ledger_patient", "who opted out")
    sizes = {number: one.size for number, one in state.cohorts.items()}
    yield from _compare("ledger_patient", {one: len(within[one]) for one in sizes}, sizes)
    for number in sorted(state.cohorts, reverse=True):  # who was split off has a higher number
        one: Cohort = state.cohorts[number]
        if members_digest(within[number]) != one.content:
            yield _differs("ledger_patient", f"the patients of cohort {number}")
        if one.parent is not None:
            within[one.parent] += within[number]


def _members(connection: Connection, state: LedgerState) -> Iterator[str]:
    names = {number: account.name for number, account in all_accounts(connection).items()}
    added: dict[tuple[int, str], list[int]] = defaultdict(list)
    query = select(MEMBER.c.entry, MEMBER.c.dataset, MEMBER.c.patient)
    for entry, dataset, patient in connection.execute(query):
        added[entry, names[dataset]].append(patient)
    expected = {(sequence, one.dataset): one.digest for sequence, one in state.enrolments}
    found = {key: members_digest(patients) for key, patients in added.items()}
    yield from _compare("ledger_member", found, expected)


def _compare(table: str, found: object, expected: object) -> Iterator[str]:
    if found == expected:
        return
    assert isinstance(found, dict)  # noqa: S101 - both are, by number or name
    assert isinstance(expected, dict)  # noqa: S101
    every = sorted({*found, *expected}, key=str)
    yield _differs(table, next(str(one) for one in every if found.get(one) != expected.get(one)))


def _differs(table: str, what: str) -> str:
    return (
        f"ledger: {what} in {table} is not what the entries add up to; it was changed outside "
        "consilium: restore a backup"
    )


def head(connection: Connection) -> tuple[int, bytes]:
    """Returns the number of entries and the last link: what other offices sign."""
    last = connection.execute(select(func.max(ENTRY.c.sequence))).scalar_one()
    if last is None:
        return 0, START
    link = connection.execute(select(ENTRY.c.link).where(ENTRY.c.sequence == last)).scalar_one()
    return last, bytes(link)
