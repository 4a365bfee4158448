# SPDX-License-Identifier: Apache-2.0
"""The ledger's entries, their chain, and what they add up to.

An entry says one change; its body is canonical JSON. Each carries the digest of the link before
and of itself, so an entry that was changed, moved, added or taken out of the middle is found, and
named. `apply` adds entries up: a ledger is right if the sum is what its tables say. Cutting off
the end, or writing a whole new chain, takes other offices' signatures to find (`audit_log`).

Patients are numbers here; only the office's tables know their pseudonyms.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, final

import msgspec

from consilium.errors import ConsiliumError, DataError
from consilium.governance.composition import Cap, Step
from consilium.governance.ledger import (
    Account,
    Allowance,
    Request,
    Reservation,
    begin,
    commit,
    frozen,
    reserve,
    thawed,
    void,
    with_cap,
)
from consilium.governance.participation import Group
from consilium.wire import digest

START: Final = bytes(32)  # the link before the first
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every entry; its tag is its kind."""


class PatientsCapped(_Entry, frozen=True, tag="patients-capped"):
    """Every patient of this office has this cap."""

    epsilon: float
    delta: float
    people: tuple[str, ...]


class Opened(_Entry, frozen=True, tag="opened"):
    """A dataset has an account."""

    dataset: str
    epsilon: float
    delta: float
    people: tuple[str, ...]


class Capped(_Entry, frozen=True, tag="capped"):
    """A dataset's cap changed."""

    dataset: str
    epsilon: float
    delta: float
    people: tuple[str, ...]


class Frozen(_Entry, frozen=True, tag="frozen"):
    """A dataset takes no charge."""

    dataset: str
    people: tuple[str, ...]


class Thawed(_Entry, frozen=True, tag="thawed"):
    """A dataset takes charges again."""

    dataset: str
    people: tuple[str, ...]


class Enrolled(_Entry, frozen=True, tag="enrolled"):
    """A dataset has more patients; those whom the office did not know before are a new cohort.

    `digest` is that of all `members` that were added, by number; `content` of the new ones.
    """

    dataset: str
    members: int
    digest: str
    cohort: int
    new: int
    content: str


class OptedOut(_Entry, frozen=True, tag="opted-out"):
    """A patient takes part in nothing that is computed from now on."""

    patient: int
    people: tuple[str, ...]


class OptedIn(_Entry, frozen=True, tag="opted-in"):
    """A patient who had opted out takes part again."""

    patient: int
    people: tuple[str, ...]


class Move(_Entry, frozen=True):
    """`patients` of cohort `origin` take part and are cohort `into`, which is new unless equal."""

    origin: int
    into: int
    patients: int
    digest: str = ""  # of their numbers, where the cohort is new


class Reserved(_Entry, frozen=True, tag="reserved"):
    """Steps are held for a project."""

    reservation: int
    dataset: str
    key: str
    project: str
    run: str
    event: str
    slack: float
    steps: int
    moves: tuple[Move, ...]


class Committed(_Entry, frozen=True, tag="committed"):
    """Steps were spent; the release follows."""

    reservation: int
    steps: int
    round: int


class Voided(_Entry, frozen=True, tag="voided"):
    """What a reservation still held was returned."""

    reservation: int
    returned: int
    reason: str


Entry: TypeAlias = (
    PatientsCapped
    | Opened
    | Capped
    | Frozen
    | Thawed
    | Enrolled
    | OptedOut
    | OptedIn
    | Reserved
    | Committed
    | Voided
)

_DECODER: Final = msgspec.json.Decoder(Entry)


# -- The chain ------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """An entry where it stands."""

    sequence: int
    time: datetime
    body: str
    link: bytes


def body_of(entry: Entry) -> str:
    """Returns the canonical JSON of `entry`."""
    return msgspec.json.encode(entry).decode()


def kind_of(entry: Entry) -> str:
    """Returns the word for its kind."""
    return str(type(entry).__struct_config__.tag)


def entry_of(body: str) -> Entry:
    """Returns the entry in `body`.

    Raises:
        DataError: It is not the canonical JSON of an entry.
    """
    try:
        entry: Entry = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise DataError(f"an entry that cannot be read ({type(error).__name__})") from None
    if body_of(entry) != body:
        raise DataError("an entry in a second spelling; expected the canonical one")
    return entry


def link_of(previous: bytes, sequence: int, time: datetime, body: str) -> bytes:
    """Returns the 32 bytes that bind an entry to its place, its time and all before it."""
    microseconds = (time - _EPOCH) // timedelta(microseconds=1)
    return digest("ledger entry", previous, sequence, microseconds, body)


def members_digest(patients: Iterable[int]) -> str:
    """Returns what stands for a set of patients, by number, in hexadecimal."""
    return digest("patients", b"".join(one.to_bytes(8, "big") for one in sorted(patients))).hex()


# -- What they add up to --------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Patients of one history: how many, what each is charged, and in which reservations."""

    size: int
    charged: int = 0
    reservations: frozenset[int] = frozenset()
    content: str = ""  # digest of the patients that it began with
    parent: int | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """All that a ledger is about."""

    patients: Allowance | None = None
    accounts: Mapping[str, Account] = field(default_factory=dict)
    cohorts: Mapping[int, Cohort] = field(default_factory=dict)
    reservations: Mapping[int, Reservation] = field(default_factory=dict)
    opted_out: frozenset[int] = frozenset()
    enrolments: tuple[tuple[int, Enrolled], ...] = ()


_Caps: TypeAlias = PatientsCapped | Opened | Capped | Frozen | Thawed
_Spends: TypeAlias = Reserved | Committed | Voided


