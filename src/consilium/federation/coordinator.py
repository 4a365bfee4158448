# SPDX-License-Identifier: Apache-2.0
"""The coordinator's side of training: its states, its events and every transition.

    Gathering --Hello | Ready--> Gathering, then Agreeing, Preparing or Collecting
    Agreeing --Ciphertexts--> Agreeing, then Preparing      (post-quantum job)
    Preparing --Prekeys--> Preparing, then Collecting
    Collecting --Upload | PlainUpdate--> Collecting, then Unmasking, Looking or the next round
    Unmasking --Opening--> Unmasking, then Looking or the next round
    Looking --Looked--> the next round              any --last round, budget, patience--> Finished

`Deadline` goes on with the sites that answered, or abandons the round and starts another; without
a secure sum, which needs every site, it changes nothing while one is missing. Any other pair
raises `OutOfTurn`; a bad message of one site raises and changes nothing.

Guarantees: what it learns of the sites' data are opened sums; everything it does with them is
post-processing. It starts no round that the budget does not pay for, whether or not an earlier
one opened. No privacy rests on it: sites charge, noise and refuse by themselves.
"""

from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np

from consilium.dp.noise import Ring
from consilium.errors import OutOfTurn, RemoteProtocolError, RoundAborted
from consilium.federation.contribution import GradientWork, TrainingWork, Work
from consilium.federation.messages import (
    FromCoordinator,
    FromSite,
    PlainUpdate,
    PrekeysWanted,
    Ready,
    RoundStart,
    model_digest,
    weights_to_bytes,
)
from consilium.federation.plain_sum import PlainSum, add_plainly
from consilium.federation.progress import (
    Agenda,
    Progress,
    Validation,
    looked,
    out_of_patience,
    rate_of_next,
    released,
    step_by_change,
    step_by_gradient,
)
from consilium.federation.site import noise_shares
from consilium.learning.parameters import Vector
from consilium.secagg import coordinator as sums
from consilium.secagg.job import SumJob
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

MOST_ABANDONED: Final = 20  # rounds in a run

# -- Terms ----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CoordinatorTerms:
    """What the coordinator runs.

    Attributes:
        sites: How many sites the project has.
        job: The secure sum, or None where the project has none.
        work: What sites compute.
        noise_alone: Every site adds the whole noise.
        agenda: Rounds, schedule, optimiser, looks.
        steps_allowed: Rounds that the budget pays for; None without a guarantee.
    """

    sites: int
    job: SumJob | None
    work: Work
    noise_alone: bool
    agenda: Agenda
    steps_allowed: int | None


# -- States ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gathering:
    """Waiting for every site's first word."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Gathering | None
    ready: frozenset[int] = frozenset()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Agreeing:
    """The roster is out; waiting for the ciphertexts of its sites."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Agreeing


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing:
    """Waiting for the prekeys of the next round."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Ready


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Collecting:
    """A round is out; waiting for its vectors."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Collecting | PlainSum


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Unmasking:
    """The survivors are out; waiting for their openings."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Unmasking


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """A model is being evaluated on the validation records."""

    terms: CoordinatorTerms
    progress: Progress
    sum: sums.Ready | PlainSum


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Training is over, because of `reason`."""

    progress: Progress
    reason: str


State: TypeAlias = Gathering | Agreeing | Preparing | Collecting | Unmasking | Looking | Finished


# -- Events and commands --------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Received:
    """A site said this."""

    message: FromSite


@final
@dataclass(frozen=True, slots=True)
class Looked:
    """The look that was asked for."""

    validation: Validation


@final
@dataclass(frozen=True, slots=True)
class Deadline:
    """The caller's clock ran out for this phase."""


Event: TypeAlias = Received | Looked | Deadline


