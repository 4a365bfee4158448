# SPDX-License-Identifier: Apache-2.0
"""The coordinator's side of the secure sum: its states, its events and every transition.

    Gathering --Hello--> Gathering --CloseRoster--> Ready, or in a post-quantum job Agreeing
    Agreeing --Ciphertexts--> Agreeing --CloseCiphertexts--> Ready
    Ready --StartRound--> Collecting --Upload--> Collecting --CloseUploads--> Unmasking
    Unmasking --Opening--> Unmasking --Finish--> Ready, with the Total
    Collecting | Unmasking --AbandonRound--> Ready
    Ready | Collecting | Unmasking --Prekeys--> the same

Any other pair raises `OutOfTurn`. Deadlines are the caller's: it says when a roster, the
ciphertexts, the uploads or the openings are complete. `RoundAborted` changes no state either:
the caller may wait for more messages and ask again, or say AbandonRound; an abandoned round has
opened nothing.

Guarantees: memory is a few vectors, whatever the number of sites; each message is checked for
its sender, its round and its exact size before it counts; a bad message of one site is refused
by name and costs the others nothing. An upload that came late is `OutOfTurn`, but its prekeys
may be given as an event of their own.
No privacy rests on this side: what it must not learn, the sites do not let it.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np

from consilium.errors import LocalProtocolError, OutOfTurn, RemoteProtocolError, RoundAborted
from consilium.secagg import shamir
from consilium.secagg.job import DIGEST_BYTES, SumJob, Vector
from consilium.secagg.masks import add_masks
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    FromCoordinator,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)
from consilium.secagg.recovery import TAG_BYTES, ClosedRound, MasksLeft, masks_left
from consilium.secagg.session import (
    Session,
    bind_ciphertexts,
    check_ciphertexts,
    check_hello,
    make_session,
)

MOST_PENDING: Final = 8  # rounds ahead that one site may have prekeys for
AT_A_TIME: Final = 3  # uploads that are held until they are added
_NO_MASKS: Final = MasksLeft((), ())


# -- States ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """Waiting for hellos."""

    job: SumJob
    hellos: Mapping[int, Hello] = field(default_factory=dict[int, Hello])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Agreeing:
    """The roster of a post-quantum job is out; waiting for the ciphertexts of its sites."""

    roster: Session
    said: Mapping[int, Ciphertexts] = field(default_factory=dict[int, Ciphertexts])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Between rounds; `pending` holds prekeys by round and site, of no round before `done`."""

    session: Session
    pending: Mapping[int, Mapping[int, Prekeys]] = field(
        default_factory=dict[int, Mapping[int, Prekeys]]
    )
    done: int = 0  # last round started


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """A plan is out; the uploads of the sites in `uploaded` are in `total`, or still in `new`.

    Uploads are added a few at a time: a fresh total for each would cost as much as its masks.
    """

    ready: Ready
    plan: Plan
    total: Vector | None = field(default=None, repr=False)
    new: tuple[memoryview, ...] = field(default=(), repr=False)
    uploaded: frozenset[int] = frozenset()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """The survivors are out; waiting for their openings. The masked sum is as in `Collecting`."""

    ready: Ready
    closed: ClosedRound
    total: Vector | None = field(repr=False)
    new: tuple[memoryview, ...] = field(repr=False)
    openings: Mapping[int, Opening] = field(default_factory=dict[int, Opening])


CoordinatorState: TypeAlias = Gathering | Agreeing | Ready | Collecting | Unmasking


# -- Events and results ---------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class CloseRoster:
    """No more hellos: the session begins with the sites that came."""


@final
@dataclass(frozen=True, slots=True)
class CloseCiphertexts:
    """No more ciphertexts: the session begins with the sites whose ciphertexts came."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StartRound:
    """Begin this round, on the model with this digest, with every site that is prepared."""

    round: int
    model: bytes


@final
@dataclass(frozen=True, slots=True)
class CloseUploads:
    """No more uploads: the sum is over those that came."""


@final
@dataclass(frozen=True, slots=True)
class Finish:
    """Unmask with the openings that came."""


@final
@dataclass(frozen=True, slots=True)
class AbandonRound:
    """Give this round up; it opens nothing, and its number is spent."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The sum of the vectors of `sites`, shape (length,), modulo the word's size."""

    round: int
    sites: tuple[int, ...]
    vector: Vector = field(repr=False)


CoordinatorEvent: TypeAlias = (
    Hello
    | CloseRoster
    | Ciphertexts
    | CloseCiphertexts
    | Prekeys
    | StartRound
    | Upload
    | CloseUploads
    | Opening
    | Finish
    | AbandonRound
)
Outcome: TypeAlias = FromCoordinator | Total


# -- Transitions ----------------------------------------------------------------------