def check_row(state: LedgerState, row: Row, before: tuple[int, bytes]) -> LedgerState:
    """Returns the state after `row`, which follows the row of the number and link `before`.

    Raises:
        DataError: It does not continue the chain, or says what the rules do not allow.
    """
    number, previous = before
    if row.sequence != number + 1:
        raise DataError(f"ledger: row {number + 1} is missing: restore a backup")
    if row.link != link_of(previous, row.sequence, row.time, row.body):
        raise DataError(
            f"ledger: row {row.sequence} does not continue the chain; it or the row before it was "
            "changed, removed or added: restore a backup"
        )
    try:
        return apply(state, entry_of(row.body), row.sequence)
    except (ConsiliumError, KeyError) as error:
        raise DataError(
            f"ledger: row {row.sequence} says what the rules do not allow ({error}): restore a "
            "backup"
        ) from None


def apply(state: LedgerState, entry: Entry, sequence: int) -> LedgerState:
    """Returns the state after `entry`.

    Raises:
        ConsiliumError: A rule does not allow it.
        KeyError: It is about something that does not exist.
    """
    match entry:
        case PatientsCapped() | Opened() | Capped() | Frozen() | Thawed():
            return _apply_cap(state, entry)
        case Enrolled():
            if entry.dataset not in state.accounts or entry.cohort in state.cohorts:
                raise DataError("a dataset without an account, or a cohort that exists")
            fresh = {entry.cohort: Cohort(size=entry.new, content=entry.content)}
            return replace(
                state,
                cohorts={**state.cohorts, **(fresh if entry.new else {})},
                enrolments=(*state.enrolments, (sequence, entry)),
            )
        case OptedOut(patient=patient):
            return replace(state, opted_out=state.opted_out | {patient})
        case OptedIn(patient=patient):
            return replace(state, opted_out=state.opted_out - {patient})
        case Reserved() | Committed() | Voided():
            return _apply_spend(state, entry)


def _apply_cap(state: LedgerState, entry: _Caps) -> LedgerState:
    match entry:
        case PatientsCapped(epsilon=epsilon, delta=delta, people=people):
            cap, before = Cap(epsilon=epsilon, delta=delta), state.patients
            after = begin(cap) if before is None else with_cap(before, cap, people)
            return replace(state, patients=after)
        case Opened(dataset=name, epsilon=epsilon, delta=delta):
            if name in state.accounts:
                raise DataError(f"{name} has an account")
            account = Account(name=name, allowance=begin(Cap(epsilon=epsilon, delta=delta)))
        case Capped(dataset=name, epsilon=epsilon, delta=delta, people=people):
            account = state.accounts[name]
            cap = Cap(epsilon=epsilon, delta=delta)
            account = replace(account, allowance=with_cap(account.allowance, cap, people))
        case Frozen(dataset=name, people=people):
            account = frozen(state.accounts[name], people)
        case Thawed(dataset=name, people=people):
            account = thawed(state.accounts[name], people)
    return replace(state, accounts={**state.accounts, name: account})


def _apply_spend(state: LedgerState, entry: _Spends) -> LedgerState:
    if isinstance(entry, Reserved):
        return _apply_reserved(state, entry)
    before = state.reservations[entry.reservation]
    account = state.accounts[before.request.dataset]
    if isinstance(entry, Committed):
        after = commit(account, before, entry.steps, entry.round)
        return replace(state, reservations={**state.reservations, before.number: after})
    if entry.returned != before.held:
        raise DataError(f"{entry.returned} steps were returned, {before.held} were held")
    account, after = void(account, before)
    refund = before.held * before.patient_cost
    cohorts = {
        number: replace(one, charged=one.charged - refund)
        if before.number in one.reservations
        else one
        for number, one in state.cohorts.items()
    }
    return replace(
        state,
        accounts={**state.accounts, account.name: account},
        reservations={**state.reservations, after.number: after},
        cohorts=cohorts,
    )


def _apply_reserved(state: LedgerState, entry: Reserved) -> LedgerState:
    if state.patients is None or entry.reservation in state.reservations:
        raise DataError("a reservation without a cap for patients, or made twice")
    groups = [
        Group(
            cohort=move.origin,
            present=move.patients,
            size=state.cohorts[move.origin].size,
            charged=state.cohorts[move.origin].charged,
        )
        for move in entry.moves
    ]
    account = state.accounts[entry.dataset]
    granted = reserve(account, state.patients, groups, request_of(entry), entry.reservation)
    if granted.admission.exhausted:
        raise DataError("patients without room take part")
    cost = granted.reservation.patient_cost * entry.steps
    cohorts = dict(state.cohorts)
    for move in entry.moves:
        _move(cohorts, move, entry.reservation, cost)
    return replace(
        state,
        accounts={**state.accounts, account.name: granted.account},
        reservations={**state.reservations, entry.reservation: granted.reservation},
        cohorts=cohorts,
    )


def _move(cohorts: dict[int, Cohort], move: Move, reservation: int, cost: int) -> None:
    origin = cohorts[move.origin]
    if move.into == move.origin:
        joined = origin
    else:
        if move.into in cohorts or move.patients > origin.size:
            raise DataError(f"cohort {move.into} exists, or has more patients than {move.origin}")
        cohorts[move.origin] = replace(origin, size=origin.size - move.patients)
        joined = replace(origin, size=move.patients, content=move.digest, parent=move.origin)
    cohorts[move.into] = replace(
        joined,
        charged=joined.charged + cost,
        reservations=joined.reservations | {reservation},
    )


def request_of(entry: Reserved) -> Request:
    """Returns what was asked for."""
    return Request(
        dataset=entry.dataset,
        key=entry.key,
        project=entry.project,
        run=entry.run,
        step=Step(event=entry.event.encode(), slack=entry.slack),
        steps=entry.steps,
    )