@final
@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to each of these sites."""

    sites: tuple[int, ...]
    message: FromCoordinator


@final
@dataclass(frozen=True, slots=True)
class Look:
    """Evaluate these weights on the validation records, then say `Looked`."""

    round: int
    weights: Vector = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Save:
    """Make this progress durable before anything that follows it is sent."""

    progress: Progress


Command: TypeAlias = Tell | Look | Save
Outcome: TypeAlias = tuple[State, tuple[Command, ...]]


# -- Transitions ----------------------------------------------------------------------


def start(terms: CoordinatorTerms, progress: Progress) -> Gathering:
    """Returns the first state of a session that goes on from `progress`."""
    gathering = None if terms.job is None else sums.Gathering(job=terms.job)
    return Gathering(terms=terms, progress=progress, sum=gathering)


def step(state: State, event: Event) -> Outcome:
    """Returns the next state, and what to do.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        RemoteProtocolError: A site broke a rule; `sender` names it.
    """
    match state, event:
        case Gathering(), Received(Hello() | Ready() as word):
            return _on_first_word(state, word)
        case Gathering(), Deadline():
            return _close_roster(state)
        case Agreeing(), Received(Ciphertexts() as said):
            return _on_ciphertexts(state, said)
        case Agreeing(), Deadline():
            return _close_ciphertexts(state)
        case Preparing(), Received(Prekeys() as prekeys):
            return _on_prekeys(state, prekeys)
        case ((Preparing() | Unmasking()), Received(Upload(prekeys=Prekeys()) as late)):
            return _on_late_upload(state, late)
        case Preparing(), Deadline():
            return _start_round(state.terms, state.progress, state.sum)
        case Collecting(), Received(Upload() | PlainUpdate() as upload):
            return _on_upload(state, upload)
        case Collecting(), Deadline():
            return _close_uploads(state)
        case Unmasking(), Received(Opening() as opening):
            return _on_opening(state, opening)
        case Unmasking(), Deadline():
            return _finish_sum(state)
        case Looking(), Looked(validation):
            progress = looked(state.terms.agenda, state.progress, validation)
            return _next_round(state.terms, progress, state.sum)
        case _:
            name = type(event.message if isinstance(event, Received) else event).__name__
            raise OutOfTurn(f"{name} while {type(state).__name__}")


# -- Gathering ------------------------------------------------------------------------


def _on_first_word(state: Gathering, word: Hello | Ready) -> Outcome:
    if word.site in state.ready or not 0 <= word.site < state.terms.sites:
        raise RemoteProtocolError(f"site {word.site} is unknown or already here", word.site)
    gathering = state.sum
    if isinstance(word, Hello) != (gathering is not None):
        raise RemoteProtocolError("this site expects another kind of sum", word.site)
    if gathering is not None and isinstance(word, Hello):
        after, _ = sums.coordinator_step(gathering, word)
        assert isinstance(after, sums.Gathering)
        gathering = after
    state = replace(state, sum=gathering, ready=state.ready | {word.site})
    if len(state.ready) < state.terms.sites:
        return state, ()
    return _close_roster(state)


def _close_roster(state: Gathering) -> Outcome:
    """Goes on with the sites that are here; waits longer while they are too few."""
    members = tuple(sorted(state.ready))
    if state.sum is None:
        if len(members) < state.terms.sites:
            return state, ()
        plain = PlainSum(members=members, total=np.zeros(0, np.uint32))
        return _next_round(state.terms, state.progress, plain)
    if len(members) < state.sum.job.threshold:
        return state, ()
    closed, (roster,) = sums.coordinator_step(state.sum, sums.CloseRoster())
    assert isinstance(closed, sums.Agreeing | sums.Ready)
    assert isinstance(roster, Roster)
    if isinstance(closed, sums.Agreeing):
        agreeing = Agreeing(terms=state.terms, progress=state.progress, sum=closed)
        return agreeing, (Tell(members, roster),)
    after, commands = _next_round(state.terms, state.progress, closed)
    return after, (Tell(members, roster), *commands)


def _on_ciphertexts(state: Agreeing, said: Ciphertexts) -> Outcome:
    agreeing, _ = sums.coordinator_step(state.sum, said)
    assert isinstance(agreeing, sums.Agreeing)
    state = replace(state, sum=agreeing)
    complete = len(agreeing.said) == len(agreeing.roster.sites)
    return _close_ciphertexts(state) if complete else (state, ())


def _close_ciphertexts(state: Agreeing) -> Outcome:
    """Goes on with the sites that are still here; waits longer while they are too few."""
    if len(state.sum.said) < state.sum.roster.job.threshold:
        return state, ()
    ready, (table,) = sums.coordinator_step(state.sum, sums.CloseCiphertexts())
    assert isinstance(ready, sums.Ready)
    assert isinstance(table, CiphertextTable)
    after, commands = _next_round(state.terms, state.progress, ready)
    return after, (Tell(ready.session.sites, table), *commands)


# -- Rounds ---------------------------------------------------------------------------


def _next_round(
    terms: CoordinatorTerms, progress: Progress, sum_: sums.Ready | PlainSum
) -> Outcome:
    reason = _reason_to_stop(terms, progress)
    if reason is not None:
        return Finished(progress=progress, reason=reason), (Save(progress),)
    if isinstance(sum_, PlainSum):
        after, commands = _start_plain_round(terms, progress, sum_)
        return after, (Save(progress), *commands)
    number = progress.attempts + 1
    missing = tuple(set(sum_.session.sites) - set(sum_.pending.get(number, ())))
    if missing:
        asked = Tell(tuple(sorted(missing)), PrekeysWanted(number))
        return Preparing(terms=terms, progress=progress, sum=sum_), (Save(progress), asked)
    after, commands = _start_round(terms, progress, sum_)
    return after, (Save(progress), *commands)


def _reason_to_stop(terms: CoordinatorTerms, progress: Progress) -> str | None:
    if progress.round >= terms.agenda.rounds:
        return "all rounds are done"
    if terms.steps_allowed is not None and progress.attempts >= terms.steps_allowed:
        return "the next step would exceed the privacy budget"
    if progress.attempts - progress.round > MOST_ABANDONED:
        return f"more than {MOST_ABANDONED} rounds were abandoned: too many sites are lost"
    if out_of_patience(terms.agenda, progress):
        return "no better validation score within the patience"
    return None


def _start_round(terms: CoordinatorTerms, progress: Progress, ready: sums.Ready) -> Outcome:
    number, weights = progress.attempts + 1, weights_to_bytes(progress.weights)
    try:
        collecting, (plan,) = sums.coordinator_step(
            ready, sums.StartRound(round=number, model=model_digest(weights))
        )
    except RoundAborted:  # too few prekeys yet: keep waiting
        return Preparing(terms=terms, progress=progress, sum=ready), ()
    assert isinstance(collecting, sums.Collecting)
    assert isinstance(plan, Plan)
    said = RoundStart(plan, weights, rate_of_next(terms.agenda, progress))
    progress = replace(progress, attempts=number)
    after = Collecting(terms=terms, progress=progress, sum=collecting)
    return after, (Tell(plan.members, said),)


def _start_plain_round(terms: CoordinatorTerms, progress: Progress, sum_: PlainSum) -> Outcome:
    number, weights = progress.attempts + 1, weights_to_bytes(progress.weights)
    plan = Plan(number, sum_.members, model_digest(weights))
    said = RoundStart(plan, weights, rate_of_next(terms.agenda, progress))
    empty = PlainSum(members=sum_.members, total=np.zeros(terms.work.width(), terms.work.word()))
    progress = replace(progress, attempts=number)
    after = Collecting(terms=terms, progress=progress, sum=empty)
    return after, (Tell(plan.members, said),)


def _on_prekeys(state: Preparing, prekeys: Prekeys) -> Outcome:
    ready, _ = sums.coordinator_step(state.sum, prekeys)
    assert isinstance(ready, sums.Ready)
    prepared = ready.pending.get(state.progress.attempts + 1, {})
    if len(prepared) < len(ready.session.sites):
        return replace(state, sum=ready), ()
    return _start_round(state.terms, state.progress, ready)


def _on_late_upload(state: Preparing | Unmasking, late: Upload) -> Outcome:
    """The vector came too late for its sum; the prekeys that rode on it did not."""
    assert late.prekeys is not None
    if late.prekeys.site != late.site:
        raise RemoteProtocolError("prekeys of another site ride on a late upload", late.site)
    if isinstance(state, Preparing):
        return _on_prekeys(state, late.prekeys)
    unmasking, _ = sums.coordinator_step(state.sum, late.prekeys)
    assert isinstance(unmasking, sums.Unmasking)
    return replace(state, sum=unmasking), ()


# -- Sums -----------------------------------------------------------------------------


def _on_upload(state: Collecting, upload: Upload | PlainUpdate) -> Outcome:
    match state.sum, upload:
        case PlainSum(), PlainUpdate():
            plain = add_plainly(state.sum, upload, state.progress.attempts)
            state = replace(state, sum=plain)
            complete = len(plain.uploaded) == len(plain.members)
        case sums.Collecting(), Upload():
            collecting, _ = sums.coordinator_step(state.sum, upload)
            assert isinstance(collecting, sums.Collecting)
            state = replace(state, sum=collecting)
            complete = len(collecting.uploaded) == len(collecting.plan.members)
        case _:
            raise RemoteProtocolError("this upload is of another kind of sum", upload.site)
    return _close_uploads(state) if complete else (state, ())


def _close_uploads(state: Collecting) -> Outcome:
    """Goes on with the vectors that came, or with another round where they are too few.

    Without a secure sum every site is needed: it waits longer while one is missing.
    """
    if isinstance(state.sum, PlainSum):
        if len(state.sum.uploaded) < len(state.sum.members):
            return state, ()  # all are needed; another round would cost the others a charge
        progress = _moved(state.terms, state.progress, state.sum.total, len(state.sum.members))
        return _after_sum(state.terms, progress, state.sum)
    try:
        unmasking, (survivors,) = sums.coordinator_step(state.sum, sums.CloseUploads())
    except RoundAborted:
        return _abandon(state, state.sum)
    assert isinstance(unmasking, sums.Unmasking)
    assert isinstance(survivors, Survivors)
    after = Unmasking(terms=state.terms, progress=state.progress, sum=unmasking)
    return after, (Tell(survivors.sites, survivors),)


def _on_opening(state: Unmasking, opening: Opening) -> Outcome:
    unmasking, _ = sums.coordinator_step(state.sum, opening)
    assert isinstance(unmasking, sums.Unmasking)
    state = replace(state, sum=unmasking)
    complete = len(unmasking.openings) == len(unmasking.closed.survivors)
    return _finish_sum(state) if complete else (state, ())


def _finish_sum(state: Unmasking) -> Outcome:
    members = len(state.sum.closed.plan.members)
    try:
        ready, (total,) = sums.coordinator_step(state.sum, sums.Finish())
    except RoundAborted:
        return _abandon(state, state.sum)
    assert isinstance(ready, sums.Ready)
    assert isinstance(total, sums.Total)
    progress = _moved(state.terms, state.progress, total.vector, members)
    return _after_sum(state.terms, progress, ready)


def _abandon(state: Collecting | Unmasking, sum_: sums.Collecting | sums.Unmasking) -> Outcome:
    ready, _ = sums.coordinator_step(sum_, sums.AbandonRound())
    assert isinstance(ready, sums.Ready)
    return _next_round(state.terms, state.progress, ready)


def _moved(terms: CoordinatorTerms, progress: Progress, total: Ring, members: int) -> Progress:
    match terms.work:
        case GradientWork() as work:
            shares = noise_shares(terms.job, members=members, noise_alone=terms.noise_alone)
            return step_by_gradient(terms.agenda, progress, work.gradient(total, shares))
        case TrainingWork() as work:
            return step_by_change(progress, work.change(total))


def _after_sum(terms: CoordinatorTerms, progress: Progress, sum_: sums.Ready | PlainSum) -> Outcome:
    last = _reason_to_stop(terms, progress) is not None
    if progress.round % terms.agenda.evaluate_every and not last:
        return _next_round(terms, progress, sum_)
    after = Looking(terms=terms, progress=progress, sum=sum_)
    return after, (Look(progress.round, released(progress)),)
