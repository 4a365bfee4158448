# SPDX-License-Identifier: Apache-2.0
"""Before the first round among real sites: each states its public facts, all see all of them.

    coordinator: a call (project, arm, seed, run) to every site
    site -> coordinator   Enrolment   its counts and its identity's public key, signed
    coordinator -> site   Roll        every site's enrolment, by name

From one roll everybody derives the same facts, the same numbers of sites and so the same
`Setup`; its digest is in every key of the secure sum.

Guarantees: whoever has checked a roll knows that each entry was signed by the identity in it,
for this very call, and that its own entry stands there unchanged. Whether those identities
are the hospitals' is not known here: a coordinator that invents all other sites passes. That is
why stewards compare `roster_fingerprint` by another channel before a site takes part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.msgpack import Decoder

from consilium.errors import ConfigError, RemoteProtocolError
from consilium.federation.project import Project
from consilium.federation.setup import PublicFacts
from consilium.wire import Message, digest

LARGEST: Final = 1 << 20  # bytes of a roll; a thousand sites take a quarter of it
_FINGERPRINT_DIGITS: Final = 48  # 192 bits: a collision takes 2**96 tries


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What every site is asked to take part in.

    Attributes:
        project: What was agreed.
        arm: Which of its arms.
        seed: Of the experiment.
        run: Name of this run; a resumed run keeps it.
    """

    project: Project
    arm: str
    seed: int
    run: str

    def digest(self) -> bytes:
        """Returns the 32 bytes that stand for this call in a signature."""
        return digest("call", self.project.terms(self.arm), self.seed, self.run)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """What a site says of its own data; declared public.

    Attributes:
        name: Of the site.
        patients: Its training patients.
        records: Its training records.
        dimension: Trainable weights of the model on its records.
        classes: Names of the classes in its data.
    """

    name: str
    patients: int
    records: int
    dimension: int
    classes: tuple[str, ...]


@final
class Enrolment(Message, frozen=True):
    """Site -> coordinator: its public facts and its Ed25519 public key, signed by it."""

    name: str
    patients: int
    records: int
    dimension: int
    classes: tuple[str, ...]
    identity: bytes
    signature: bytes


@final
class Standing(Message, frozen=True):
    """Site -> coordinator: what its ledger shows of this run."""

    charges: int
    last_round: int


@final
class Roll(Message, frozen=True):
    """Coordinator -> site: every enrolment, by ascending name; a site is its place here."""

    enrolments: tuple[Enrolment, ...]


ENROLMENT: Final[Decoder[Enrolment]] = Decoder(Enrolment)
STANDING: Final[Decoder[Standing]] = Decoder(Standing)
ROLL: Final[Decoder[Roll]] = Decoder(Roll)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What a checked roll says.

    Attributes:
        facts: Of all sites together.
        sites: What each said; a site's number is its place.
        identities: Ed25519 public key of each.
    """

    facts: PublicFacts
    sites: tuple[SiteFacts, ...]
    identities: tuple[bytes, ...] = field(repr=False)

    def roster(self) -> dict[str, bytes]:
        """Returns each site's public key by its name."""
        names = [site.name for site in self.sites]
        return dict(zip(names, self.identities, strict=True))


def enrol(call: Call, facts: SiteFacts, identity: bytes) -> Enrolment:
    """Returns the enrolment of a site, signed with its Ed25519 private key `identity`."""
    signer = Ed25519PrivateKey.from_private_bytes(identity)
    public = signer.public_key().public_bytes_raw()
    return Enrolment(
        facts.name,
        facts.patients,
        facts.records,
        facts.dimension,
        facts.classes,
        public,
        signer.sign(_signed_text(call, facts, public)),
    )


def make_roll(enrolments: Sequence[Enrolment]) -> Roll:
    """Returns the roll of these enrolments, in the order that everybody expects."""
    return Roll(tuple(sorted(enrolments, key=lambda one: one.name)))


