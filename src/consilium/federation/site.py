# SPDX-License-Identifier: Apache-2.0
"""A site's side of training: its states, its events and every transition between them.

    Outside --Start--> Joining --Roster--> Waiting --RoundStart--> Computing
    Joining --Roster--> Joining --CiphertextTable--> Waiting        (post-quantum job)
    Computing --Computed--> Charging --Charged--> Waiting           Waiting --Survivors--> Waiting
    Computing --Failed--> Waiting                                   (this round is lost here)
    Waiting | Computing | Charging --RoundStart--> Computing        (the older round is over)

Without a secure sum, Start leads to Waiting at once. Any other pair raises `OutOfTurn`.

Guarantees: a vector leaves only with the receipt of its charge, and one round is answered at
most once, also by a site that was restarted: the charge is durable before the vector leaves, and
`Start` brings the last round that was charged, so every round up to it is refused. A site that
lost its state has no key of an older session: it opens nothing of it and cannot send an old
vector again. A retry is a new round with new coins, new noise and a charge of its own.
What was computed for a round that is over is dropped. The caller takes each secret and each
encapsulation fresh from the operating system.
"""

from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np

from consilium.dp.noise import Ring
from consilium.dp.plan import NoiseShares, alone
from consilium.errors import LocalProtocolError, OutOfTurn, RemoteProtocolError
from consilium.federation.contribution import Assignment, Work
from consilium.federation.ledger import Charge, Receipt, charge_digest
from consilium.federation.messages import (
    FromCoordinator,
    FromSite,
    PlainUpdate,
    PrekeysWanted,
    Ready,
    RoundStart,
    model_digest,
    weights_from_bytes,
)
from consilium.secagg.job import SumJob
from consilium.secagg.kem import Encapsulator
from consilium.secagg.masks import Mask, MaskKeys
from consilium.secagg.messages import CiphertextTable, Roster, Survivors
from consilium.secagg.session import check_sites
from consilium.secagg.site import (
    Begin,
    Contribute,
    Encapsulate,
    Encapsulated,
    Introduced,
    Invited,
    Joined,
    Open,
    Prepare,
    SiteEvent,
    SiteState,
    Uploaded,
    plan_masks,
    site_step,
)
from consilium.wire import derive

LARGEST_RATE: Final = float(np.finfo(np.float32).max)  # of learning: what local training can hold

# -- Terms ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTerms:
    """What this site approved.

    Attributes:
        site: Its number on the roster.
        job: The secure sum, or None where the project has none.
        dimension: Number of weights of the model.
        work: What it computes.
        noise_alone: It adds the whole noise itself, not a share.
        terms: Digest of the project, 32 bytes.
        mechanism: What a charge pays for, in words.
        identity: Its Ed25519 private key, 32 bytes.
    """

    site: int
    job: SumJob | None
    dimension: int
    work: Work
    noise_alone: bool
    terms: bytes
    mechanism: str
    identity: bytes = field(repr=False)


def noise_shares(job: SumJob | None, *, members: int, noise_alone: bool) -> NoiseShares:
    """Returns who adds noise in a round of `members` sites; the same at every party."""
    if job is None or noise_alone:
        return alone(members)
    return NoiseShares(members=members, least=job.least(members), colluders=job.colluders)


# -- States ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Outside:
    """Knows the terms; has said nothing yet."""

    terms: SiteTerms


@final
@dataclass(frozen=True, slots=True)
class Joining:
    """Has introduced itself; waits for the roster, or has sent its ciphertexts for it."""

    terms: SiteTerms
    sum: Introduced | Encapsulated
    done: int  # last round answered, in any session


@final
@dataclass(frozen=True, slots=True)
class Waiting:
    """Between rounds, or waiting for the survivors of the last one. No sum: `sum` is None."""

    terms: SiteTerms
    sum: Joined | Uploaded | None
    done: int = 0  # last round answered, in any session


