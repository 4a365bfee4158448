# SPDX-License-Identifier: Apache-2.0
"""A site's side of the secure sum: its states, its events and every transition between them.

    Invited --Begin--> Introduced --Roster--> Joined --Contribute--> Uploaded --Open--> Joined
    Joined | Uploaded --Prepare--> the same        Uploaded --Contribute--> Uploaded
    Introduced --Encapsulate--> Encapsulated --CiphertextTable--> Joined    (post-quantum job)

The second Contribute leaves a round that never opened behind. Any other pair raises `OutOfTurn`.

Guarantees, against a malicious coordinator with up to `colluders` sites:

- A vector leaves only under masks. The masks go away only in a sum over at least
  `least(members)` survivors, `honest(members)` of them honest, and only once a round.
- One list. An honest site seals its pads for one list of survivors. To open one honest seal
  takes `threshold` - 1 answers of others for that same list, so at least `threshold` -
  `colluders` honest sites gave it. Two lists would need 2 * (threshold - colluders) <=
  sites - colluders, which the job excludes. Shares of a self secret therefore come out
  only for survivors, of a pair secret only for the others: never both of one site.
- One vector. A round number is contributed to once, and numbers only go up.
- One model. The plan, with the model's digest, is in every mask key: sites that were shown
  different plans add masks that do not cancel.
- The past. After Open, the state holds nothing that unmasks the round or any before it.

Every secret is 32 bytes, uniform, from the caller, and for one event only. AN OLDER STATE MUST
NEVER BE USED AGAIN: two vectors under one round's masks show their difference. A state need not
outlive its process: a site that lost it joins a new session. That it then answers no round
again takes a durable mark of what it answered, which is the caller's.
Source: Bonawitz et al. 2017 (ia.cr/2017/281), figure 4; the sealed opening is ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias, final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consilium.errors import ConfigError, LocalProtocolError, OutOfTurn, RemoteProtocolError
from consilium.secagg import agreement, keys, shamir
from consilium.secagg.job import DIGEST_BYTES, SumJob, Vector
from consilium.secagg.kem import Encapsulator
from consilium.secagg.masks import Mask, MaskKeys, add_masks
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    FromSite,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)
from consilium.secagg.session import (
    Session,
    bind_ciphertexts,
    check_sites,
    make_session,
    say_ciphertexts,
    say_hello,
)

SECRET_BYTES: Final = 32
MOST_STEPS: Final = 10_000  # rounds that a site will step its chains at once


# -- States ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """Knows the job and its own Ed25519 private key.

    Raises:
        ConfigError: The job names another identity for this site.
    """

    job: SumJob
    site: int
    identity: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Compares the identity with the job."""
        public = Ed25519PrivateKey.from_private_bytes(self.identity).public_key()
        if public.public_bytes_raw() not in self.job.identities[self.site : self.site + 1]:
            raise ConfigError(
                f"the job names another identity for site {self.site}; "
                "compare the job file with this site's key"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Introduced:
    """Has said hello; waits for the roster with the secret behind its key."""

    job: SumJob
    hello: Hello
    identity: bytes = field(repr=False)
    secret: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Encapsulated:
    """Has said its ciphertexts for the roster; waits for those of the others."""

    roster: Session
    said: Ciphertexts
    secret: bytes = field(repr=False)
    agreed: Mapping[int, bytes] = field(repr=False)  # X25519 secrets by peer, and its own
    given: Mapping[int, bytes] = field(repr=False)  # ML-KEM secrets, by higher peer


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """Shares a chain with every site of the session; `chains` are those of round `at`."""

    session: Session
    site: int
    chains: Mapping[int, bytes] = field(repr=False)  # by peer, and one with itself
    at: int = 0
    prepared: Mapping[int, int] = field(default_factory=dict[int, int], repr=False)  # round: secret
    done: int = 0  # last round contributed to


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """Has contributed to `plan`, whose survivors are not known yet."""

    joined: Joined
    plan: Plan


SiteState: TypeAlias = Invited | Introduced | Encapsulated | Joined | Uploaded


# -- Events ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Begin:
    """Start a session with a fresh key."""

    secret: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class Encapsulate:
    """The roster of a post-quantum job: draw a secret for each higher site on it."""

    roster: Roster
    encapsulator: Encapsulator


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Prepare:
    """Share out the secrets of a coming round."""

    round: int
    secret: bytes = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Contribute:
    """Mask `vector` for the round of `plan`; with `next_secret`, prepare the round after it.

    Who has expanded the masks of `plan_masks` ahead hands them over as `mask`.
    """

    plan: Plan
    vector: Vector = field(repr=False)
    next_secret: bytes | None = field(default=None, repr=False)
    mask: Mask | None = field(default=None, repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """Answer for this list of survivors."""

    survivors: Survivors
    secret: bytes = field(repr=False)


SiteEvent: TypeAlias = Begin | Roster | Encapsulate | CiphertextTable | Prepare | Contribute | Open


# -- Transitions ----------------------------------------------------------------------


def site_step(state: SiteState, event: SiteEvent) -> tuple[SiteState, tuple[FromSite, ...]]:
    """Returns the next state of a site, and what to send to the coordinator.

    Raises:
        OutOfTurn: `event` means nothing in `state`.
        RemoteProtocolError: The coordinator's part of the event breaks a rule above.
        LocalProtocolError: The caller's part does.
    """
    match state, event:
        case Invited(), Begin():
            return _begin(state, event.secret)
        case Introduced(), Roster() if not state.job.post_quantum:
            return _join(state, event), ()
        case Introduced(), Encapsulate() if state.job.post_quantum:
            return _encapsulate(state, event)
        case Encapsulated(), CiphertextTable():
            return _join_hybrid(state, event), ()
        case Joined(), Prepare():
            joined, prekeys = _prepare(state, event.round, event.secret)
            return joined, (prekeys,)
        case Uploaded(), Prepare():
            joined, prekeys = _prepare(state.joined, event.round, event.secret)
            return replace(state, joined=joined), (prekeys,)
        case Joined(), Contribute():
            return _contribute(state, event)
        case Uploaded(), Contribute():
            return _contribute(state.joined, event)
        case Uploaded(), Open():
            return _open(state, event)
        case _:
            raise OutOfTurn(f"{type(event).__name__} while {type(state).__name__}")


def plan_masks(state: Joined | Uploaded, plan: Plan) -> MaskKeys:
    """Returns the keys of the masks that this site's vector will get in the round of `plan`.

    Raises:
        RemoteProtocolError: The plan breaks a rule.
    """
    joined = state.joined if isinstance(state, Uploaded) else state
    site, self_secret = joined.site, _check_plan(joined, plan)
    digest = keys.plan_digest(joined.session.digest, plan)
    chains = _chains_at(joined, plan.round)
    pairs = {
        peer: keys.pair_mask(keys.root(chains[peer]), digest)
        for peer in plan.members
        if peer != site
    }
    return MaskKeys(
        plan=digest,
        added=(
            keys.self_mask(self_secret, digest),
            *(key for peer, key in pairs.items() if site < peer),
        ),
        subtracted=tuple(key for peer, key in pairs.items() if peer < site),
    )


def _begin(state: Invited, secret: bytes) -> tuple[Introduced, tuple[Hello]]:
    _check_secret(secret)
    key = agreement.session_key(state.job, secret)
    hello = say_hello(state.job, state.site, state.identity, key)
    after = Introduced(job=state.job, hello=hello, identity=state.identity, secret=secret)
    return after, (hello,)


def _join(state: Introduced, roster: Roster) -> Joined:
    session, site = _session(state, roster), state.hello.site
    return _joined(session, site, agreement.agree_with_all(state.secret, site, roster.hellos))


def _encapsulate(state: Introduced, event: Encapsulate) -> tuple[Encapsulated, tuple[Ciphertexts]]:
    session, hellos, site = _session(state, event.roster), event.roster.hellos, state.hello.site
    given, table = agreement.encapsulate_to_higher(event.encapsulator, site, hellos)
    said = say_ciphertexts(session, site, state.identity, table)
    agreed = agreement.agree_with_all(state.secret, site, hellos)
    after = Encapsulated(roster=session, said=said, secret=state.secret, agreed=agreed, given=given)
    return after, (said,)


def _join_hybrid(state: Encapsulated, table: CiphertextTable) -> Joined:
    if state.said not in table.entries:
        raise RemoteProtocolError("table without this site's ciphertexts; ask for a new session")
    session, site = bind_ciphertexts(state.roster, table.entries), state.said.site
    taken = agreement.decapsulate_from_lower(state.secret, site, state.roster.sites, table.entries)
    return _joined(session, site, agreement.mix(site, state.agreed, {**state.given, **taken}))


def _session(state: Introduced, roster: Roster) -> Session:
    if state.hello not in roster.hellos:
        raise RemoteProtocolError("roster without this site's own hello; ask for a new session")
    return make_session(state.job, roster.hellos)


def _joined(session: Session, site: int, shared: Mapping[int, bytes]) -> Joined:
    chains = {
        peer: keys.first_chain(shared[peer], session.digest, site, peer) for peer in session.sites
    }
    return Joined(session=session, site=site, chains=chains)


def _prepare(state: Joined, number: int, secret: bytes) -> tuple[Joined, Prekeys]:
    _check_secret(secret)
    if number <= state.done or number in state.prepared:
        raise LocalProtocolError(
            f"prekeys of round {number} were already given, or it is past; prepare a later round"
        )
    chains = _chains_at(state, number)
    secret = keys.fresh(secret, "prekeys", state.session.digest, number)
    self_secret, self_shares, self_commitments = _deal(state, chains, "self", secret)
    pair_secret, pair_shares, pair_commitments = _deal(state, chains, "pair", secret)
    roots = b"".join(keys.root(chains[peer]) for peer in state.session.sites if peer != state.site)
    prekeys = Prekeys(
        site=state.site,
        round=number,
        self_shares=self_shares,
        self_commitments=self_commitments,
        pair_shares=pair_shares,
        pair_commitments=pair_commitments,
        envelope=keys.envelope(pair_secret).encrypt(keys.ONE_NONCE, roots, None),
    )
    return replace(state, prepared={**state.prepared, number: self_secret}), prekeys


def _contribute(state: Joined, event: Contribute) -> tuple[Uploaded, tuple[Upload]]:
    plan, job = event.plan, state.session.job
    mask_keys = plan_masks(state, plan)
    _check_vector(job, event.vector)
    masked = _masked(job, event, mask_keys)
    after = _erase_before(replace(state, done=plan.round), plan.round)
    prekeys = None
    if event.next_secret is not None:
        after, prekeys = _prepare(after, plan.round + 1, event.next_secret)
    upload = Upload(state.site, plan.round, masked.view(np.uint8).data.toreadonly(), prekeys)
    return Uploaded(joined=after, plan=plan), (upload,)


def _masked(job: SumJob, event: Contribute, mask_keys: MaskKeys) -> Vector:
    mask = event.mask
    if mask is None:
        masked = event.vector.copy()
        add_masks(masked, add=mask_keys.added, subtract=mask_keys.subtracted)
        return masked
    if mask.plan != mask_keys.plan:
        raise LocalProtocolError(f"the mask is not of the plan of round {event.plan.round}")
    _check_vector(job, mask.words)
    return np.add(event.vector, mask.words)


def _open(state: Uploaded, event: Open) -> tuple[Joined, tuple[Opening]]:
    _check_secret(event.secret)
    joined, plan, survivors = state.joined, state.plan, event.survivors.sites
    _check_survivors(state, event.survivors)
    digest = keys.opening_digest(keys.plan_digest(joined.session.digest, plan), survivors)
    secret = keys.fresh(event.secret, "opening", digest)
    pads = shamir.pack(
        keys.share_pad(joined.chains[dealer], "self" if dealer in survivors else "pair", dealer)
        for dealer in plan.members
    )
    seal_secret = keys.fresh_element(secret, "seal")
    others = [peer for peer in survivors if peer != joined.site]
    gate_pads = {peer: keys.gate_pad(joined.chains[peer], digest, joined.site) for peer in others}
    gate_shares, commitments = keys.share_out(
        seal_secret, joined.session.job.threshold - 1, keys.fresh(secret, "seal"), gate_pads
    )
    opening = Opening(
        site=joined.site,
        round=plan.round,
        sealed=keys.seal(seal_secret).encrypt(keys.ONE_NONCE, pads, digest),
        gate_shares=gate_shares,
        commitments=commitments,
        tokens=shamir.pack(keys.gate_pad(joined.chains[peer], digest, peer) for peer in others),
    )
    return _erase_before(joined, plan.round + 1), (opening,)


# -- Sharing out ----------------------------------------------------------------------


def _deal(
    state: Joined, chains: Mapping[int, bytes], kind: keys.Kind, secret: bytes
) -> tuple[int, bytes, bytes]:
    """Returns a fresh secret of this kind, its padded shares and their commitments."""
    value = keys.fresh_element(secret, kind)
    pads = {peer: keys.share_pad(chains[peer], kind, state.site) for peer in state.session.sites}
    randomness = keys.fresh(secret, kind)
    return value, *keys.share_out(value, state.session.job.threshold, randomness, pads)


# -- Chains ---------------------------------------------------------------------------


def _chains_at(state: Joined, number: int) -> dict[int, bytes]:
    steps = number - state.at
    if not 0 <= steps <= MOST_STEPS:
        raise LocalProtocolError(
            f"round {number} while the keys stand at round {state.at}; expected at most "
            f"{MOST_STEPS} rounds ahead; start a new session"
        )
    return keys.advance(state.chains, steps)


def _erase_before(state: Joined, number: int) -> Joined:
    """Returns the state without anything that unmasks a round before `number`."""
    prepared = {r: secret for r, secret in state.prepared.items() if r > state.done}
    return replace(state, chains=_chains_at(state, number), at=number, prepared=prepared)


# -- Rules ----------------------------------------------------------------------------


def _check_secret(secret: bytes) -> None:
    if len(secret) != SECRET_BYTES:
        raise LocalProtocolError(f"secret of {len(secret)} bytes; expected {SECRET_BYTES}")


def _check_vector(job: SumJob, vector: Vector) -> None:
    if vector.shape != (job.length,) or vector.dtype != job.word:
        raise LocalProtocolError(
            f"vector of shape {vector.shape} and type {vector.dtype}; expected ({job.length},) "
            f"and {job.word}"
        )


def _check_plan(state: Joined, plan: Plan) -> int:
    """Returns the self secret of the plan's round."""
    if plan.round <= state.done:
        raise RemoteProtocolError(f"plan of round {plan.round}; expected one after {state.done}")
    if plan.round not in state.prepared:
        raise RemoteProtocolError(f"plan of round {plan.round}, of which no prekeys were given")
    if len(plan.model) != DIGEST_BYTES:
        raise RemoteProtocolError(f"model digest of {len(plan.model)} bytes; expected 32")
    check_sites(plan.members, among=state.session.sites, least=state.session.job.threshold)
    _check_listed(state.site, plan.members)
    return state.prepared[plan.round]


def _check_survivors(state: Uploaded, survivors: Survivors) -> None:
    members = state.plan.members
    if survivors.round != state.plan.round:
        raise RemoteProtocolError(
            f"survivors of round {survivors.round}; expected those of {state.plan.round}"
        )
    least = state.joined.session.job.least(len(members))
    check_sites(survivors.sites, among=members, least=least)
    _check_listed(state.joined.site, survivors.sites)


def _check_listed(site: int, sites: tuple[int, ...]) -> None:
    if site not in sites:
        raise RemoteProtocolError(f"list of sites {sites} without this site, {site}")
