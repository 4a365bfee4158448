# SPDX-License-Identifier: Apache-2.0
"""The log of an office: every decision and every refusal, chained, and witnessed by others.

    entry k    its fields, and link k = H(link k-1, fields k)
    head       office, place and link of the last entry, the links since the head before, signed
    witness    another office's signature of that head; it keeps head and links

Guarantees: an entry that was changed, removed, moved or inserted breaks the chain, and `verify`
names it. Whoever rewrites the whole database, links included, can no longer agree with the links
that other offices hold: `verify` names the first entry that differs from what a witness signed.
It fails for entries that no other office has seen yet, and if the office and every witness agree
to lie. A fork (two heads of one place) is proof against the office that signed both.
Source: Schneier and Kelsey 1999 (chain); Crosby and Wallach 2009 (witnesses).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.msgpack import Decoder

from consilium.errors import RemoteProtocolError
from consilium.governance.contract import canonical
from consilium.wire import Message, digest

START: Final = bytes(32)  # the link before the first entry
MOST_LINKS: Final = 100_000  # in one head
LARGEST: Final = MOST_LINKS * 34 + 4096  # bytes of a head


class Outcome(StrEnum):
    """What became of it."""

    DONE = "done"
    DENIED = "denied"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row.

    Attributes:
        sequence: Its place, from 1.
        time: UTC.
        actor: Id of who did it.
        actor_name: As they were called then.
        action: What, as in `access.Action`, or a word of the ledger's.
        resource: "kind:id".
        outcome: Done or denied.
        facts: Canonical JSON of what else is known; no patient's data.
        link: H(the link before, all of the above), 32 bytes.
    """

    sequence: int
    time: datetime
    actor: str
    actor_name: str
    action: str
    resource: str
    outcome: Outcome
    facts: str
    link: bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What is to be logged, before it has a place and a link."""

    time: datetime
    actor: str
    actor_name: str
    action: str
    resource: str
    outcome: Outcome = Outcome.DONE
    facts: str = "{}"


def link(previous: bytes, sequence: int, fact: Fact) -> bytes:
    """Returns the link of an entry that follows the link `previous`, 32 bytes."""
    return digest(
        "log entry", previous, sequence, fact.time.isoformat(), fact.actor, fact.actor_name,
        fact.action, fact.resource, str(fact.outcome), fact.facts,
    )  # fmt: skip


def make_entry(previous: bytes, sequence: int, fact: Fact) -> Entry:
    """Returns `fact` as the entry in place `sequence`."""
    return Entry(
        sequence=sequence,
        time=fact.time,
        actor=fact.actor,
        actor_name=fact.actor_name,
        action=fact.action,
        resource=fact.resource,
        outcome=fact.outcome,
        facts=fact.facts,
        link=link(previous, sequence, fact),
    )


def fact_of(entry: Entry) -> Fact:
    """Returns what `entry` logs, without place and link."""
    return Fact(
        time=entry.time,
        actor=entry.actor,
        actor_name=entry.actor_name,
        action=entry.action,
        resource=entry.resource,
        outcome=entry.outcome,
        facts=entry.facts,
    )


def facts_json(facts: object) -> str:
    """Returns `facts` as an entry holds them."""
    return canonical(facts).decode()


# -- Heads and witnesses --------------------------------------------------------------


@final
class Head(Message, frozen=True):
    """Office -> other offices: the end of its log, signed by it.

    `links` are those of the entries from `sequence` - len(links) + 1 to `sequence`, in order; the
    last one is the head's.
    """

    office: str
    sequence: int
    links: tuple[bytes, ...]
    time: str
    signature: bytes

    @property
    def link(self) -> bytes:
        """Of the last entry."""
        return self.links[-1] if self.links else START

    @property
    def first(self) -> int:
        """Place of the first entry whose link is here."""
        return self.sequence - len(self.links) + 1


@final
class Cosigned(Message, frozen=True):
    """Other office -> office: its signature of a head that it keeps."""

    head: Head
    witness: str
    time: str
    signature: bytes


HEAD: Final[Decoder[Head]] = Decoder(Head)
COSIGNED: Final[Decoder[Cosigned]] = Decoder(Cosigned)


def make_head(office: str, entries: Sequence[Entry], now: datetime, key: bytes) -> Head:
    """Returns the signed head of a log.

    Args:
        office: Whose log.
        entries: Its last entries, in order: those since the head before.
        now: UTC.
        key: The office's Ed25519 private key.
    """
    links = tuple(one.link for one in entries)
    sequence = entries[-1].sequence if entries else 0
    unsigned = Head(office, sequence, links, now.isoformat(), b"")
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(_head_text(unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def check_head(head: Head, key: bytes) -> None:
    """Refuses a head that the office with `key` did not sign.

    Raises:
        RemoteProtocolError: The signature or the form is wrong.
    """
    if not len(head.links) <= min(head.sequence, MOST_LINKS):
        raise RemoteProtocolError(f"a head of {len(head.links)} links at {head.sequence}")
    if any(len(one) != len(START) for one in head.links):
        raise RemoteProtocolError("a head with a link that is not 32 bytes")
    _verify(key, head.signature, _head_text(head), f"the head of {head.office}")


def follows(before: Head | None, head: Head) -> None:
    """Refuses a head that contradicts the one before, of the same office; the two overlap.

    Raises:
        RemoteProtocolError: The office shows a fork, a shorter log, or leaves a gap.
    """
    if before is None:
        return
    last = before.sequence
    if head.sequence < last:
        raise RemoteProtocolError(
            f"{head.office} shows a log of {head.sequence} entries and signed {last} before; "
            "entries were removed: keep both heads, they prove it"
        )
    if last and head.first > last:
        raise RemoteProtocolError(
            f"the head of {head.office} begins at entry {head.first}; expected {last} or before: "
            "the entry that it signed last must be there again"
        )
    _check_overlap(before, head)


def _check_overlap(before: Head, head: Head) -> None:
    known = dict(zip(range(before.first, before.sequence + 1), before.links, strict=True))
    for place, one in zip(range(head.first, head.sequence + 1), head.links, strict=True):
        if known.get(place, one) != one:
            raise RemoteProtocolError(_fork(head.office, place))


def _fork(office: str, place: int) -> str:
    return (
        f"{office} shows another entry {place} than it signed before; its log was rewritten: keep "
        "both heads, they prove it"
    )


def cosign(head: Head, witness: str, now: datetime, key: bytes) -> Cosigned:
    """Returns the signature of the office `witness`, whose private key is `key`, of a head."""
    unsigned = Cosigned(head, witness, now.isoformat(), b"")
    signature = Ed25519PrivateKey.from_private_bytes(key).sign(_cosigned_text(unsigned))
    return msgspec.structs.replace(unsigned, signature=signature)


def check_cosigned(cosigned: Cosigned, key: bytes) -> None:
    """Refuses a signature that the witness with `key` did not give.

    Raises:
        RemoteProtocolError: It is forged.
    """
    text = _cosigned_text(cosigned)
    _verify(key, cosigned.signature, text, f"the signature of {cosigned.witness}")


def _head_text(head: Head) -> bytes:
    return digest("log head", head.office, head.sequence, head.links, head.time)


def _cosigned_text(cosigned: Cosigned) -> bytes:
    head = cosigned.head
    return digest(
        "log head seen", _head_text(head), head.signature, cosigned.witness, cosigned.time
    )


def _verify(key: bytes, signature: bytes, text: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError):
        raise RemoteProtocolError(
            f"{what} is not signed by the key that this office knows; expected its own: ask its "
            "administrator by telephone"
        ) from None


# -- Verification ---------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: at which place, and what."""

    sequence: int
    what: str