@final
@dataclass(frozen=True, slots=True)
class Computing:
    """Was asked for a contribution."""

    waiting: Waiting
    start: RoundStart


@final
@dataclass(frozen=True, slots=True)
class Charging:
    """Has its contribution; it may leave once it is paid."""

    waiting: Waiting
    start: RoundStart
    vector: Ring = field(repr=False)


State: TypeAlias = Outside | Joining | Waiting | Computing | Charging


# -- Events and commands --------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Start:
    """Introduce yourself; `done` is the last round that this site's ledger has a charge of."""

    secret: bytes = field(repr=False)
    done: int = 0


@final
@dataclass(frozen=True, slots=True)
class Received:
    """The coordinator said this; the rest is for what the answer may need."""

    message: FromCoordinator
    secret: bytes = field(repr=False)
    encapsulator: Encapsulator


@final
@dataclass(frozen=True, slots=True)
class Computed:
    """The contribution to `round` is ready."""

    round: int
    vector: Ring = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Failed:
    """The contribution to `round` cannot be computed: this site is out of this round only."""

    round: int


@final
@dataclass(frozen=True, slots=True)
class Charged:
    """The charge of `round` is durable."""

    round: int
    receipt: Receipt
    secret: bytes = field(repr=False)
    mask: Mask | None = field(default=None, repr=False)  # where it was expanded ahead


Event: TypeAlias = Start | Received | Computed | Failed | Charged