def check_roll(call: Call, roll: Roll) -> Enrolled:
    """Returns what the roll says, once every entry has been checked.

    Raises:
        RemoteProtocolError: A signature, the order, or the sites' agreement is broken.
        ConfigError: The project is for another number of sites.
    """
    sites = tuple(_facts_of(one) for one in roll.enrolments)
    _check_order([site.name for site in sites], call.project.for_arm(call.arm).sites.count)
    for number, one in enumerate(roll.enrolments):
        _check_signature(call, number, one)
    _check_same("model dimension", sites, [str(site.dimension) for site in sites])
    _check_same("classes", sites, [", ".join(site.classes) for site in sites])
    facts = PublicFacts(
        patients=sum(site.patients for site in sites),
        records=sum(site.records for site in sites),
        dimension=sites[0].dimension,
    )
    identities = tuple(one.identity for one in roll.enrolments)
    return Enrolled(facts=facts, sites=sites, identities=identities)


def place_of(own: Enrolment, roll: Roll) -> int:
    """Returns the number of the site that gave `own`.

    Raises:
        RemoteProtocolError: The roll does not hold it as it was given.
    """
    if own not in roll.enrolments:
        raise RemoteProtocolError(
            "the roll does not hold this site's enrolment as it was given; expected it "
            "unchanged: ask the coordinator's operator why, and do not take part"
        )
    return roll.enrolments.index(own)


def roster_fingerprint(roster: dict[str, bytes]) -> str:
    """Returns what stewards compare: names and keys of all sites, as groups of four digits.

    Guarantees: Two rosters with one fingerprint take 2**96 tries to find.

    >>> roster_fingerprint({"a": bytes(32)})[:14]
    'b72c 0d2a 531e'
    """
    named = tuple((name, roster[name]) for name in sorted(roster))
    text = digest("roster", named).hex()[:_FINGERPRINT_DIGITS]
    return " ".join(text[k : k + 4] for k in range(0, len(text), 4))


# -- Rules ----------------------------------------------------------------------------


def _facts_of(one: Enrolment) -> SiteFacts:
    if min(one.patients, one.records, one.dimension) < 1 or one.records >= 2**63:
        raise RemoteProtocolError(f"site {one.name} states counts below 1; expected at least 1")
    return SiteFacts(
        name=one.name,
        patients=one.patients,
        records=one.records,
        dimension=one.dimension,
        classes=one.classes,
    )


def _signed_text(call: Call, facts: SiteFacts, public: bytes) -> bytes:
    return digest(
        "enrolment", call.digest(), facts.name, facts.patients, facts.records, facts.dimension,
        facts.classes, public,
    )  # fmt: skip


def _check_order(names: Sequence[str], expected: int) -> None:
    if any(later <= earlier for earlier, later in pairwise(names)):
        raise RemoteProtocolError(f"sites {', '.join(names)}; expected each once, by name")
    if len(names) != expected:
        raise ConfigError(
            f"{len(names)} sites enrolled ({', '.join(names)}); expected sites.count = "
            f"{expected}: train with --set sites.count={len(names)}, or with the other sites"
        )


def _check_signature(call: Call, number: int, one: Enrolment) -> None:
    try:
        verifier = Ed25519PublicKey.from_public_bytes(one.identity)
        verifier.verify(one.signature, _signed_text(call, _facts_of(one), one.identity))
    except (InvalidSignature, ValueError):
        raise RemoteProtocolError(
            f"the enrolment of site {one.name} is not signed by its identity for this call; "
            "expected the same project, seed and release of consilium at both ends",
            number,
        ) from None


def _check_same(what: str, sites: Sequence[SiteFacts], said: Sequence[str]) -> None:
    if len(set(said)) > 1:
        told = "; ".join(f"{site.name}: {word}" for site, word in zip(sites, said, strict=True))
        raise RemoteProtocolError(
            f"the sites state different {what} ({told}); expected one: compare their data"
        )