def coordinator_step(
    state: CoordinatorState, event: CoordinatorEvent
) -> tuple[CoordinatorState, tuple[Outcome, ...]]:
    """Returns the next state, and what to send to every site, or the total.

    A Roster and a CiphertextTable go to their sites, a Plan to its members, Survivors to the
    survivors.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        RemoteProtocolError: A site's message is refused; `sender` names the site.
        LocalProtocolError: The caller's event breaks a rule.
        RoundAborted: What came so far does not suffice; `blamed` names whose messages were bad.
    """
    match state, event:
        case Gathering(), Hello():
            return _on_hello(state, event), ()
        case Gathering(), CloseRoster():
            return _close_roster(state)
        case Agreeing(), Ciphertexts():
            return _on_ciphertexts(state, event), ()
        case Agreeing(), CloseCiphertexts():
            return _close_ciphertexts(state)
        case ((Ready() | Collecting() | Unmasking()), Prekeys()):
            return _on_prekeys(state, event), ()
        case Ready(), StartRound():
            return _start_round(state, event)
        case Collecting(), Upload():
            return _on_upload(state, event), ()
        case Collecting(), CloseUploads():
            return _close_uploads(state)
        case Unmasking(), Opening():
            return _on_opening(state, event), ()
        case Unmasking(), Finish():
            return _finish(state)
        case ((Collecting() | Unmasking()), AbandonRound()):
            return _forget_rounds(state.ready), ()
        case _:
            raise OutOfTurn(f"{type(event).__name__} while {type(state).__name__}")


def _on_hello(state: Gathering, hello: Hello) -> Gathering:
    check_hello(state.job, hello)
    _check_new(hello, state.hellos)
    return replace(state, hellos={**state.hellos, hello.site: hello})


def _close_roster(state: Gathering) -> tuple[Agreeing | Ready, tuple[Roster]]:
    if len(state.hellos) < state.job.threshold:
        raise LocalProtocolError(
            f"{len(state.hellos)} sites said hello; expected at least {state.job.threshold}; wait"
        )
    hellos = tuple(state.hellos[site] for site in sorted(state.hellos))
    session = make_session(state.job, hellos)
    after = Agreeing(roster=session) if state.job.post_quantum else Ready(session=session)
    return after, (Roster(hellos),)


def _on_ciphertexts(state: Agreeing, said: Ciphertexts) -> Agreeing:
    check_ciphertexts(state.roster, said)
    _check_new(said, state.said)
    return replace(state, said={**state.said, said.site: said})


def _close_ciphertexts(state: Agreeing) -> tuple[Ready, tuple[CiphertextTable]]:
    threshold = state.roster.job.threshold
    if len(state.said) < threshold:
        raise LocalProtocolError(
            f"{len(state.said)} sites sent ciphertexts; expected at least {threshold}; wait"
        )
    entries = tuple(state.said[site] for site in sorted(state.said))
    return Ready(session=bind_ciphertexts(state.roster, entries)), (CiphertextTable(entries),)


def _start_round(state: Ready, event: StartRound) -> tuple[Collecting, tuple[Plan]]:
    if event.round <= state.done:
        raise LocalProtocolError(f"round {event.round}; expected one after {state.done}")
    if len(event.model) != DIGEST_BYTES:
        raise LocalProtocolError(f"model digest of {len(event.model)} bytes; expected 32")
    job, members = state.session.job, tuple(sorted(state.pending.get(event.round, ())))
    if len(members) < job.threshold:
        raise RoundAborted(
            f"{len(members)} sites are prepared for round {event.round}; expected at least "
            f"{job.threshold}; wait for their prekeys"
        )
    plan = Plan(event.round, members, event.model)
    pending = {number: table for number, table in state.pending.items() if number >= event.round}
    ready = replace(state, pending=pending, done=event.round)
    return Collecting(ready=ready, plan=plan), (plan,)


def _on_upload(state: Collecting, upload: Upload) -> Collecting:
    job = state.ready.session.job
    _check_sender(upload, among=state.plan.members, number=state.plan.round)
    _check_new(upload, state.uploaded)
    _check_size(upload.site, "vector", upload.vector, job.vector_bytes)
    ready = state.ready
    if upload.prekeys is not None:
        if upload.prekeys.site != upload.site:
            raise RemoteProtocolError("prekeys of another site ride on an upload", upload.site)
        ready = _with_prekeys(ready, upload.prekeys)
    total, held = state.total, state.new
    if len(held) == AT_A_TIME:
        total, held = _added(job, total, held), ()
    uploaded = state.uploaded | {upload.site}
    new = (*held, upload.vector)
    return replace(state, ready=ready, total=total, new=new, uploaded=uploaded)


