# SPDX-License-Identifier: Apache-2.0
"""Who takes part: signed hellos and ciphertexts, and the digest of them that is in every key.

Guarantees: a hello that passes was signed by the identity in the job, for this job, by
that site. A session's digest names the job and every hello: parties that were shown different
rosters hold different keys, and their masks cancel with nobody's.

In a post-quantum job a roster's digest is signed again by each site, with its ML-KEM
ciphertexts, and the session's digest names all of those too: a ciphertext cannot be swapped,
left out or taken from another session.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consilium import wire
from consilium.errors import RemoteProtocolError
from consilium.secagg import kem, keys
from consilium.secagg.agreement import split_key
from consilium.secagg.job import SumJob
from consilium.secagg.messages import Ciphertexts, Hello

_PROBE: Final = bytes(32)  # no secret: it only finds keys that void every agreement


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A job with its sites in ascending order, and the digest of everything said in the set-up."""

    job: SumJob
    sites: tuple[int, ...]
    digest: bytes


# -- Hellos ---------------------------------------------------------------------------


def say_hello(job: SumJob, site: int, identity: bytes, key: bytes) -> Hello:
    """Returns the hello of `site`, signed with its Ed25519 private key `identity`."""
    signer = Ed25519PrivateKey.from_private_bytes(identity)
    return Hello(site, key, signer.sign(_signed_text(job, site, key)))


def check_hello(job: SumJob, hello: Hello) -> None:
    """Refuses a hello that is not of a site of this job, for this job.

    Raises:
        RemoteProtocolError: A stranger, a wrong signature, or a key that agrees on nothing.
    """
    if not 0 <= hello.site < len(job.identities):
        raise RemoteProtocolError(
            f"hello of site {hello.site}; expected 0 to {len(job.identities) - 1}", hello.site
        )
    verifier = Ed25519PublicKey.from_public_bytes(job.identities[hello.site])
    try:
        verifier.verify(hello.signature, _signed_text(job, hello.site, hello.key))
        _check_key(job, hello.key)
    except InvalidSignature:
        raise RemoteProtocolError(
            f"hello of site {hello.site} is not signed by its identity for this job; "
            "compare the job files and the identities of both sides",
            hello.site,
        ) from None
    except ValueError:
        raise RemoteProtocolError(
            f"hello of site {hello.site} holds no usable key; expected X25519"
            + " and ML-KEM-768" * job.post_quantum,
            hello.site,
        ) from None


def make_session(job: SumJob, hellos: Sequence[Hello]) -> Session:
    """Returns the session of these hellos, in ascending order of sites.

    Raises:
        RemoteProtocolError: A hello is refused, a site repeats, or fewer came than the threshold.
    """
    sites = tuple(hello.site for hello in hellos)
    check_sites(sites, among=range(len(job.identities)), least=job.threshold)
    for hello in hellos:
        check_hello(job, hello)
    said = tuple((hello.site, hello.key) for hello in hellos)
    return Session(job=job, sites=sites, digest=wire.digest("secagg session", job.digest(), said))


# -- Ciphertexts ----------------------------------------------------------------------


def say_ciphertexts(roster: Session, site: int, identity: bytes, ciphertexts: bytes) -> Ciphertexts:
    """Returns the ciphertexts of `site`, signed with its Ed25519 private key `identity`."""
    signer = Ed25519PrivateKey.from_private_bytes(identity)
    signature = signer.sign(_signed_ciphertexts(roster, site, ciphertexts))
    return Ciphertexts(site, ciphertexts, signature)


def check_ciphertexts(roster: Session, said: Ciphertexts) -> None:
    """Refuses ciphertexts that are not of a site of this roster, for this roster.

    Raises:
        RemoteProtocolError: A stranger, another size, or a wrong signature.
    """
    site = said.site
    if site not in roster.sites:
        raise RemoteProtocolError(f"ciphertexts of site {site}; expected {roster.sites}", site)
    expected = kem.CIPHERTEXT_BYTES * sum(site < peer for peer in roster.sites)
    if len(said.ciphertexts) != expected:
        raise RemoteProtocolError(
            f"ciphertexts of site {site} have {len(said.ciphertexts)} bytes; expected {expected}",
            site,
        )
    verifier = Ed25519PublicKey.from_public_bytes(roster.job.identities[site])
    try:
        verifier.verify(said.signature, _signed_ciphertexts(roster, site, said.ciphertexts))
    except InvalidSignature:
        raise RemoteProtocolError(
            f"ciphertexts of site {site} are not signed by its identity for this roster; "
            "ask for a new session",
            site,
        ) from None


def bind_ciphertexts(roster: Session, table: Sequence[Ciphertexts]) -> Session:
    """Returns the session of the sites in `table`, in ascending order of sites.

    Raises:
        RemoteProtocolError: An entry is refused, a site repeats, or fewer came than the threshold.
    """
    sites = tuple(said.site for said in table)
    check_sites(sites, among=roster.sites, least=roster.job.threshold)
    for said in table:
        check_ciphertexts(roster, said)
    texts = tuple((said.site, said.ciphertexts) for said in table)
    digest = wire.digest("secagg hybrid session", roster.digest, texts)
    return Session(job=roster.job, sites=sites, digest=digest)


# -- Rules ----------------------------------------------------------------------------


def check_sites(sites: tuple[int, ...], *, among: Collection[int], least: int) -> None:
    """Refuses a list of sites that repeats, is unsorted, has strangers or is too short.

    Raises:
        RemoteProtocolError: The list breaks one of these rules.
    """
    if any(later <= earlier for earlier, later in pairwise(sites)):
        raise RemoteProtocolError(f"list of sites {sites}; expected each once, in order")
    strangers = set(sites) - set(among)
    if strangers:
        raise RemoteProtocolError(f"list of sites {sites}; {sorted(strangers)} do not belong")
    if len(sites) < least:
        raise RemoteProtocolError(f"list of {len(sites)} sites; expected at least {least}")


def _check_key(job: SumJob, key: bytes) -> None:
    x25519, ml_kem = split_key(key)
    keys.agree(_PROBE, x25519)
    if job.post_quantum:
        kem.check_encapsulation_key(ml_kem)
    elif ml_kem:
        raise ValueError(f"{len(ml_kem)} bytes beyond an X25519 key")


def _signed_text(job: SumJob, site: int, key: bytes) -> bytes:
    return wire.digest("secagg hello", job.digest(), site, key)


def _signed_ciphertexts(roster: Session, site: int, ciphertexts: bytes) -> bytes:
    return wire.digest("secagg ciphertexts", roster.digest, site, ciphertexts)
