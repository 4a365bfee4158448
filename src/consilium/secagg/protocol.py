# SPDX-License-Identifier: Apache-2.0
"""The secure sum with all parties in one place: the documentation, and the oracle of its steps."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, final

from consilium import wire
from consilium.secagg.coordinator import (
    CloseCiphertexts,
    CloseRoster,
    CloseUploads,
    CoordinatorState,
    Finish,
    Gathering,
    Outcome,
    StartRound,
    Total,
    coordinator_step,
)
from consilium.secagg.job import SumJob, Vector
from consilium.secagg.kem import Encapsulator
from consilium.secagg.messages import CiphertextTable, Plan, Roster, Survivors
from consilium.secagg.site import (
    Begin,
    Contribute,
    Encapsulate,
    Invited,
    Open,
    Prepare,
    SiteState,
    site_step,
)

Sent = TypeVar("Sent", Roster, CiphertextTable, Plan, Survivors, Total)


@final
@dataclass(frozen=True, slots=True)
class Randomness:
    """32 bytes for every secret, and what draws the encapsulations of a post-quantum job."""

    secret: bytes = field(repr=False)
    encapsulator: Encapsulator | None = None


def run_secure_sum(
    job: SumJob,
    identities: Sequence[bytes],
    vectors: Sequence[Vector],
    randomness: Randomness,
    *,
    lost: Collection[int] = (),
) -> Total:
    """Returns the sum of the vectors, as the parties would compute it in their first round.

    Args:
        job: What they all approved.
        identities: Ed25519 private key of each site.
        vectors: Input of each site, shape (length,).
        randomness: Stands for every party's own.
        lost: Sites that stop between the plan and their upload.

    Raises:
        RoundAborted: Too many sites are lost.
        OutOfTurn: The job is post-quantum, and nothing draws its encapsulations.
    """

    def fresh(site: int, use: str) -> bytes:
        return wire.derive(randomness.secret, "secagg run", use, site)[:32]

    coordinator: CoordinatorState = Gathering(job=job)
    sites: list[SiteState] = [
        Invited(job=job, site=k, identity=identity) for k, identity in enumerate(identities)
    ]

    # Once a session: each site says hello; from the roster it agrees a chain with every other.
    for k, state in enumerate(sites):
        sites[k], (hello,) = site_step(state, Begin(fresh(k, "begin")))
        coordinator, _ = coordinator_step(coordinator, hello)
    coordinator, sent = coordinator_step(coordinator, CloseRoster())
    roster = _only(Roster, sent)
    last: Roster | CiphertextTable = roster
    if job.post_quantum and randomness.encapsulator is not None:
        # Where the job says so, each site also sends every higher one an ML-KEM secret.
        for k, state in enumerate(sites):
            encapsulate = Encapsulate(roster, randomness.encapsulator)
            sites[k], (ciphertexts,) = site_step(state, encapsulate)
            coordinator, _ = coordinator_step(coordinator, ciphertexts)
        coordinator, sent = coordinator_step(coordinator, CloseCiphertexts())
        last = _only(CiphertextTable, sent)
    sites = [site_step(state, last)[0] for state in sites]

    # Before a round: each site shares out two secrets, one that opens its own mask, one that
    # opens its pair masks. Later they ride on the upload of the round before.
    for k, state in enumerate(sites):
        prepare = Prepare(round=1, secret=fresh(k, "prepare"))
        sites[k], (prekeys,) = site_step(state, prepare)
        coordinator, _ = coordinator_step(coordinator, prekeys)

    # First leg: each member masks its vector for this plan; the coordinator adds them up.
    start = StartRound(round=1, model=wire.digest("secagg run model"))
    coordinator, sent = coordinator_step(coordinator, start)
    plan = _only(Plan, sent)
    for k in sorted(set(plan.members) - set(lost)):
        sites[k], (upload,) = site_step(sites[k], Contribute(plan=plan, vector=vectors[k]))
        coordinator, _ = coordinator_step(coordinator, upload)

    # Second leg: each survivor reveals its pads for the self secrets of the survivors and the
    # pair secrets of the others; they open once enough sites answered for the same survivors.
    coordinator, sent = coordinator_step(coordinator, CloseUploads())
    survivors = _only(Survivors, sent)
    for k in survivors.sites:
        answer = Open(survivors=survivors, secret=fresh(k, "open"))
        sites[k], (opening,) = site_step(sites[k], answer)
        coordinator, _ = coordinator_step(coordinator, opening)

    # The coordinator removes the masks that did not cancel.
    coordinator, sent = coordinator_step(coordinator, Finish())
    return _only(Total, sent)


def _only(kind: type[Sent], sent: tuple[Outcome, ...]) -> Sent:
    (message,) = sent
    if not isinstance(message, kind):
        raise TypeError(f"{type(message).__name__} where {kind.__name__} was due")
    return message
