# SPDX-License-Identifier: Apache-2.0
"""A site's part in one run, paid from its office's ledger: the federation's `Ledger` port.

    account = SiteAccount(store, dataset=..., run=...)
    account.attending(patients)   at load: who may take part at all
    account.open(purchase)        at joining: holds what the whole run may cost
    ledger.append(charge)         before every upload: one step, durable, or refused
    Attendance(ledger, patients)  before every round: without those who opted out meanwhile

Guarantees: a round is charged before its vector leaves, and once, also by a site that was killed
and restarted: a second charge of a round is refused, not repeated. `append` asks in the charge's
own transaction whether the dataset is frozen and whether the run is still permitted, so freezing,
revoking and expiry stop a run at its next step. A run that ends early keeps what it held until
its reservation is returned (`consilium ledger return`); one that joins again under other terms
returns what it held under the old ones.

Patients are charged for every step of a run that they joined, also where they opted out within
it: their sums are upper bounds.
"""

from dataclasses import dataclass, replace
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, func, select

from consilium.adapters.store.ledger_rows import account_of, need_patients
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_tables import (
    COHORT,
    DATASET,
    MEMBER,
    PART,
    PATIENT,
    RESERVATION,
)
from consilium.dp.plan import Plan, View
from consilium.errors import LocalProtocolError, UnsupportedEvent
from consilium.federation.contribution import Trainee
from consilium.federation.ledger import Charge, Receipt, charge_digest
from consilium.federation.setup import Setup
from consilium.governance.composition import Step
from consilium.governance.events import encode_event
from consilium.governance.ledger import Request


