# SPDX-License-Identifier: Apache-2.0
"""The ledger in a database against a slow obvious one: patients one by one, events one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dp_accounting.dp_event import GaussianDpEvent, LaplaceDpEvent, ZCDpEvent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from consilium.adapters.store.database import Database, open_database
from consilium.adapters.store.ledger_check import head, verify
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_tables import COHORT, PART, PATIENT
from consilium.adapters.store.ledger_views import price, spent_by_cohort, standing
from consilium.errors import AccessDenied, BudgetExceeded, Conflict, NotFound
from consilium.governance.composition import ORDERS, UNIT, Cap, Step, curve_of, epsilon_of
from consilium.governance.events import encode_event
from consilium.governance.ledger import Receipt, Request, Reservation

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CAP = Cap(epsilon=2.0, delta=1e-6)
SMALL = Step(event=encode_event(LaplaceDpEvent(10.0)))
LARGE = Step(event=encode_event(GaussianDpEvent(6.0)), slack=1e-9)
STEPS = {"small": SMALL, "large": LARGE}


@dataclass
class Ledger:
    """A ledger whose calls are transactions of their own, on a clock that ticks by days."""

    database: Database
    days: int = 0

    def __post_init__(self) -> None:
        self.store = LedgerStore(self.database, self._now)

    def _now(self) -> datetime:
        self.days += 1
        return NOON + timedelta(days=self.days)

    def begin(self, *datasets: str, cap: Cap = CAP, patients: Cap = CAP) -> "Ledger":
        with self.database.transaction() as connection:
            self.store.cap_patients(connection, patients, ["weber"])
            for name in datasets:
                self.store.set_cap(connection, name, cap, ["weber"])
        return self

    def enrol(self, dataset: str, *pseudonyms: str) -> int:
        with self.database.transaction() as connection:
            return self.store.enrol(connection, dataset, pseudonyms)

    def reserve(self, key: str, step: Step, steps: int, dataset: str = "x") -> Reservation:
        request = Request(dataset=dataset, key=key, project="p", step=step, steps=steps)
        with self.database.transaction() as connection:
            return self.store.reserve(connection, request)

    def spend(self, key: str, step: Step = SMALL, dataset: str = "x") -> Receipt:
        request = Request(dataset=dataset, key=key, project="p", step=step)
        with self.database.transaction() as connection:
            return self.store.spend(connection, request)

    def commit(self, reservation: int, *, key: str | None = None, round_: int = 0) -> Receipt:
        with self.database.transaction() as connection:
            return self.store.commit(connection, reservation, key=key, round_=round_)

    def void(self, reservation: int) -> None:
        with self.database.transaction() as connection:
            self.store.void(connection, reservation, "over")

    def opt_out(self, pseudonym: str) -> None:
        with self.database.transaction() as connection:
            self.store.opt_out(connection, pseudonym, ["weber"])

    def wrong(self) -> str | None:
        with self.database.reading() as connection:
            return verify(connection).wrong

    def spent(self) -> dict[str, tuple[int, ...]]:
        """Returns what each patient has spent, at every order."""
        with self.database.reading() as connection:
            curves = spent_by_cohort(connection)
            rows = connection.execute(PATIENT.select()).all()
        nothing = (0,) * len(ORDERS)
        return {row.pseudonym: tuple(curves.get(row.cohort, nothing)) for row in rows}


@pytest.fixture
def ledger(database: Database) -> Ledger:
    return Ledger(database).begin("x", "y")


# -- The oracle -----------------------------------------------------------------------


@dataclass
class Oracle:
    """Every reservation with the names of who took part; sums are made anew each time."""

    members: dict[str, set[str]] = field(default_factory=lambda: {"x": set(), "y": set()})
    out: set[str] = field(default_factory=set[str])
    held: list[tuple[str, Step, int, set[str]]] = field(default_factory=list)
    done: dict[int, int] = field(default_factory=dict[int, int])
    closed: set[int] = field(default_factory=set[int])

    def counted(self, number: int) -> int:
        return self.done[number] if number in self.closed else self.held[number][2]

    def charged(self, belongs: Callable[[tuple[str, Step, int, set[str]]], bool]) -> int:
        place = CAP.place()
        return sum(
            curve_of(one[1])[place] * self.counted(number)
            for number, one in enumerate(self.held)
            if belongs(one)
        )

    def reserve(self, dataset: str, step: Step, steps: int) -> bool:
        place = CAP.place()
        cost, room = curve_of(step)[place] * steps, CAP.units(place)
        joined = {
            name
            for name in self.members[dataset] - self.out
            if self.charged(lambda one, name=name: name in one[3]) + cost <= room  # type: ignore[misc]
        }
        if self.charged(lambda one: one[0] == dataset) + cost > room or not joined:
            return False
        self.held.append((dataset, step, steps, joined))
        self.done[len(self.held) - 1] = 0
        return True

    def commit(self, number: int) -> bool:
        if number in self.closed or self.done[number] == self.held[number][2]:
            return False
        self.done[number] += 1
        return True

    def spent(self, name: str) -> tuple[int, ...]:
        return tuple(
            sum(
                curve_of(one[1])[place] * self.done[number]
                for number, one in enumerate(self.held)
                if name in one[3]
            )
            for place in range(len(ORDERS))
        )


NAMES = st.sampled_from([f"patient {k}" for k in range(6)])
DATASETS = st.sampled_from(["x", "y"])
DEEDS = st.one_of(
    st.tuples(st.just("enrol"), DATASETS, st.sets(NAMES, min_size=1)),
    st.tuples(st.just("reserve"), DATASETS, st.sampled_from(sorted(STEPS)), st.integers(1, 20)),
    st.tuples(st.just("commit"), st.integers(0, 5)),
    st.tuples(st.just("void"), st.integers(0, 5)),
    st.tuples(st.just("opt out"), NAMES),
)


@contextmanager
def _fresh() -> Iterator[Ledger]:
    with TemporaryDirectory() as folder:
        database = open_database(f"sqlite:///{Path(folder) / 'office.db'}")
        try:
            yield Ledger(database).begin("x", "y")
        finally:
            database.close()


@pytest.mark.timeout(600)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(DEEDS, min_size=3, max_size=14))
def test_the_ledger_is_what_the_events_add_up_to(deeds: list[tuple[object, ...]]) -> None:
    oracle = Oracle()
    with _fresh() as ledger:
        for number, deed in enumerate(deeds):
            _play(ledger, oracle, deed, str(number))

        assert ledger.spent() == {name: oracle.spent(name) for name in ledger.spent()}
        assert ledger.wrong() is None


def _play(ledger: Ledger, oracle: Oracle, deed: tuple[object, ...], key: str) -> None:
    match deed:
        case ("enrol", str(dataset), set(names)):
            found = ledger.enrol(dataset, *map(str, names))
            assert found == len(names - oracle.members[dataset])
            oracle.members[dataset] |= {str(name) for name in names}
        case ("reserve", str(dataset), str(kind), int(steps)):
            expected = oracle.reserve(dataset, STEPS[kind], steps)
            act = lambda: ledger.reserve(key, STEPS[kind], steps, dataset)  # noqa: E731
            assert _granted(act) == expected
        case ("commit", int(number)) if number < len(oracle.held):
            expected = oracle.commit(number)
            assert _granted(lambda: ledger.commit(number + 1)) == expected
        case ("void", int(number)) if number < len(oracle.held):
            assert _granted(lambda: ledger.void(number + 1)) == (number not in oracle.closed)
            oracle.closed.add(number)
        case ("opt out", str(name)) if any(name in names for names in oracle.members.values()):
            ledger.opt_out(name)
            oracle.out.add(name)


def _granted(act: Callable[[], object]) -> bool:
    try:
        act()
    except (BudgetExceeded, AccessDenied, Conflict):
        return False
    return True


# -- Spending -------------------------------------------------------------------------


def test_a_patient_in_two_datasets_is_charged_in_both_on_one_account(ledger: Ledger) -> None:
    ledger.enrol("x", "ann", "bob")
    ledger.enrol("y", "ann", "cyd")

    ledger.spend("one", SMALL, "x")
    ledger.spend("two", LARGE, "y")

    small, large = curve_of(SMALL), curve_of(LARGE)
    both = tuple(a + b for a, b in zip(small, large, strict=True))
    assert ledger.spent() == {"ann": both, "bob": small, "cyd": large}


def test_a_patient_with_7_images_is_one_patient(ledger: Ledger) -> None:
    added = ledger.enrol("x", *["ann"] * 7, "bob")

    ledger.spend("one")

    assert added == 2
    assert ledger.spent()["ann"] == curve_of(SMALL)


def test_exhausted_patients_are_left_out_and_the_others_go_on(database: Database) -> None:
    ledger = Ledger(database).begin("x", "y", patients=Cap(epsilon=0.9, delta=1e-6))
    ledger.enrol("y", "ann")
    ledger.enrol("x", "ann", "bob")
    ledger.spend("before", LARGE, "y")

    ledger.spend("then", LARGE, "x")

    with database.reading() as connection:
        found = price(connection, "x", LARGE)
    assert ledger.spent()["ann"] == ledger.spent()["bob"] == curve_of(LARGE)
    assert (found.patients, found.exhausted) == (0, 2)


def test_a_dataset_of_exhausted_patients_is_refused(database: Database) -> None:
    ledger = Ledger(database).begin("x", patients=Cap(epsilon=0.9, delta=1e-6))
    ledger.enrol("x", "ann")
    ledger.spend("one", LARGE)

    with pytest.raises(BudgetExceeded, match="none has room"):
        ledger.spend("two", LARGE)


def test_two_researchers_share_one_cap(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    ledger.reserve("first", LARGE, 2)

    with pytest.raises(BudgetExceeded, match="over all projects"):
        ledger.reserve("second", LARGE, 10)


def test_what_is_returned_can_be_spent_again(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    first = ledger.reserve("first", SMALL, 20)
    ledger.commit(first.number)
    ledger.void(first.number)

    ledger.reserve("second", SMALL, 20)

    assert ledger.spent()["ann"] == curve_of(SMALL)
    assert ledger.wrong() is None


def test_the_same_key_is_charged_once(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")

    assert ledger.spend("one") == ledger.spend("one")
    assert ledger.spent()["ann"] == curve_of(SMALL)


def test_a_key_of_another_request_is_refused(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    ledger.spend("one", SMALL)

    with pytest.raises(Conflict, match="another request"):
        ledger.spend("one", LARGE)


def test_a_key_of_another_charge_is_refused(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    first, second = ledger.reserve("1", SMALL, 5), ledger.reserve("2", SMALL, 5)
    ledger.commit(first.number, key="k")

    with pytest.raises(Conflict, match="another charge"):
        ledger.commit(second.number, key="k")


def test_a_round_is_charged_once(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    run = ledger.reserve("run", SMALL, 5)
    ledger.commit(run.number, round_=2)

    for round_ in (1, 2):
        with pytest.raises(Conflict, match="charged before"):
            ledger.commit(run.number, round_=round_)


def test_more_steps_than_were_held_are_refused(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    run = ledger.reserve("run", SMALL, 1)
    ledger.commit(run.number)

    with pytest.raises(BudgetExceeded, match="holds 0 of 1"):
        ledger.commit(run.number)


def test_what_has_no_price_is_refused(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")

    with pytest.raises(BudgetExceeded, match="no finite price"):
        ledger.spend("one", Step(event=encode_event(GaussianDpEvent(1e-9))))


def test_an_unknown_dataset_is_refused(ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="no account"):
        ledger.spend("one", dataset="z")


def test_a_frozen_dataset_refuses_steps_that_are_held(ledger: Ledger) -> None:
    ledger.enrol("x", "ann")
    run = ledger.reserve("run", SMALL, 5)
    with ledger.database.transaction() as connection:
        ledger.store.freeze(connection, "x", ["weber"])

    with pytest.raises(AccessDenied, match="frozen"):
        ledger.commit(run.number)


def test_who_opted_out_takes_no_part(ledger: Ledger) -> None:
    ledger.enrol("x", "ann", "bob")
    ledger.opt_out("ann")
    ledger.spend("one")

    assert ledger.spent() == {"ann": (0,) * len(ORDERS), "bob": curve_of(SMALL)}


def test_who_opted_in_again_takes_part(ledger: Ledger) -> None:
    ledger.enrol("x", "ann", "bob")
    ledger.opt_out("ann")
    with ledger.database.transaction() as connection:
        ledger.store.opt_in(connection, "ann", ["weber"])
    ledger.spend("one")

    assert ledger.spent()["ann"] == curve_of(SMALL)
    assert ledger.wrong() is None


# -- Views ----------------------------------------------------------------------------


def test_standing_composes_and_tells_projects_months_and_patients(ledger: Ledger) -> None:
    ledger.enrol("x", "ann", "bob")
    ledger.opt_out("bob")
    run = ledger.reserve("run", LARGE, 3)
    for _ in range(2):
        ledger.commit(run.number)

    with ledger.database.reading() as connection:
        found = standing(connection, "x")

    twice = tuple(2 * units for units in curve_of(LARGE))
    assert found.epsilon == epsilon_of(twice, 1e-6) < 2 * epsilon_of(curve_of(LARGE), 1e-6)
    assert found.epsilon + found.reserved + found.free == pytest.approx(2.0)
    assert (found.patients, found.opted_out) == (2, 1)
    assert [(one.name, one.steps, one.held) for one in found.by_project] == [("p", 2, 1)]
    assert [one.month for one in found.by_month] == ["2026-11"]
    assert [(one.epsilon, one.patients) for one in found.by_patient] == [
        (0.0, 1),
        (found.epsilon, 1),
    ]
    assert found.exact is not None
    assert found.exact < epsilon_of(tuple(3 * units for units in curve_of(LARGE)), 1e-6)


@pytest.mark.parametrize("steps", [1, 5, 12, 13, 40])
def test_a_price_says_what_the_ledger_does(ledger: Ledger, steps: int) -> None:
    ledger.enrol("x", "ann")
    ledger.spend("before", SMALL)
    with ledger.database.reading() as connection:
        said = price(connection, "x", LARGE, steps)

    granted = _granted(lambda: ledger.reserve("run", LARGE, steps))

    assert said.fits == granted == (steps <= said.most_steps)
    assert said.before < said.after
    assert said.fits == (said.remaining > 0) or said.after <= said.cap


# -- Proof ----------------------------------------------------------------------------


def _history(ledger: Ledger) -> None:
    ledger.enrol("x", "ann", "bob")
    ledger.enrol("y", "ann", "cyd")
    ledger.spend("one", SMALL, "x")
    run = ledger.reserve("run", LARGE, 3, "y")
    ledger.commit(run.number)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("UPDATE ledger_entry SET body = replace(body, 'one', 'two') WHERE sequence = 6", "row 6"),
        ("UPDATE ledger_entry SET time = '2020-01-01' WHERE sequence = 4", "row 4"),
        ("DELETE FROM ledger_entry WHERE sequence = 5", "row 5"),
        ("UPDATE ledger_reservation SET committed = 0 WHERE id = 2", "2 in ledger_reservation"),
        ("UPDATE ledger_reservation SET steps = 2 WHERE id = 2", "2 in ledger_reservation"),
        ("UPDATE ledger_dataset SET charged = 0 WHERE name = 'x'", "x in ledger_dataset"),
        ("UPDATE ledger_dataset SET epsilon = 9 WHERE name = 'x'", "x in ledger_dataset"),
        ("UPDATE ledger_cap SET epsilon = 9", "ledger_cap"),
        ("UPDATE ledger_cohort SET charged = 0 WHERE id = 3", "3 in ledger_cohort"),
        ("UPDATE ledger_patient SET opted_out = true WHERE id = 1", "who opted out"),
        ("UPDATE ledger_patient SET cohort = 2 WHERE id = 1", "ledger_patient"),
        ("DELETE FROM ledger_part WHERE reservation = 1", "ledger_part"),
        ("DELETE FROM ledger_member WHERE patient = 2", "ledger_member"),
    ],
)
def test_a_changed_database_is_named(ledger: Ledger, change: str, named: str) -> None:
    _history(ledger)
    assert ledger.wrong() is None

    with ledger.database.transaction() as connection:
        connection.execute(text(change))

    assert named in (ledger.wrong() or "")


def test_swapped_patients_are_found(ledger: Ledger) -> None:
    _history(ledger)
    with ledger.database.transaction() as connection:
        rows = connection.execute(PATIENT.select().order_by(PATIENT.c.id)).all()
        for row, other in ((rows[0], rows[1]), (rows[1], rows[0])):
            new = PATIENT.update().where(PATIENT.c.id == row.id).values(cohort=other.cohort)
            connection.execute(new)

    assert "the patients of cohort" in (ledger.wrong() or "")


def test_a_forged_entry_is_found_though_it_is_linked(ledger: Ledger) -> None:
    _history(ledger)
    with ledger.database.transaction() as connection:
        count, _ = head(connection)
        forged = {"number": count, "body": '{"type":"committed","reservation":9}'}
        connection.execute(
            text("UPDATE ledger_entry SET body = :body WHERE sequence = :number"), forged
        )

    assert f"row {count}" in (ledger.wrong() or "")


def test_tables_are_small_however_many_patients(ledger: Ledger) -> None:
    ledger.enrol("x", *[f"patient {k}" for k in range(500)])
    for number in range(5):
        ledger.spend(f"spend {number}")

    with ledger.database.reading() as connection:
        assert len(connection.execute(COHORT.select()).all()) == 1
        assert len(connection.execute(PART.select()).all()) == 5


def test_units_are_what_the_cap_says() -> None:
    order = ORDERS[CAP.place()]
    rho = CAP.units(CAP.place()) * UNIT / order
    least = Step(event=encode_event(ZCDpEvent(rho * (1 - 1e-9))))
    above = Step(event=encode_event(ZCDpEvent(rho * (1 + 1e-9))))

    assert curve_of(least)[CAP.place()] <= CAP.units(CAP.place()) < curve_of(above)[CAP.place()]


def test_two_queries_whose_difference_would_tell_one_patient_do_not_both_fit(
    database: Database,
) -> None:
    """Everybody, and everybody but one: each fits the cap, both do not (DataSHIELD's #251)."""
    ledger = Ledger(database).begin("x", cap=Cap(epsilon=1.0, delta=1e-6))
    ledger.enrol("x", "anna", "bert")
    query = Step(event=encode_event(LaplaceDpEvent(2.0)))

    ledger.spend("mean of all", query)

    with pytest.raises(BudgetExceeded):
        ledger.spend("mean of all but anna", query)
    with database.reading() as connection:
        assert standing(connection, "x").epsilon <= 1.0
