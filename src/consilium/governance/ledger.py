# SPDX-License-Identifier: Apache-2.0
"""The privacy ledger's rules: hold what a contract may cost, spend it by steps, return the rest.

    reserve --> commit, commit, ... --> void (returns what was not committed)

A reservation is refused unless all of it fits the dataset's cap; patients whose own cap it does
not fit do not take part in it (`participation`). So no commit can exceed a cap, whoever else
spends meanwhile, and every commit is durable before its release. Training rounds, queries and
looks at metrics are the same thing here: steps of an event.

Guarantees: what the releases of one dataset, and for each patient those of all datasets of this
office, give away stays within its cap; which theorem says so, and when it fails, is said in
`composition`. Lowering a cap and freezing need one person; raising one and thawing need two.
Voiding returns only what was never committed: what was released stays charged.

Not here: tables (`adapters.store.ledger_store`), the chain of entries (`ledger_entries`), whether
a project may run (`projects`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, final

from consilium.errors import AccessDenied, BudgetExceeded, Conflict, DataError
from consilium.governance.composition import UNBOUNDED, Cap, Step, curve_of
from consilium.governance.participation import Admission, Group, admit

MOST_STEPS: Final = 2**31 - 1


# -- Accounts -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """A cap, and the order that it is held at since its account began.

    Attributes:
        cap: In force.
        place: Of the order in `composition.ORDERS`; it never changes.
    """

    cap: Cap
    place: int

    @property
    def units(self) -> int:
        """What fits in all."""
        return self.cap.units(self.place)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a dataset may give away, and what it has.

    Attributes:
        name: Of the dataset.
        allowance: Its cap.
        charged: Units spent and held.
        frozen: Nothing is charged until it is thawed.
    """

    name: str
    allowance: Allowance
    charged: int = 0
    frozen: bool = False

    @property
    def free(self) -> int:
        """Units that are neither spent nor held; 0 where the cap was lowered below them."""
        return max(0, self.allowance.units - self.charged)


def begin(cap: Cap) -> Allowance:
    """Returns a new account's allowance; its order is chosen here, before the first release."""
    return Allowance(cap=cap, place=cap.place())


def with_cap(allowance: Allowance, cap: Cap, people: Iterable[str]) -> Allowance:
    """Returns the allowance under another cap.

    Raises:
        AccessDenied: It is higher, and fewer than two people stand for it.
    """
    changed = replace(allowance, cap=cap)
    if changed.units > allowance.units or cap.delta > allowance.cap.delta:
        _need_two(people, "raise a cap")
    elif not set(people):
        raise AccessDenied("nobody stands for the lower cap; expected one person")
    return changed


def frozen(account: Account, people: Iterable[str]) -> Account:
    """Returns the account with every charge refused from now on; one person is enough."""
    if not set(people):
        raise AccessDenied("nobody stands for the freeze; expected one person")
    return replace(account, frozen=True)


def thawed(account: Account, people: Iterable[str]) -> Account:
    """Returns the account with charges allowed again.

    Raises:
        AccessDenied: Fewer than two people stand for it.
    """
    _need_two(people, "thaw a dataset")
    return replace(account, frozen=False)


def _need_two(people: Iterable[str], what: str) -> None:
    found = sorted(set(people))
    if len(found) < 2:
        raise AccessDenied(
            f"{len(found)} person stands for it; expected two different people to {what}: ask a "
            "second steward"
        )


# -- Reservations ---------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody wants to spend.

    Attributes:
        dataset: On which.
        key: Names this request; asked twice, it is granted once.
        project: Whose it is, in the ledger's words.
        run: What it is part of; "" where it stands alone.
        step: What is repeated.
        steps: At most how often; fixed in advance.
    """

    dataset: str
    key: str
    project: str
    step: Step
    steps: int = 1
    run: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST_STEPS:
            raise DataError(f"{self.steps=}; expected 1 to {MOST_STEPS}")
        if not self.key or not self.project:
            raise DataError("a request without a key or a project; expected both")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What is held for a request, and how much of it was spent.

    Attributes:
        number: Of the reservation, from 1.
        request: What was asked.
        dataset_cost: Units of one step at the dataset's order.
        patient_cost: Units of one step at the patients' order.
        committed: Steps spent.
        last_round: Highest round that was committed, 0 before the first.
        is_open: The rest is held; else it was returned.
    """

    number: int
    request: Request
    dataset_cost: int
    patient_cost: int
    committed: int = 0
    last_round: int = 0
    is_open: bool = True

    @property
    def held(self) -> int:
        """Steps that are held and not spent."""
        return self.request.steps - self.committed if self.is_open else 0

    @property
    def charged(self) -> int:
        """Steps that count: spent and held."""
        return self.committed + self.held


