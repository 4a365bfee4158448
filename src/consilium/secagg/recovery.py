# SPDX-License-Identifier: Apache-2.0
"""From openings to the masks that are left in a sum, and to the sites whose messages were bad.

Guarantees: a share that does not fit its dealer's commitment is not used. As long as at least
`threshold` openings are honest, and so are the prekeys of every member, the masks come out, no
matter what the other openings hold. Otherwise the round aborts. While at most `colluders`
sites lie (or one, if the job counts none), a site with more misfits than that is proved to
lie, as an honest holder's shares fit every honest dealer. Proved liars are named, and nobody
else; where nothing is proved, both sites of every misfit are, and one of the two lied.

Not covered: a dealer who commits to shares of no polynomial, for its own self mask. It spoils the
sum as it could by a false vector, and nobody can tell.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, final

from cryptography.exceptions import InvalidTag

from consilium.errors import RoundAborted
from consilium.secagg import keys, shamir
from consilium.secagg.messages import Opening, Plan, Prekeys
from consilium.secagg.session import Session

TAG_BYTES: Final = 16  # that AES-GCM adds


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedRound:
    """A round whose survivors are settled; `prekeys` are those of its members."""

    session: Session
    plan: Plan
    survivors: tuple[int, ...]
    prekeys: Mapping[int, Prekeys]

    @property
    def plan_digest(self) -> bytes:
        """The digest in every mask key of the round."""
        return keys.plan_digest(self.session.digest, self.plan)


@final
@dataclass(frozen=True, slots=True)
class MasksLeft:
    """Keys of the masks that the sum holds: those that were added, and taken off."""

    added: tuple[bytes, ...] = field(repr=False)
    subtracted: tuple[bytes, ...] = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class _Recovered:
    """A dealer's secret, if enough shares fit, and the holders whose share did not."""

    dealer: int
    secret: int | None = field(repr=False)
    misfits: tuple[int, ...]


def masks_left(closed: ClosedRound, openings: Mapping[int, Opening]) -> MasksLeft:
    """Returns the keys of the masks that do not cancel in the sum over the survivors.

    Raises:
        RoundAborted: Too few openings open, or a member's shares are not enough.
    """
    threshold = closed.session.job.threshold
    if len(openings) < threshold:
        raise RoundAborted(
            f"{len(openings)} openings; expected at least {threshold}; wait for more or abandon"
        )
    secrets = _member_secrets(closed, _pads(closed, openings))
    digest = closed.plan_digest
    alive = set(closed.survivors)
    added = [keys.self_mask(secrets[site], digest) for site in closed.survivors]
    subtracted: list[bytes] = []
    for dropped in sorted(set(closed.plan.members) - alive):
        roots = _roots(closed, dropped, secrets[dropped])
        for site in closed.survivors:  # what this survivor added or took off for the dropped one
            mask = keys.pair_mask(roots[site], digest)
            (added if site < dropped else subtracted).append(mask)
    return MasksLeft(tuple(added), tuple(subtracted))


# -- Steps ----------------------------------------------------------------------------


def _pads(closed: ClosedRound, openings: Mapping[int, Opening]) -> dict[int, dict[int, int]]:
    """Returns holder -> member -> pad, of every seal that opens."""
    digest = keys.opening_digest(closed.plan_digest, closed.survivors)
    tokens = {site: _by_peer(closed, site, openings[site].tokens) for site in openings}
    recovered = [_seal_secret(closed, openings[site], tokens) for site in openings]
    pads: dict[int, dict[int, int]] = {}
    liars: list[int] = []
    for seal in recovered:
        if seal.secret is None:
            continue
        try:
            cipher = keys.seal(seal.secret)
            table = cipher.decrypt(keys.ONE_NONCE, openings[seal.dealer].sealed, digest)
        except InvalidTag:
            liars.append(seal.dealer)  # its own commitments lead to another key
            continue
        pads[seal.dealer] = dict(zip(closed.plan.members, shamir.unpack(table), strict=True))
    if len(pads) < closed.session.job.threshold:
        blamed = _blame(closed, recovered, liars)
        raise RoundAborted("too few openings agree on plan and survivors", blamed)
    return pads


