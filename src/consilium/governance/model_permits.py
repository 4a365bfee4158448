# SPDX-License-Identifier: Apache-2.0
"""The owner's signed word on what may be done with a model, which travels with the model.

A permit names the weights by their digest. What is made of them (an exported file, a publication
to operators) carries the permit, whole, in a card that its maker signs. Everything signed is
canonical JSON (RFC 8785) without its own signature, so a browser can check it, too.

Guarantees: a permit, or a card with one, that was changed in any way is refused; who widens it
must sign with a key of their own, whose six words differ. Not here: who may believe which key;
that is settled by comparing six words. Nothing hinders who holds the weights from breaking the law.
Source: RFC 8785, RFC 8032.
"""

from datetime import datetime
from typing import Annotated, Final, Literal, Protocol, final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.access import Decision
from consilium.governance.contract import canonical
from consilium.governance.model_permissions import (
    ModelPermissions,
    ModelVersion,
    Use,
    decide_use,
)
from consilium.governance.six_words import key_words
from consilium.wire import digest

FORMAT: Final = "consilium-permit/1"
PERMIT: Final = "model.permit.json"  # the file beside the weights
UNCOUNTED: Final = 0  # version of a model that no office keeps
_LARGEST: Final = 1 << 14  # bytes
_Hex32 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


@final
class Publisher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who signs: a name for people, an Ed25519 public key, hexadecimal."""

    name: _Name
    key: _Hex32

    def words(self) -> str:
        """Returns the six words that people compare."""
        return key_words(self.name, bytes.fromhex(self.key))


@final
class Permit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the owner of a model allows.

    Attributes:
        format: Of this document.
        model: Name.
        version: At the office, from 1; `UNCOUNTED` of a lone owner.
        weights: SHA-256 of the trained weights' file.
        epsilon: That the model was released at, worst view; None: no guarantee.
        delta: Likewise.
        permissions: What is allowed.
        issued: UTC.
        publisher: The owner.
        signature: Ed25519 of all of this, hexadecimal.
    """

    format: Literal["consilium-permit/1"] = FORMAT
    model: _Name
    version: Annotated[int, msgspec.Meta(ge=0)]
    weights: _Hex32
    epsilon: float | None
    delta: float | None
    permissions: ModelPermissions
    issued: datetime
    publisher: Publisher
    signature: str = ""


@final
class Signer:
    """Who can sign: a name and a private key, which never prints."""

    __slots__ = ("_key", "publisher")

    def __init__(self, name: str, private_key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(private_key)
        public = self._key.public_key().public_bytes_raw().hex()
        self.publisher = Publisher(name=name, key=public)

    def sign(self, document: "Signed") -> str:
        """Returns the signature of a document, whatever its `signature` says."""
        return self._key.sign(_signed_text(document)).hex()


class Signed(Protocol):
    """A document, a `msgspec.Struct`, that names who signed it."""

    @property
    def publisher(self) -> Publisher:
        """Who signed it."""
        ...

    @property
    def signature(self) -> str:
        """Of all the rest."""
        ...


def check_signature(document: Signed, what: str) -> None:
    """Refuses a document that its publisher did not sign as it is.

    Raises:
        AccessDenied: It was changed, or signed by another key.
    """
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(document.publisher.key))
    try:
        key.verify(bytes.fromhex(document.signature), _signed_text(document))
    except (InvalidSignature, ValueError, ConfigError):
        raise AccessDenied(
            f"{what} is not as {document.publisher.name!r} signed it; expected one that nobody "
            "changed: fetch it again from its publisher, and compare the six words"
        ) from None


def _signed_text(document: Signed) -> bytes:
    members = msgspec.to_builtins(document)
    del members["signature"]
    return digest("signed document", canonical(members))


# -- Permits --------------------------------------------------------------------------


def permit_of(model: ModelVersion, signer: Signer, now: datetime) -> Permit:
    """Returns an office's signed word on a version."""
    return sign_permit(
        Permit(
            model=model.name,
            version=model.version,
            weights=model.digest,
            epsilon=model.epsilon,
            delta=model.delta,
            permissions=model.permissions,
            issued=now,
            publisher=signer.publisher,
        ),
        signer,
    )


def sign_permit(permit: Permit, signer: Signer) -> Permit:
    """Returns `permit` as `signer` says it."""
    named = msgspec.structs.replace(permit, publisher=signer.publisher, signature="")
    return msgspec.structs.replace(named, signature=signer.sign(named))


def encode_permit(permit: Permit) -> bytes:
    """Returns the permit as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(permit), indent=1) + b"\n"


def read_permit(data: bytes) -> Permit:
    """Returns the permit in a file, if its publisher signed it so.

    Raises:
        DataError: It is none.
        AccessDenied: It was changed, or signed by another key.
    """
    try:
        if len(data) > _LARGEST:
            raise DataError(f"a permit of {len(data)} bytes; expected at most {_LARGEST}")
        permit = msgspec.json.decode(data, type=Permit)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"no permit ({error}); expected format {FORMAT}, as `consilium model release` writes it"
        ) from None
    check_signature(permit, f"the permit of model {permit.model!r}")
    return permit


def may_use_under(permit: Permit, use: Use) -> Decision:
    """Returns whether the model of `permit` may be used so."""
    return decide_use(permit.permissions, use, private=permit.epsilon is not None)


def require(permit: Permit, *uses: Use) -> None:
    """Refuses unless one of `uses` is allowed.

    Raises:
        AccessDenied: With the reason, who decides, and what is allowed.
    """
    decisions = [may_use_under(permit, use) for use in uses]
    if any(decision.allowed for decision in decisions):
        return
    words = ", ".join(permit.permissions.words()) or "nothing"
    raise AccessDenied(
        f"model {permit.model!r}: {decisions[0].reason}; asked for {' or '.join(uses)}, and its "
        f"owner {permit.publisher.name!r} allows {words}: ask them for another permit"
    )