@final
@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to the coordinator."""

    message: FromSite


@final
@dataclass(frozen=True, slots=True)
class Compute:
    """Compute this contribution, then say `Computed` or `Failed`."""

    assignment: Assignment


@final
@dataclass(frozen=True, slots=True)
class Expand:
    """These masks will be wanted with `Charged`: expand them while the model computes."""

    keys: MaskKeys
    job: SumJob


@final
@dataclass(frozen=True, slots=True)
class Pay:
    """Make this charge durable, then say `Charged`."""

    charge: Charge


Command: TypeAlias = Tell | Expand | Compute | Pay
Outcome: TypeAlias = tuple[State, tuple[Command, ...]]


# -- Transitions ----------------------------------------------------------------------


def step(state: State, event: Event) -> Outcome:
    """Returns the next state, and what to do.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        RemoteProtocolError: The coordinator broke a rule.
        LocalProtocolError: A receipt is of another charge.
    """
    match state, event:
        case Outside(), Start():
            return _start(state.terms, event)
        case Joining(sum=Introduced(job=job)), Received(Roster() as roster) if job.post_quantum:
            return _encapsulate(state, Encapsulate(roster, event.encapsulator))
        case Joining(), Received(Roster() | CiphertextTable() as last):
            joined, _ = _sum_step(state.sum, last)
            return Waiting(state.terms, joined, state.done), ()
        case Waiting(), Received(PrekeysWanted(number), secret):
            return _prepare(state, number, secret)
        case Waiting(), Received(RoundStart() as start):
            return _begin_round(state, start, after=state.done)
        case Computing() | Charging(), Received(RoundStart() as start):
            return _begin_round(state.waiting, start, after=state.start.plan.round)
        case Waiting(), Received(Survivors() as survivors, secret):
            return _open(state, survivors, secret)
        case Computing(), Computed(number, vector) if number == state.start.plan.round:
            charge = _charge(state.waiting.terms, number)
            return Charging(state.waiting, state.start, vector), (Pay(charge),)
        case Computing(), Failed(number) if number == state.start.plan.round:
            return replace(state.waiting, done=number), ()
        case Charging(), Charged(number) if number == state.start.plan.round:
            return _release(state, event)
        case ((Waiting() | Computing() | Charging()), (Computed() | Failed() | Charged())):
            return state, ()  # of a round that is over
        case _:
            raise OutOfTurn(f"{_name(event)} while {type(state).__name__}")


def _name(event: Event) -> str:
    return type(event.message if isinstance(event, Received) else event).__name__


def _start(terms: SiteTerms, event: Start) -> Outcome:
    if terms.job is None:
        return Waiting(terms, None, event.done), (Tell(Ready(terms.site)),)
    invited = Invited(job=terms.job, site=terms.site, identity=terms.identity)
    introduced, said = site_step(invited, Begin(event.secret))
    assert isinstance(introduced, Introduced)
    return Joining(terms, introduced, event.done), tuple(Tell(message) for message in said)


def _encapsulate(state: Joining, event: Encapsulate) -> Outcome:
    encapsulated, said = site_step(state.sum, event)
    assert isinstance(encapsulated, Encapsulated)
    return replace(state, sum=encapsulated), tuple(Tell(message) for message in said)


def _sum_step(state: SiteState, event: SiteEvent) -> tuple[Joined | Uploaded, tuple[Command, ...]]:
    state, said = site_step(state, event)
    assert isinstance(state, Joined | Uploaded)
    return state, tuple(Tell(message) for message in said)


def _prepare(state: Waiting, number: int, secret: bytes) -> Outcome:
    if state.sum is None:
        raise RemoteProtocolError("prekeys were asked for; this project has no secure sum")
    try:
        joined, said = _sum_step(state.sum, Prepare(round=number, secret=secret))
    except LocalProtocolError as error:  # the number is the coordinator's
        raise RemoteProtocolError(str(error)) from None
    return replace(state, sum=joined), said


def _begin_round(state: Waiting, start: RoundStart, *, after: int) -> Outcome:
    plan, terms = start.plan, state.terms
    if plan.round <= after or terms.site not in plan.members:
        raise RemoteProtocolError(
            f"round {plan.round} was started; expected one after {after} with this site in it"
        )
    if terms.job is not None:
        roster = range(len(terms.job.identities))
        check_sites(plan.members, among=roster, least=terms.job.threshold)
    if plan.model != model_digest(start.weights):
        raise RemoteProtocolError("weights do not match the digest that the round is bound to")
    if not 0 <= start.learning_rate <= LARGEST_RATE:
        raise RemoteProtocolError(f"learning rate {start.learning_rate}; expected 0 to 3.4e38")
    assignment = Assignment(
        round=plan.round,
        weights=weights_from_bytes(start.weights, terms.dimension),
        learning_rate=start.learning_rate,
        shares=noise_shares(terms.job, members=len(plan.members), noise_alone=terms.noise_alone),
    )
    expand: tuple[Command, ...] = ()
    if state.sum is not None and terms.job is not None:
        expand = (Expand(plan_masks(state.sum, plan), terms.job),)
    return Computing(state, start), (*expand, Compute(assignment))


def _charge(terms: SiteTerms, number: int) -> Charge:
    return Charge(site=terms.site, round=number, terms=terms.terms, mechanism=terms.mechanism)


def _release(state: Charging, event: Charged) -> Outcome:
    waiting, plan = state.waiting, state.start.plan
    if event.receipt.charge != charge_digest(_charge(waiting.terms, plan.round)):
        raise LocalProtocolError("the receipt is of another charge; nothing was sent")
    done = replace(waiting, done=plan.round)
    if waiting.sum is None:
        wire_bytes = np.ascontiguousarray(state.vector).tobytes()
        return done, (Tell(PlainUpdate(waiting.terms.site, plan.round, wire_bytes)),)
    contribute = Contribute(
        plan=plan,
        vector=state.vector,
        next_secret=derive(event.secret, "next prekeys")[:32],
        mask=event.mask,
    )
    uploaded, said = _sum_step(waiting.sum, contribute)
    return replace(done, sum=uploaded), said


def _open(state: Waiting, survivors: Survivors, secret: bytes) -> Outcome:
    if state.sum is None:
        raise RemoteProtocolError("an opening was asked for; this project has no secure sum")
    joined, said = _sum_step(state.sum, Open(survivors=survivors, secret=secret))
    return replace(state, sum=joined), said