@final
@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a commit is durable: its reservation, its place in the chain, and its link."""

    reservation: int
    sequence: int
    link: bytes


@final
@dataclass(frozen=True, slots=True)
class Granted:
    """A reservation, its dataset's account after it, and who takes part."""

    reservation: Reservation
    account: Account
    admission: Admission


def reserve(
    account: Account,
    patients: Allowance,
    groups: Iterable[Group],
    request: Request,
    number: int,
) -> Granted:
    """Returns what is held for `request`.

    Args:
        account: Of the dataset.
        patients: Of every patient.
        groups: Of the dataset's patients.
        request: What is wanted.
        number: Of the new reservation.

    Raises:
        AccessDenied: The dataset is frozen.
        BudgetExceeded: It does not fit the dataset's cap, or not one patient's; nothing changed.
        UnsupportedEvent: No theorem prices it.
    """
    _check_thawed(account)
    curve = curve_of(request.step)
    cost = curve[account.allowance.place]
    _check_room(account, cost, request.steps)
    each = curve[patients.place]
    admission = admit(groups, cost=each * request.steps, allowance=patients.units)
    if not admission.joined:
        raise BudgetExceeded(
            f"{sum(one.present for one in admission.exhausted)} patients of {account.name} are "
            "present and none has room for it; expected one or more: ask for less"
        )
    reservation = Reservation(number=number, request=request, dataset_cost=cost, patient_cost=each)
    after = replace(account, charged=account.charged + cost * request.steps)
    return Granted(reservation, after, admission)


def _check_room(account: Account, cost: int, steps: int) -> None:
    if cost >= UNBOUNDED:
        raise BudgetExceeded("the event has no finite price; expected one: add noise")
    if cost * steps > account.free:
        fitting = account.free // cost if cost else steps
        raise BudgetExceeded(
            f"{steps} steps do not fit the cap of {account.name} (epsilon "
            f"{account.allowance.cap.epsilon:g} at delta {account.allowance.cap.delta:g}, over all "
            f"projects): {fitting} fit; expected room for all of them: ask for less, or have two "
            "stewards raise the cap"
        )


def commit(account: Account, reservation: Reservation, steps: int, round_: int) -> Reservation:
    """Returns the reservation with `steps` more spent.

    Args:
        account: Of its dataset.
        reservation: Before.
        steps: How many are released now.
        round_: The round that they are of, above every one before; 0 where there are no rounds.

    Raises:
        AccessDenied: The dataset is frozen, or the reservation was returned.
        BudgetExceeded: More than was held.
        Conflict: This round, or a later one, was committed before.
    """
    _check_thawed(account)
    if not reservation.is_open:
        raise AccessDenied(
            f"reservation {reservation.number} was returned; expected an open one: reserve anew"
        )
    if not 1 <= steps <= reservation.held:
        raise BudgetExceeded(
            f"{steps} steps; the reservation holds {reservation.held} of "
            f"{reservation.request.steps}: expected at least 1 and no more than it holds"
        )
    if round_ and round_ <= reservation.last_round:
        raise Conflict(
            f"round {round_} was charged before; expected one after {reservation.last_round}: "
            "every round is charged, and answered, once"
        )
    return replace(
        reservation,
        committed=reservation.committed + steps,
        last_round=max(round_, reservation.last_round),
    )


def void(account: Account, reservation: Reservation) -> tuple[Account, Reservation]:
    """Returns the account and the reservation with all that is held returned.

    Raises:
        Conflict: It was returned before.
    """
    if not reservation.is_open:
        raise Conflict(
            f"reservation {reservation.number} was returned before; expected an open one"
        )
    returned = reservation.held * reservation.dataset_cost
    return (
        replace(account, charged=account.charged - returned),
        replace(reservation, is_open=False),
    )


def _check_thawed(account: Account) -> None:
    if account.frozen:
        raise AccessDenied(
            f"{account.name} is frozen; expected a dataset in use: two stewards can thaw it"
        )
