# SPDX-License-Identifier: Apache-2.0
"""How two offices become known: a signed request, two people who compare, a signed answer.

The request is signed with the key in it, so it proves only that its sender holds that key. Whose
key it is, two people find out by reading its six words to each other; until one of them said so,
nothing that the other office sends is taken. Guarantees: a request for another office, of another
time, seen before, or with one changed byte is refused; a known name never gets a second key
without a new request that a person accepts.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from msgspec.msgpack import Decoder

from consilium.errors import Conflict, RemoteProtocolError
from consilium.governance.six_words import key_words
from consilium.wire import Message, digest

LARGEST: Final = 1 << 14  # bytes of a message
FRESH: Final = timedelta(hours=24)
NONCE: Final = 16  # bytes
OfficeKind = Literal["site", "coordinator"]


class AssociationState(StrEnum):
    """Of one office, as another sees it."""

    ASKED = "asked"  # we asked them
    RECEIVED = "received"  # they asked us
    ACCEPTED = "accepted"
    REFUSED = "refused"
    REVOKED = "revoked"


class AssociationEvent(StrEnum):
    """What happens to an association."""

    ACCEPT = "accept"
    REFUSE = "refuse"
    REVOKE = "revoke"


A, W = AssociationState, AssociationEvent
ASSOCIATIONS: Final[Mapping[AssociationState, Mapping[AssociationEvent, AssociationState]]] = {
    A.ASKED: {W.ACCEPT: A.ACCEPTED, W.REFUSE: A.REFUSED, W.REVOKE: A.REVOKED},
    A.RECEIVED: {W.ACCEPT: A.ACCEPTED, W.REFUSE: A.REFUSED},
    A.ACCEPTED: {W.REVOKE: A.REVOKED},
    A.REFUSED: {},
    A.REVOKED: {},
}


def next_association_state(state: AssociationState, event: AssociationEvent) -> AssociationState:
    """Returns the state after `event`.

    Raises:
        Conflict: The table lists no such step.
    """
    after = ASSOCIATIONS[state].get(event)
    if after is None:
        ways = ", ".join(ASSOCIATIONS[state]) or "a new request"
        raise Conflict(f"{event} an association that is {state}; expected {ways}")
    return after


@final
class Introduction(Message, frozen=True):
    """Office -> office: who I am, and why; signed with the key in it."""

    name: str
    kind: OfficeKind
    address: str
    key: bytes
    to: str
    reason: str
    time: str
    nonce: bytes
    signature: bytes


@final
class Answer(Message, frozen=True):
    """Office -> office: yes or no to one introduction, and who I am; signed."""

    of: bytes
    accepted: bool
    name: str
    kind: OfficeKind
    key: bytes
    time: str
    signature: bytes


INTRODUCTION: Final[Decoder[Introduction]] = Decoder(Introduction)
ANSWER: Final[Decoder[Answer]] = Decoder(Answer)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Another office, as this one knows it.

    Attributes:
        id: ULID.
        name: Of the other office; its site name in contracts.
        kind: Site or coordinator.
        address: Where it is reached, or empty: it dials us.
        key: Its Ed25519 public key.
        reason: As it said.
        state: Of the association.
        since: UTC, of the state.
    """

    id: str
    name: str
    kind: OfficeKind
    address: str
    key: bytes
    reason: str
    state: AssociationState
    since: datetime

    def words(self) -> str:
        """Returns what two administrators read to each other."""
        return key_words(self.name, self.key)


def introduce(claim: Introduction, private_key: bytes) -> Introduction:
    """Returns `claim` with its key and signature filled in."""
    signer = Ed25519PrivateKey.from_private_bytes(private_key)
    key = signer.public_key().public_bytes_raw()
    own = msgspec.structs.replace(claim, key=key, signature=b"")
    return msgspec.structs.replace(own, signature=signer.sign(_introduction_text(own)))


def check_introduction(
    claim: Introduction, *, to: str, now: datetime, seen: Container[bytes]
) -> None:
    """Refuses an introduction that is not what its sender says.

    Args:
        claim: What came.
        to: Name of this office.
        now: UTC.
        seen: Nonces of introductions before.

    Raises:
        RemoteProtocolError: Forged, for another office, stale, or a repetition.
    """
    _check(claim.key, claim.signature, _introduction_text(claim), f"introduction of {claim.name}")
    if claim.to != to:
        raise RemoteProtocolError(f"an introduction to {claim.to!r}; this office is {to!r}")
    if len(claim.nonce) != NONCE or claim.nonce in seen:
        raise RemoteProtocolError("an introduction that came before; expected a new one")
    _check_time(claim.time, now)


def answer(to: Introduction, claim: Answer, private_key: bytes) -> Answer:
    """Returns `claim` as the answer to an introduction, signed."""
    signer = Ed25519PrivateKey.from_private_bytes(private_key)
    key = signer.public_key().public_bytes_raw()
    of = digest("introduction", _introduction_text(to), to.signature)
    own = msgspec.structs.replace(claim, of=of, key=key, signature=b"")
    return msgspec.structs.replace(own, signature=signer.sign(_answer_text(own)))


def check_answer(to: Introduction, said: Answer) -> None:
    """Refuses an answer to something else, or one that its key did not sign.

    Raises:
        RemoteProtocolError: It is forged or for another introduction.
    """
    _check(said.key, said.signature, _answer_text(said), f"answer of {said.name}")
    if said.of != digest("introduction", _introduction_text(to), to.signature):
        raise RemoteProtocolError("an answer to another introduction; expected one to ours")
    if said.name != to.to:
        raise RemoteProtocolError(f"an answer of {said.name!r}; we asked {to.to!r}")


def _introduction_text(one: Introduction) -> bytes:
    return digest(
        "introduction", one.name, one.kind, one.address, one.key, one.to, one.reason, one.time,
        one.nonce,
    )  # fmt: skip


def _answer_text(one: Answer) -> bytes:
    return digest("answer", one.of, int(one.accepted), one.name, one.kind, one.key, one.time)


def _check(key: bytes, signature: bytes, text: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, text)
    except (InvalidSignature, ValueError):
        raise RemoteProtocolError(
            f"the {what} is not signed by the key in it; expected its own: do not trust it"
        ) from None


def _check_time(text: str, now: datetime) -> None:
    try:
        told = datetime.fromisoformat(text)
        fresh = abs(now - told) <= FRESH
    except (ValueError, TypeError):
        fresh = False
    if not fresh:
        raise RemoteProtocolError(f"a message of {text[:40]!r}; expected one of the last 24 h")
