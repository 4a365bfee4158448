# SPDX-License-Identifier: Apache-2.0
"""Who takes part: signed hellos, and the digest of all of them that is in every key.

Guarantees: a hello that passes was signed by the identity in the job, for this job, by
that site. A session's digest names the job and every hello: parties that were shown different
rosters hold different keys, and their masks cancel with nobody's.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consilium import wire
from consilium.errors import RemoteProtocolError
from consilium.secagg import keys
from consilium.secagg.job import SumJob
from consilium.secagg.messages import Hello

_PROBE: Final = bytes(32)  # no secret: it only finds keys that void every agreement


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A job with its roster: the sites in ascending order, and the digest of everything said."""

    job: SumJob
    sites: tuple[int, ...]
    digest: bytes


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
        keys.agree(_PROBE, hello.key)
    except InvalidSignature:
        raise RemoteProtocolError(
            f"hello of site {hello.site} is not signed by its identity for this job; "
            "compare the job files and the identities of both sides",
            hello.site,
        ) from None
    except ValueError:
        raise RemoteProtocolError(
            f"hello of site {hello.site} holds no usable X25519 key", hello.site
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


def _signed_text(job: SumJob, site: int, key: bytes) -> bytes:
    return wire.digest("secagg hello", job.digest(), site, key)