def _seal_secret(
    closed: ClosedRound, opening: Opening, tokens: Mapping[int, Mapping[int, int]]
) -> _Recovered:
    shares = _by_peer(closed, opening.site, opening.gate_shares)
    commitments = _by_peer_raw(closed, opening.site, opening.commitments)
    values = {
        holder: shares[holder] + tokens[holder][opening.site]
        for holder in tokens
        if holder in shares
    }
    return _recover(opening.site, values, commitments, closed.session.job.threshold - 1)


def _member_secrets(closed: ClosedRound, pads: Mapping[int, Mapping[int, int]]) -> dict[int, int]:
    """Returns the self secret of every survivor and the pair secret of every other member."""
    recovered = [_member_secret(closed, member, pads) for member in closed.plan.members]
    secrets = {found.dealer: found.secret for found in recovered if found.secret is not None}
    if len(secrets) < len(recovered):
        blamed = _blame(closed, recovered, ())
        raise RoundAborted("too few shares of a member fit their commitments", blamed)
    return secrets


def _member_secret(
    closed: ClosedRound, member: int, pads: Mapping[int, Mapping[int, int]]
) -> _Recovered:
    prekeys = closed.prekeys[member]
    shares, commitments = prekeys.pair_shares, prekeys.pair_commitments
    if member in closed.survivors:
        shares, commitments = prekeys.self_shares, prekeys.self_commitments
    sites = closed.session.sites
    padded = dict(zip(sites, shamir.unpack(shares), strict=True))
    committed = dict(zip(sites, shamir.rows(commitments), strict=True))
    values = {holder: padded[holder] + pads[holder][member] for holder in pads}
    return _recover(member, values, committed, closed.session.job.threshold)


def _roots(closed: ClosedRound, dropped: int, pair_secret: int) -> dict[int, bytes]:
    """Returns the roots of a dropped member with each other site of the roster."""
    envelope = closed.prekeys[dropped].envelope
    try:
        table = keys.envelope(pair_secret).decrypt(keys.ONE_NONCE, envelope, None)
    except InvalidTag:
        raise RoundAborted("an envelope does not open", (dropped,)) from None
    others = [site for site in closed.session.sites if site != dropped]
    return dict(zip(others, shamir.rows(table), strict=True))


# -- Shares and blame -----------------------------------------------------------------


def _recover(
    dealer: int, values: Mapping[int, int], commitments: Mapping[int, bytes], needed: int
) -> _Recovered:
    good: dict[int, int] = {}
    misfits: list[int] = []
    for holder, value in values.items():
        if len(good) == needed:
            break
        share = value % shamir.PRIME
        if keys.commitment(share) == commitments[holder]:
            good[shamir.point(holder)] = share
        else:
            misfits.append(holder)
    secret = shamir.combine(good) if len(good) == needed else None
    return _Recovered(dealer, secret, tuple(misfits))


def _blame(
    closed: ClosedRound, recovered: Iterable[_Recovered], liars: Iterable[int]
) -> tuple[int, ...]:
    """Returns the sites that are proved to lie; where none is, those of whom one does."""
    pairs = [(found.dealer, holder) for found in recovered for holder in found.misfits]
    proved = set(liars)
    # A pair that does not fit has a liar in it. An honest site is in no more such pairs than
    # there are liars.
    count = Counter(site for pair in pairs for site in pair)
    most = max(1, closed.session.job.colluders)
    proved |= {site for site, misfits in count.items() if misfits > most}
    return tuple(sorted(proved or count))


def _by_peer(closed: ClosedRound, site: int, table: bytes) -> dict[int, int]:
    raw = _by_peer_raw(closed, site, table)
    return dict(zip(raw, shamir.unpack(table), strict=True))


def _by_peer_raw(closed: ClosedRound, site: int, table: bytes) -> dict[int, bytes]:
    others = [peer for peer in closed.survivors if peer != site]
    return dict(zip(others, shamir.rows(table), strict=True))
