# SPDX-License-Identifier: Apache-2.0
"""HTTP requests signed by an office's Ed25519 identity, and their check by another office.

    Consilium-Identity    the sender's public key, base64url
    Consilium-Time        seconds since 1970
    Consilium-Nonce       16 random bytes, base64url
    Consilium-Signature   Ed25519 over frame(method, host, path with query, SHA-256 of the body,
                          identity, time, nonce), under the domain tag of this use

An answer is signed too, over the request's nonce, the status and the body's digest, so that a
proxy that ends TLS cannot change it either.
Guarantees: a request that was seen, that is older or newer than `SKEW`, for another host or
path, with another body, or of a key that is not the one expected, is refused; a nonce is kept
for as long as its time would pass. Not here: who has which key.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from consilium.adapters.store.identity_tables import NONCES, seconds
from consilium.errors import AccessDenied
from consilium.wire import digest

SKEW: Final = 300  # seconds
NONCE_BYTES: Final = 16


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What of a request is signed.

    Attributes:
        method: GET or POST.
        host: As the sender calls the receiver, with the port where it is not the scheme's.
        path: With the query.
        body: All of it.
    """

    method: str
    host: str
    path: str
    body: bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent a request that was checked.

    Attributes:
        key: Ed25519 public key.
        nonce: Of the request.
        at: When, by the sender's clock, seconds.
    """

    key: bytes
    nonce: bytes
    at: int


def sign_request(
    request: Request, identity: bytes, *, now: datetime, nonce: bytes
) -> dict[str, str]:
    """Returns the headers that make `request` this office's."""
    key = Ed25519PrivateKey.from_private_bytes(identity)
    public = key.public_key().public_bytes_raw()
    sender = Sender(key=public, nonce=nonce, at=seconds(now))
    return {
        "Consilium-Identity": _text(public),
        "Consilium-Time": str(sender.at),
        "Consilium-Nonce": _text(nonce),
        "Consilium-Signature": _text(key.sign(_signed(request, sender))),
    }


def check_request(request: Request, headers: Mapping[str, str], *, now: datetime) -> Sender:
    """Returns who signed `request`; the caller compares the key and spends the nonce.

    Raises:
        AccessDenied: A header is missing, the time is off, or the signature is another's.
    """
    try:
        sender = Sender(
            key=_bytes(headers["Consilium-Identity"], 32),
            nonce=_bytes(headers["Consilium-Nonce"], NONCE_BYTES),
            at=_time(headers["Consilium-Time"]),
        )
        signature = _bytes(headers["Consilium-Signature"], 64)
    except (KeyError, ValueError, binascii.Error):
        raise AccessDenied(
            "the request has no whole signature; expected the four headers Consilium-Identity, "
            "-Time, -Nonce and -Signature"
        ) from None
    off = seconds(now) - sender.at
    if abs(off) > SKEW:
        raise AccessDenied(
            f"the request's clock is {off} seconds from this one; expected at most {SKEW}: set "
            "the clocks (consilium site doctor)"
        )
    try:
        Ed25519PublicKey.from_public_bytes(sender.key).verify(signature, _signed(request, sender))
    except (InvalidSignature, ValueError):
        raise AccessDenied("the request was not signed by the key it names") from None
    return sender


def spend_nonce(connection: Connection, sender: Sender, *, now: datetime) -> None:
    """Writes down that the request was seen.

    Raises:
        AccessDenied: It was seen before.
    """
    connection.execute(delete(NONCES).where(NONCES.c.expires_at < seconds(now)))
    try:
        with connection.begin_nested():
            connection.execute(
                insert(NONCES).values(
                    sender=sender.key, nonce=sender.nonce, expires_at=sender.at + 2 * SKEW
                )
            )
    except IntegrityError:
        raise AccessDenied("the request was seen before; expected a new nonce") from None


def sign_answer(identity: bytes, nonce: bytes, status: int, body: bytes) -> str:
    """Returns the signature header of an answer to the request with `nonce`."""
    key = Ed25519PrivateKey.from_private_bytes(identity)
    return _text(key.sign(_answered(nonce, status, body)))


def check_answer(key: bytes, nonce: bytes, status: int, body: bytes, signature: str | None) -> None:
    """Refuses an answer that the office with public key `key` did not give to this request.

    Raises:
        AccessDenied: It is unsigned, or signed by another key or for another request.
    """
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(
            _bytes(signature or "", 64), _answered(nonce, status, body)
        )
    except (InvalidSignature, ValueError, binascii.Error):
        raise AccessDenied(
            "the answer was not signed by the coordinator's key; expected the one that was "
            "compared by telephone"
        ) from None


def _signed(request: Request, sender: Sender) -> bytes:
    body = hashlib.sha256(request.body).digest()
    return digest(
        "exchange/request",
        request.method,
        request.host,
        request.path,
        body,
        sender.key,
        sender.at,
        sender.nonce,
    )


def _answered(nonce: bytes, status: int, body: bytes) -> bytes:
    return digest("exchange/answer", nonce, status, hashlib.sha256(body).digest())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _bytes(text: str, length: int) -> bytes:
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if len(data) != length or _text(data) != text:
        raise ValueError
    return data


def _time(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ValueError
    return int(text)