def verify(entries: Iterable[Entry], heads: Iterable[Head] = ()) -> tuple[Finding, ...]:
    """Returns everything that is wrong with a log; empty: nothing is.

    Args:
        entries: All of them, in the order of their places.
        heads: Of this log, as other offices hold them; their signatures were checked.
    """
    witnessed: dict[int, bytes] = {}
    for head in heads:
        places = range(head.first, head.sequence + 1)
        witnessed |= dict(zip(places, head.links, strict=True))
    findings: list[Finding] = []
    previous, expected = START, 1
    for entry in entries:
        if entry.sequence != expected:
            findings.append(Finding(expected, _missing(expected, entry.sequence)))
        elif link(previous, entry.sequence, fact_of(entry)) != entry.link:
            findings.append(Finding(entry.sequence, "was changed, or the one before was removed"))
        if witnessed.pop(entry.sequence, entry.link) != entry.link:
            findings.append(Finding(entry.sequence, "differs from what another office signed"))
        previous, expected = entry.link, entry.sequence + 1
    if any(place >= expected for place in witnessed):
        last = max(witnessed)
        findings.append(Finding(expected, f"to {last} are missing; another office signed them"))
    return tuple(findings)


def _missing(expected: int, found: int) -> str:
    if found < expected:
        return f"was expected; entry {found} stands there a second time"
    return "is missing" if found == expected + 1 else f"to {found - 1} are missing"
