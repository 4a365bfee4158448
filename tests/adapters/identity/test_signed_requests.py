# SPDX-License-Identifier: Apache-2.0
import os
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, func, select
from tests.adapters.identity.conftest import NOW

from consilium.adapters.identity.signed_requests import (
    SKEW,
    Request,
    check_answer,
    check_request,
    sign_answer,
    sign_request,
    spend_nonce,
)
from consilium.adapters.store.identity_tables import NONCES
from consilium.errors import AccessDenied

IDENTITY = b"s" * 32
PUBLIC = Ed25519PrivateKey.from_private_bytes(IDENTITY).public_key().public_bytes_raw()
REQUEST = Request(
    method="POST", host="hub.example", path="/api/v1/exchange/heads?after=3", body=b"{}"
)


def signed(request: Request = REQUEST) -> dict[str, str]:
    return sign_request(request, IDENTITY, now=NOW, nonce=os.urandom(16))


def test_a_signed_request_names_its_sender() -> None:
    assert check_request(REQUEST, signed(), now=NOW).key == PUBLIC


@pytest.mark.parametrize(
    "changed",
    [
        replace(REQUEST, method="GET"),
        replace(REQUEST, host="other.example"),
        replace(REQUEST, path="/api/v1/exchange/heads?after=4"),
        replace(REQUEST, body=b"{} "),
    ],
)
def test_a_changed_request_is_refused(changed: Request) -> None:
    with pytest.raises(AccessDenied, match="not signed by the key"):
        check_request(changed, signed(), now=NOW)


def test_a_key_put_in_anothers_place_is_refused() -> None:
    other = sign_request(REQUEST, b"o" * 32, now=NOW, nonce=os.urandom(16))
    forged = other | {"Consilium-Identity": signed()["Consilium-Identity"]}

    with pytest.raises(AccessDenied):
        check_request(REQUEST, forged, now=NOW)


@pytest.mark.parametrize("name", ["Identity", "Time", "Nonce", "Signature"])
@pytest.mark.parametrize("value", [None, "", "é", "A", "AAAA", "A" * 400])
def test_a_damaged_header_is_refused(name: str, value: str | None) -> None:
    headers = signed()
    del headers[f"Consilium-{name}"]
    damaged = headers if value is None else headers | {f"Consilium-{name}": value}

    with pytest.raises(AccessDenied):
        check_request(REQUEST, damaged, now=NOW)


@pytest.mark.parametrize("off", [-SKEW - 1, SKEW + 1])
def test_a_clock_that_is_off_is_refused(off: int) -> None:
    with pytest.raises(AccessDenied, match="clock"):
        check_request(REQUEST, signed(), now=NOW + timedelta(seconds=off))


@pytest.mark.parametrize("off", [-SKEW, SKEW])
def test_a_clock_that_is_nearly_right_is_well(off: int) -> None:
    assert check_request(REQUEST, signed(), now=NOW + timedelta(seconds=off)).key == PUBLIC


def test_a_request_is_seen_once(connection: Connection) -> None:
    sender = check_request(REQUEST, signed(), now=NOW)
    spend_nonce(connection, sender, now=NOW)

    with pytest.raises(AccessDenied, match="seen before"):
        spend_nonce(connection, sender, now=NOW)


def test_a_nonce_is_kept_while_its_time_would_pass(connection: Connection) -> None:
    early = sign_request(REQUEST, IDENTITY, now=NOW + timedelta(seconds=SKEW), nonce=os.urandom(16))
    spend_nonce(connection, check_request(REQUEST, early, now=NOW), now=NOW)
    last = NOW + timedelta(seconds=2 * SKEW)

    with pytest.raises(AccessDenied, match="seen before"):
        spend_nonce(connection, check_request(REQUEST, early, now=last), now=last)


def test_old_nonces_are_forgotten(connection: Connection) -> None:
    spend_nonce(connection, check_request(REQUEST, signed(), now=NOW), now=NOW)
    later = NOW + timedelta(hours=1)
    again = sign_request(REQUEST, IDENTITY, now=later, nonce=os.urandom(16))

    spend_nonce(connection, check_request(REQUEST, again, now=later), now=later)

    assert connection.execute(select(func.count()).select_from(NONCES)).scalar_one() == 1


def test_an_answer_is_its_offices_and_this_requests() -> None:
    nonce = b"n" * 16
    signature = sign_answer(IDENTITY, nonce, 200, b"[]")

    check_answer(PUBLIC, nonce, 200, b"[]", signature)


@pytest.mark.parametrize(
    ("nonce", "status", "body"),
    [(b"m" * 16, 200, b"[]"), (b"n" * 16, 201, b"[]"), (b"n" * 16, 200, b"[1]")],
)
def test_a_changed_answer_is_refused(nonce: bytes, status: int, body: bytes) -> None:
    signature = sign_answer(IDENTITY, b"n" * 16, 200, b"[]")

    with pytest.raises(AccessDenied, match="not signed"):
        check_answer(PUBLIC, nonce, status, body, signature)


@pytest.mark.parametrize("signature", [None, "", "AAAA", "é"])
def test_an_unsigned_answer_is_refused(signature: str | None) -> None:
    with pytest.raises(AccessDenied):
        check_answer(PUBLIC, b"n" * 16, 200, b"[]", signature)