def _added(
    job: SumJob,
    total: Vector | None,
    new: tuple[memoryview, ...],
    masks: MasksLeft = _NO_MASKS,
) -> Vector:
    """Returns the total so far plus the uploads in `new`, less `masks`, in memory of its own."""
    vectors = [np.frombuffer(upload, job.word) for upload in new]
    first, *others = vectors if total is None else [total, *vectors]
    out = first.copy()
    add_masks(out, add=masks.subtracted, subtract=masks.added, others=others)
    return out


def _close_uploads(state: Collecting) -> tuple[Unmasking, tuple[Survivors]]:
    ready, plan = state.ready, state.plan
    least = ready.session.job.least(len(plan.members))
    missing = sorted(set(plan.members) - state.uploaded)
    if len(state.uploaded) < least:
        raise RoundAborted(
            f"{len(state.uploaded)} uploads; expected at least {least}; sites {missing} are "
            "missing; wait or abandon"
        )
    survivors = tuple(sorted(state.uploaded))
    closed = ClosedRound(
        session=ready.session, plan=plan, survivors=survivors, prekeys=ready.pending[plan.round]
    )
    after = Unmasking(ready=_forget_rounds(ready), closed=closed, total=state.total, new=state.new)
    return after, (Survivors(plan.round, survivors),)


def _on_opening(state: Unmasking, opening: Opening) -> Unmasking:
    plan, survivors = state.closed.plan, state.closed.survivors
    _check_sender(opening, among=survivors, number=plan.round)
    _check_new(opening, state.openings)
    sealed = shamir.ELEMENT_BYTES * len(plan.members) + TAG_BYTES
    _check_size(opening.site, "sealed", opening.sealed, sealed)
    others = shamir.ELEMENT_BYTES * (len(survivors) - 1)
    for name in ("gate_shares", "commitments", "tokens"):
        _check_size(opening.site, name, getattr(opening, name), others)
    return replace(state, openings={**state.openings, opening.site: opening})


def _finish(state: Unmasking) -> tuple[Ready, tuple[Total]]:
    closed = state.closed
    masks = masks_left(closed, state.openings)
    vector = _added(closed.session.job, state.total, state.new, masks)
    return state.ready, (Total(round=closed.plan.round, sites=closed.survivors, vector=vector),)


# -- Prekeys --------------------------------------------------------------------------


def _on_prekeys(
    state: Ready | Collecting | Unmasking, prekeys: Prekeys
) -> Ready | Collecting | Unmasking:
    if isinstance(state, Ready):
        return _with_prekeys(state, prekeys)
    return replace(state, ready=_with_prekeys(state.ready, prekeys))


def _with_prekeys(ready: Ready, prekeys: Prekeys) -> Ready:
    site, sites = prekeys.site, ready.session.sites
    if site not in sites:
        raise RemoteProtocolError(f"prekeys of site {site}, which is not on the roster", site)
    if prekeys.round <= ready.done:
        raise RemoteProtocolError(
            f"prekeys of round {prekeys.round}; expected one after {ready.done}", site
        )
    later = {number: table for number, table in ready.pending.items() if number > ready.done}
    ahead = [number for number, table in later.items() if site in table]
    if prekeys.round in ahead or len(ahead) >= MOST_PENDING:
        raise RemoteProtocolError(
            f"prekeys of round {prekeys.round} repeat, or exceed {MOST_PENDING} rounds", site
        )
    for name in ("self_shares", "self_commitments", "pair_shares", "pair_commitments"):
        _check_size(site, name, getattr(prekeys, name), shamir.ELEMENT_BYTES * len(sites))
    envelope = shamir.ELEMENT_BYTES * (len(sites) - 1) + TAG_BYTES
    _check_size(site, "envelope", prekeys.envelope, envelope)
    table = {**ready.pending.get(prekeys.round, {}), site: prekeys}
    return replace(ready, pending={**ready.pending, prekeys.round: table})


def _forget_rounds(ready: Ready) -> Ready:
    """Returns the state without prekeys of the round that was started last."""
    later = {number: table for number, table in ready.pending.items() if number > ready.done}
    return replace(ready, pending=later)


# -- Rules ----------------------------------------------------------------------------


def _check_sender(message: Upload | Opening, *, among: tuple[int, ...], number: int) -> None:
    name = type(message).__name__.lower()
    if message.site not in among:
        raise RemoteProtocolError(f"{name} of site {message.site}; expected {among}", message.site)
    if message.round != number:
        raise RemoteProtocolError(
            f"{name} of round {message.round}; expected round {number}", message.site
        )


def _check_new(message: Hello | Ciphertexts | Upload | Opening, seen: Container[int]) -> None:
    if message.site in seen:
        name = type(message).__name__.lower()
        raise RemoteProtocolError(f"second {name} of site {message.site}", message.site)


def _check_size(site: int, name: str, field_bytes: bytes | memoryview, expected: int) -> None:
    if len(field_bytes) != expected:
        raise RemoteProtocolError(
            f"{name} of site {site} has {len(field_bytes)} bytes; expected {expected}", site
        )
