# SPDX-License-Identifier: Apache-2.0
"""The ledger's rules, and its entries, without a database."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from dp_accounting.dp_event import LaplaceDpEvent

from consilium.errors import AccessDenied, BudgetExceeded, Conflict, DataError
from consilium.governance.composition import Cap, Step
from consilium.governance.events import encode_event
from consilium.governance.ledger import (
    Account,
    Granted,
    Request,
    begin,
    commit,
    frozen,
    reserve,
    thawed,
    void,
    with_cap,
)
from consilium.governance.ledger_entries import (
    START,
    Committed,
    Frozen,
    LedgerState,
    Opened,
    Row,
    body_of,
    check_row,
    entry_of,
    kind_of,
    link_of,
    members_digest,
)
from consilium.governance.participation import Group, admit

CAP = Cap(epsilon=2.0, delta=1e-6)
STEP = Step(event=encode_event(LaplaceDpEvent(10.0)))
ACCOUNT = Account(name="x", allowance=begin(CAP))
GROUP = Group(cohort=1, present=3, size=3, charged=0)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _reserve(account: Account = ACCOUNT, steps: int = 4) -> Granted:
    request = Request(dataset="x", key="k", project="p", step=STEP, steps=steps)
    return reserve(account, begin(CAP), [GROUP], request, 1)


def test_a_reservation_holds_all_its_steps() -> None:
    granted = _reserve()

    assert granted.account.charged == 4 * granted.reservation.dataset_cost > 0
    assert (granted.reservation.held, granted.admission.patients) == (4, 3)


def test_committing_moves_nothing_but_what_is_held() -> None:
    granted = _reserve()

    after = commit(granted.account, granted.reservation, 3, 7)

    assert (after.committed, after.held, after.charged, after.last_round) == (3, 1, 4, 7)


def test_voiding_returns_what_was_not_committed() -> None:
    granted = _reserve()
    spent = commit(granted.account, granted.reservation, 1, 0)

    account, closed = void(granted.account, spent)

    assert account.charged == spent.dataset_cost
    assert (closed.held, closed.charged) == (0, 1)
    with pytest.raises(Conflict, match="returned before"):
        void(account, closed)
    with pytest.raises(AccessDenied, match="was returned"):
        commit(account, closed, 1, 0)


@pytest.mark.parametrize("steps", [0, -1, 5])
def test_only_what_is_held_can_be_committed(steps: int) -> None:
    granted = _reserve()

    with pytest.raises(BudgetExceeded, match="holds 4"):
        commit(granted.account, granted.reservation, steps, 0)


def test_over_the_cap_is_refused_with_what_would_fit() -> None:
    cost = _reserve().reservation.dataset_cost
    fitting = ACCOUNT.free // cost

    _reserve(steps=fitting)
    with pytest.raises(BudgetExceeded, match=f"{fitting} fit"):
        _reserve(steps=fitting + 1)


@pytest.mark.parametrize("steps", [0, 2**31])
def test_a_request_for_no_steps_is_refused(steps: int) -> None:
    with pytest.raises(DataError, match="steps"):
        _reserve(steps=steps)


@pytest.mark.parametrize("people", [[], ["weber"], ["weber", "weber"]])
def test_raising_and_thawing_need_two_people(people: list[str]) -> None:
    with pytest.raises(AccessDenied, match="two different people"):
        with_cap(ACCOUNT.allowance, Cap(epsilon=3.0, delta=1e-6), people)
    with pytest.raises(AccessDenied, match="two different people"):
        with_cap(ACCOUNT.allowance, Cap(epsilon=1.0, delta=1e-5), people)
    with pytest.raises(AccessDenied, match="two different people"):
        thawed(replace(ACCOUNT, frozen=True), people)


def test_lowering_and_freezing_need_one_person() -> None:
    lower = with_cap(ACCOUNT.allowance, Cap(epsilon=1.0, delta=1e-6), ["weber"])

    assert lower.units < ACCOUNT.allowance.units
    assert lower.place == ACCOUNT.allowance.place
    assert frozen(ACCOUNT, ["weber"]).frozen
    with pytest.raises(AccessDenied, match="nobody"):
        frozen(ACCOUNT, [])
    with pytest.raises(AccessDenied, match="nobody"):
        with_cap(ACCOUNT.allowance, Cap(epsilon=1.0, delta=1e-6), [])


def test_a_frozen_dataset_holds_and_spends_nothing() -> None:
    granted = _reserve()

    with pytest.raises(AccessDenied, match="frozen"):
        _reserve(replace(ACCOUNT, frozen=True))
    with pytest.raises(AccessDenied, match="frozen"):
        commit(replace(granted.account, frozen=True), granted.reservation, 1, 0)


def test_a_cap_below_what_was_spent_leaves_nothing() -> None:
    low = begin(Cap(epsilon=0.5, delta=1e-6))

    assert Account(name="x", allowance=low, charged=low.units + 5).free == 0


def test_groups_are_admitted_by_what_they_spent_alone() -> None:
    groups = [Group(cohort=k, present=k % 2, size=9, charged=10 * k) for k in range(6)]

    found = admit(groups, cost=5, allowance=35)

    assert [one.cohort for one in found.joined] == [1, 3]
    assert [one.cohort for one in found.exhausted] == [5]


# -- Entries --------------------------------------------------------------------------

OPENED = Opened(dataset="x", epsilon=2.0, delta=1e-6, people=("weber",))


def _row(sequence: int, body: str, previous: bytes) -> Row:
    link = link_of(previous, sequence, NOON, body)
    return Row(sequence=sequence, time=NOON, body=body, link=link)


def test_an_entry_comes_back_as_it_was() -> None:
    assert entry_of(body_of(OPENED)) == OPENED
    assert kind_of(OPENED) == "opened"


@pytest.mark.parametrize("body", ["", "{}", body_of(OPENED) + " ", '{"type":"opened"}'])
def test_what_is_no_canonical_entry_is_refused(body: str) -> None:
    with pytest.raises(DataError):
        entry_of(body)


def test_a_chain_is_followed_row_by_row() -> None:
    first = _row(1, body_of(OPENED), START)
    second = _row(2, body_of(Frozen(dataset="x", people=("weber",))), first.link)

    state = check_row(check_row(LedgerState(), first, (0, START)), second, (1, first.link))

    assert state.accounts["x"].frozen


@pytest.mark.parametrize(
    "changed",
    [
        {"sequence": 2},
        {"time": datetime(2026, 11, 22, tzinfo=UTC)},
        {"body": body_of(OPENED).replace("2.0", "3.0")},
        {"link": bytes(32)},
    ],
)
def test_a_changed_row_is_named(changed: dict[str, object]) -> None:
    row = replace(_row(1, body_of(OPENED), START), **changed)  # type: ignore[arg-type]

    with pytest.raises(DataError, match="row 1"):
        check_row(LedgerState(), row, (0, START))


def test_a_row_against_the_rules_is_named_though_it_is_linked() -> None:
    row = _row(1, body_of(Committed(reservation=1, steps=1, round=1)), START)

    with pytest.raises(DataError, match="row 1 says what the rules do not allow"):
        check_row(LedgerState(), row, (0, START))


def test_a_set_of_patients_has_one_digest() -> None:
    assert members_digest([3, 1, 2]) == members_digest((1, 2, 3)) != members_digest([1, 2])