class Permit(Protocol):
    """Whether a run may still charge."""

    def check(self, connection: Connection) -> None:
        """Refuses a run whose project is not approved, was revoked, or has expired.

        Raises:
            AccessDenied: With the reason.
        """
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a run buys.

    Attributes:
        project: Its name, as the ledger shows it.
        terms: Digest of what the parties agreed on, 32 bytes.
        step: One round, as the worse of the two views sees it.
        steps: Most rounds.
    """

    project: str
    terms: bytes
    step: Step
    steps: int


def purchase_of(project: str, setup: Setup) -> Purchase:
    """Returns what a site pays for in a run of `setup`.

    Raises:
        UnsupportedEvent: The arm promises nothing, so it has no price.
    """
    if setup.plan is None or setup.steps_allowed is None:
        raise UnsupportedEvent(
            f"arm {setup.arm.name} has no guarantee and so no price; expected an arm with dp: this "
            "site's ledger pays for every release"
        )
    return Purchase(
        project=project,
        terms=setup.terms,
        step=step_of(setup.plan),
        steps=setup.steps_allowed,
    )


def step_of(plan: Plan) -> Step:
    """Returns one step of `plan` as a curious participant sees it: never less than an outsider."""
    event = encode_event(plan.event(1, View.PARTICIPANT))
    return Step(event=event, slack=plan.slack(1) / 2)  # plan: 2 tau a step


@final
class SiteAccount:
    """One run on one dataset of this site.

    Raises:
        NotFound: The steward gave this dataset no cap.
        ConfigError: Patients have no cap.
    """

    def __init__(
        self, store: LedgerStore, *, dataset: str, run: str, permit: Permit | None = None
    ) -> None:
        self.store, self.dataset, self.run, self.permit = store, dataset, run, permit
        with store.database.reading() as connection:
            account_of(connection, dataset)
            need_patients(connection)

    def attending(self, patients: NDArray[np.str_]) -> NDArray[np.intp]:
        """Returns the indices of the records whose patients may take part; makes all known.

        Those who opted out and those with nothing left at all stay out; who has too little left
        for this run is known once its price is (`Attendance`).
        """
        with self.store.database.transaction() as connection:
            self.store.enrol(connection, self.dataset, map(str, patients))
            allowance = need_patients(connection)
            query = _members(self.dataset).join(COHORT, COHORT.c.id == PATIENT.c.cohort)
            query = query.where(COHORT.c.charged < allowance.units)
            names = connection.execute(query).scalars().all()
        return np.flatnonzero(np.isin(patients, np.array(names, dtype=np.str_)))

    def standing(self) -> tuple[int, int]:
        """Returns how many charges this run has made, and the highest round of them."""
        committed, last = func.sum(RESERVATION.c.committed), func.max(RESERVATION.c.last_round)
        query = select(committed, last).where(RESERVATION.c.run == self.run)
        with self.store.database.reading() as connection:
            row = connection.execute(query).one()
        return int(row[0] or 0), int(row[1] or 0)

    def open(self, purchase: Purchase) -> "SiteLedger":
        """Returns the ledger of this run, with all its steps held; or as it was left.

        Raises:
            AccessDenied: The run is not permitted, or the dataset is frozen.
            BudgetExceeded: Not all its steps fit.
        """
        request = Request(
            dataset=self.dataset,
            key=f"{self.run}/{purchase.terms.hex()}",
            project=purchase.project,
            run=self.run,
            step=purchase.step,
            steps=purchase.steps,
        )
        with self.store.database.transaction() as connection:
            if self.permit is not None:
                self.permit.check(connection)
            self._return_others(connection, request.key)
            reservation = self.store.reserve(connection, request)
        return SiteLedger(self, reservation.number, purchase.terms)

    def _return_others(self, connection: Connection, key: str) -> None:
        query = select(RESERVATION.c.id).where(
            RESERVATION.c.run == self.run, RESERVATION.c.is_open, RESERVATION.c.key != key
        )
        for number in connection.execute(query).scalars().all():
            self.store.void(connection, number, "the run joined again under other terms")


@final
class SiteLedger:
    """The ledger of one run, as the federation's sites write it."""

    def __init__(self, account: SiteAccount, reservation: int, terms: bytes) -> None:
        self._account, self.reservation, self._terms = account, reservation, terms
        self._database = account.store.database

    def append(self, charge: Charge) -> Receipt:
        """Returns the receipt of `charge` once it is durable.

        Raises:
            BudgetExceeded: More steps than were held; nothing was written.
            AccessDenied: The run is no longer permitted, or the dataset is frozen.
            Conflict: The round was charged before.
            LocalProtocolError: The charge is of other terms.
        """
        if charge.terms != self._terms:
            raise LocalProtocolError("the charge is of other terms than this ledger was opened for")
        store, permit = self._account.store, self._account.permit
        with self._database.transaction() as connection:
            if permit is not None:
                permit.check(connection)
            receipt = store.commit(connection, self.reservation, round_=charge.round)
        return Receipt(charge=charge_digest(charge), sequence=receipt.sequence)

    def last_round(self, terms: bytes) -> int:
        """Returns the highest round ever charged under these terms, 0 where there is none."""
        key = f"{self._account.run}/{terms.hex()}"
        query = select(func.max(RESERVATION.c.last_round)).where(RESERVATION.c.key == key)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar_one() or 0)

    def count(self) -> int:
        """Returns how many charges this run has made."""
        return self._account.standing()[0]

    def taking_part(self) -> frozenset[str]:
        """Returns the pseudonyms of those who joined this run and did not opt out."""
        query = _members(self._account.dataset).join(PART, PART.c.cohort == PATIENT.c.cohort)
        query = query.where(PART.c.reservation == self.reservation)
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def opted_out(self) -> frozenset[str]:
        """Returns the pseudonyms of all who opted out at this office; quick where these are few."""
        query = select(PATIENT.c.pseudonym).where(PATIENT.c.opted_out.is_(True))
        with self._database.reading() as connection:
            return frozenset(connection.execute(query).scalars())


@final
class Attendance:
    """Who of a site's patients takes part in each round of a run."""

    def __init__(self, ledger: SiteLedger, patients: NDArray[np.str_]) -> None:
        self._ledger = ledger
        self._names = [str(name) for name in np.unique(patients)]  # in the order of `by_patient`
        self._joined = ledger.taking_part()
        self._last: tuple[frozenset[str], Trainee, Trainee] | None = None

    def __call__(self, trainee: Trainee) -> Trainee:
        """Returns `trainee` without the records of those who take no part now.

        Raises:
            DataError: Nobody is left.
        """
        out = self._ledger.opted_out()
        if self._last is None or self._last[0] != out or self._last[1] is not trainee:
            self._last = out, trainee, self._without(trainee, out)
        return self._last[2]

    def _without(self, trainee: Trainee, out: frozenset[str]) -> Trainee:
        pairs = zip(self._names, trainee.rows, strict=True)
        joined = self._joined - out
        return replace(trainee, rows=tuple(rows for name, rows in pairs if name in joined))


def _members(dataset: str) -> Select[str]:
    return (
        select(PATIENT.c.pseudonym)
        .join(MEMBER, MEMBER.c.patient == PATIENT.c.id)
        .join(DATASET, DATASET.c.id == MEMBER.c.dataset)
        .where(DATASET.c.name == dataset, PATIENT.c.opted_out.is_(False))
    )
