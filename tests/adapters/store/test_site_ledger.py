# SPDX-License-Identifier: Apache-2.0
"""A run of real sites that is paid from their offices' ledgers."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from dp_accounting.dp_event import GaussianDpEvent
from sqlalchemy import Connection
from tests.adapters.store.test_ledger_store import Ledger
from tests.adapters.test_federated import DEMONSTRATION, NAMES, Reborn, Site, World

from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_session import SiteSession
from consilium.adapters.store.database import Database, open_database
from consilium.adapters.store.ledger_check import verify
from consilium.adapters.store.ledger_views import Standing, open_reservations, standing
from consilium.adapters.store.site_ledger import Attendance, Purchase, SiteAccount
from consilium.errors import (
    AccessDenied,
    BudgetExceeded,
    Conflict,
    ConsiliumError,
    LocalProtocolError,
    NotFound,
)
from consilium.federation.contribution import Trainee
from consilium.federation.ledger import Charge, charge_digest
from consilium.governance.composition import Cap, Step
from consilium.governance.events import encode_event
from consilium.learning.tasks import Classification

CAP = Cap(epsilon=20.0, delta=1e-4)
TERMS = b"t" * 32
STEP = Step(event=encode_event(GaussianDpEvent(10.0)))
PURCHASE = Purchase(project="heart", terms=TERMS, step=STEP, steps=3)
PATIENTS = np.array(["cyd", "ann", "ann", "bob"])


@dataclass
class Revocable:
    """A permit that somebody takes back."""

    revoked: bool = False

    def check(self, connection: Connection) -> None:
        assert connection.in_transaction()
        if self.revoked:
            raise AccessDenied("the project was revoked")


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database).begin("x", cap=CAP, patients=CAP)


def _account(ledger: Ledger, permit: Revocable | None = None) -> SiteAccount:
    account = SiteAccount(ledger.store, dataset="x", run="run-1", permit=permit)
    account.attending(PATIENTS)
    return account


def _charge(round_: int, terms: bytes = TERMS) -> Charge:
    return Charge(site=0, round=round_, terms=terms, mechanism="one step")


def test_rounds_are_charged_before_they_are_answered(ledger: Ledger) -> None:
    paid = _account(ledger).open(PURCHASE)

    receipts = [paid.append(_charge(round_)) for round_ in (1, 4)]

    assert [one.charge for one in receipts] == [charge_digest(_charge(k)) for k in (1, 4)]
    assert receipts[0].sequence < receipts[1].sequence
    assert (paid.count(), paid.last_round(TERMS), paid.last_round(b"other")) == (2, 4, 0)
    assert ledger.wrong() is None


def test_a_restarted_site_finds_what_it_paid(ledger: Ledger) -> None:
    _account(ledger).open(PURCHASE).append(_charge(1))

    again = _account(ledger).open(PURCHASE)

    assert again.last_round(TERMS) == 1
    with pytest.raises(Conflict, match="charged before"):
        again.append(_charge(1))
    again.append(_charge(2))
    again.append(_charge(3))
    with pytest.raises(BudgetExceeded):
        again.append(_charge(4))


def test_other_terms_return_what_the_old_ones_held(ledger: Ledger) -> None:
    account = _account(ledger)
    old = account.open(PURCHASE)
    old.append(_charge(1))

    account.open(_with_terms(b"n" * 32))

    with pytest.raises(AccessDenied, match="was returned"):
        old.append(_charge(2))
    assert account.standing() == (1, 1)
    with ledger.database.reading() as connection:
        assert [one.steps for one in open_reservations(connection)] == [3]


def _with_terms(terms: bytes) -> Purchase:
    return Purchase(project="heart", terms=terms, step=STEP, steps=3)


def test_a_charge_of_other_terms_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LocalProtocolError, match="other terms"):
        _account(ledger).open(PURCHASE).append(_charge(1, b"o" * 32))


def test_a_revoked_run_charges_no_more(ledger: Ledger) -> None:
    permit = Revocable()
    paid = _account(ledger, permit).open(PURCHASE)
    paid.append(_charge(1))
    permit.revoked = True

    with pytest.raises(AccessDenied, match="revoked"):
        paid.append(_charge(2))
    with pytest.raises(AccessDenied, match="revoked"):
        _account(ledger, permit).open(PURCHASE)
    assert paid.count() == 1


def test_a_frozen_dataset_stops_a_run_at_its_next_step(ledger: Ledger) -> None:
    paid = _account(ledger).open(PURCHASE)
    with ledger.database.transaction() as connection:
        ledger.store.freeze(connection, "x", ["weber"])

    with pytest.raises(AccessDenied, match="frozen"):
        paid.append(_charge(1))


def test_a_dataset_without_a_cap_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="no account"):
        SiteAccount(ledger.store, dataset="unknown", run="run-1")


def test_who_opted_out_is_not_loaded(ledger: Ledger) -> None:
    account = _account(ledger)
    ledger.opt_out("ann")

    assert account.attending(PATIENTS).tolist() == [0, 3]


def test_who_opts_out_within_a_run_is_in_no_later_round(ledger: Ledger) -> None:
    attendance = Attendance(_account(ledger).open(PURCHASE), PATIENTS)
    rows = (np.array([1, 2]), np.array([3]), np.array([0]))  # ann, bob, cyd
    trainee = Trainee(
        model=torch.nn.Linear(1, 2),
        task=Classification(2),
        inputs=torch.zeros(4, 1),
        labels=torch.zeros(4, dtype=torch.int64),
        rows=rows,
    )

    before = attendance(trainee)
    ledger.opt_out("bob")
    after = attendance(trainee)

    assert [one.tolist() for one in before.rows] == [[1, 2], [3], [0]]
    assert [one.tolist() for one in after.rows] == [[1, 2], [0]]


# -- Whole runs -----------------------------------------------------------------------


@dataclass
class Offices(World):
    """Three sites, each with the database of its office."""

    def prepare(self, cap: Cap = CAP) -> None:
        for name in NAMES:
            database = open_database(self.url(name))
            Ledger(database).begin("digits", cap=cap, patients=cap)
            database.close()

    def url(self, name: str) -> str:
        return f"sqlite:///{self.folder / name}.db"

    def site(self, name: str, source: Source = operating_system, messages: int = 10**6) -> Site:
        self.settings = msgspec.structs.replace(DEMONSTRATION, database=self.url(name))
        self.kit(name)
        session = SiteSession(self.folder / name, self.call(), source)
        self.sessions.append(session)
        return Site(name, session, messages)

    def look(self, name: str) -> Standing:
        database = open_database(self.url(name))
        with database.reading() as connection:
            assert verify(connection).wrong is None
            found = standing(connection, "digits")
        database.close()
        return found


def test_a_run_is_paid_by_every_office(tmp_path: Path) -> None:
    world = Offices(tmp_path)
    world.prepare()

    result = world.conduct(world.sites())

    found = [world.look(name) for name in NAMES]
    assert [one.by_project[0].steps for one in found] == [3, 3, 3]
    assert all(one.exact is not None and one.exact <= one.cap for one in found)
    assert len({one.epsilon for one in found}) == 1
    assert result is not None
    assert not list(tmp_path.glob("*/consilium/ledger/*.jsonl"))


def test_a_site_that_was_killed_charges_each_round_once(tmp_path: Path) -> None:
    world = Offices(tmp_path)
    world.prepare()

    world.conduct([world.site("a"), world.site("b"), Reborn(world, "c", messages=7)])

    assert world.look("c").by_project[0].steps <= 3
    assert world.look("a").by_project[0].steps >= 3


def test_a_cap_that_a_run_does_not_fit_refuses_it_before_anything_left(tmp_path: Path) -> None:
    world = Offices(tmp_path)
    world.prepare(Cap(epsilon=0.5, delta=1e-4))

    with pytest.raises(ConsiliumError):
        world.conduct(world.sites(), seconds=3.0)

    assert world.look("a").epsilon == 0


def test_an_arm_without_a_guarantee_has_no_price(tmp_path: Path) -> None:
    world = Offices(tmp_path, arm="federated")
    world.prepare()

    with pytest.raises(ConsiliumError):
        world.conduct(world.sites(), seconds=3.0)
