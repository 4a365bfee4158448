# SPDX-License-Identifier: Apache-2.0
"""RFC 8725's attacks, each refused; the three algorithms, each accepted where configured."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from consilium.adapters.identity.tokens import (
    LEEWAY,
    LONGEST,
    Claims,
    Ticket,
    TokenRule,
    check_token,
    make_token,
    own_rule,
    read_token,
    token_key,
)
from consilium.errors import AccessDenied, ConfigError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
IDENTITY = b"i" * 32
RULE = own_rule(IDENTITY, "Charite")
HOUR = timedelta(hours=1)
TICKET = Ticket(subject="scanner-3", project="pneumonia", serial="01J", lasts=HOUR)
SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def rsa() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def public_pem(key: RSAPrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: object) -> dict[str, object]:
    now = int(NOW.timestamp())
    all_of_them = {"iss": "issuer", "aud": "Charite", "sub": "scanner-3", "project": "pneumonia"}
    times = {"jti": "01J", "iat": now, "nbf": now, "exp": now + 3600}
    both = all_of_them | times | changes
    return {name: value for name, value in both.items() if value is not None}


def hmac_rule() -> TokenRule:
    return TokenRule(algorithm="HS256", key=SECRET, issuer="issuer", audience="Charite")


def hmac_token(**changes: object) -> str:
    return jwt.encode(
        {"alg": "HS256"}, claims(**changes), OctKey.import_key(SECRET), algorithms=["HS256"]
    )


def own_token() -> str:
    return make_token(IDENTITY, "Charite", TICKET, now=NOW)


def with_header(token: str, header: dict[str, object], signature: bytes | None = None) -> str:
    _, body, old = token.split(".")
    new = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    end = old if signature is None else base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    return f"{new}.{body}.{end}"


# -- Accepted -------------------------------------------------------------------------


def test_our_own_token_is_believed() -> None:
    found = read_token(own_token(), RULE, project="pneumonia", now=NOW)

    assert found == Claims(
        subject="scanner-3", project="pneumonia", serial="01J", expires=NOW + HOUR
    )


def test_hmac_is_believed_where_configured() -> None:
    assert check_token(hmac_token(), hmac_rule(), now=NOW).subject == "scanner-3"


def test_rsa_is_believed_where_configured(rsa: RSAPrivateKey) -> None:
    rule = TokenRule(algorithm="RS256", key=public_pem(rsa), issuer="issuer", audience="Charite")
    token = jwt.encode({"alg": "RS256"}, claims(), RSAKey.import_key(rsa), algorithms=["RS256"])

    assert check_token(token, rule, now=NOW).project == "pneumonia"


# -- Refused: algorithm and key -------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", [b"", None])
def test_none_is_refused(name: str, signature: bytes | None) -> None:
    with pytest.raises(AccessDenied):
        check_token(with_header(own_token(), {"alg": name}, signature), RULE, now=NOW)


@pytest.mark.parametrize("name", ["HS256", "RS256", "EdDSA", "ES256", "Ed448", "PS256"])
def test_another_algorithm_is_refused(name: str) -> None:
    with pytest.raises(AccessDenied):
        check_token(with_header(own_token(), {"alg": name}), RULE, now=NOW)


def test_a_public_key_taken_for_a_secret_is_refused(rsa: RSAPrivateKey) -> None:
    pem = public_pem(rsa)
    rule = TokenRule(algorithm="RS256", key=pem, issuer="issuer", audience="Charite")
    unsigned = with_header(hmac_token(), {"alg": "HS256"}, b"").rsplit(".", 1)[0]
    forged = hmac.digest(pem, unsigned.encode(), hashlib.sha256)
    token = with_header(hmac_token(), {"alg": "HS256"}, forged)

    with pytest.raises(AccessDenied):
        check_token(token, rule, now=NOW)


def test_our_public_key_taken_for_a_secret_is_refused() -> None:
    unsigned = with_header(own_token(), {"alg": "HS256"}, b"").rsplit(".", 1)[0]
    forged = hmac.digest(RULE.key, unsigned.encode(), hashlib.sha256)

    with pytest.raises(AccessDenied):
        check_token(with_header(own_token(), {"alg": "HS256"}, forged), RULE, now=NOW)


def test_no_rule_can_take_a_public_key_for_a_secret(rsa: RSAPrivateKey) -> None:
    with pytest.raises(ConfigError, match="key file"):
        TokenRule(algorithm="HS256", key=public_pem(rsa), issuer="issuer", audience="Charite")


def test_a_key_in_the_header_is_not_used() -> None:
    mine = OKPKey.generate_key("Ed25519")
    header = {"alg": "Ed25519", "jwk": mine.as_dict(private=False)}
    token = jwt.encode(header, claims(iss="Charite"), mine, algorithms=["Ed25519"])

    with pytest.raises(AccessDenied):
        check_token(token, RULE, now=NOW)


def test_another_offices_token_is_refused() -> None:
    theirs = make_token(b"j" * 32, "Charite", TICKET, now=NOW)

    with pytest.raises(AccessDenied):
        check_token(theirs, RULE, now=NOW)


def test_the_identity_key_itself_signs_no_token() -> None:
    assert token_key(IDENTITY) != IDENTITY


@pytest.mark.parametrize("algorithm", ["Ed25519", "RS256"])
def test_a_rule_with_another_kind_of_key_cannot_be_made(algorithm: str) -> None:
    wrong = ECKey.generate_key("P-256").as_pem(private=False)

    with pytest.raises(ConfigError, match="not one of"):
        TokenRule(algorithm=algorithm, key=wrong, issuer="i", audience="a")  # type: ignore[arg-type]


def test_weak_keys_are_refused() -> None:
    short = public_pem(generate_private_key(65537, 1024))  # noqa: S505 - it is refused
    other = OKPKey.generate_key("X25519").as_pem(private=False)

    with pytest.raises(ConfigError, match="2048"):
        TokenRule(algorithm="RS256", key=short, issuer="i", audience="a")
    with pytest.raises(ConfigError, match="at least"):
        TokenRule(algorithm="HS256", key=b"secret", issuer="i", audience="a")
    with pytest.raises(ConfigError, match="X25519"):
        TokenRule(algorithm="Ed25519", key=other, issuer="i", audience="a")


# -- Refused: claims ------------------------------------------------------------------


def test_another_project_is_refused() -> None:
    with pytest.raises(AccessDenied, match="another project"):
        read_token(own_token(), RULE, project="heart", now=NOW)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "project"])
def test_a_token_without_one_of_its_claims_is_refused(claim: str) -> None:
    with pytest.raises(AccessDenied):
        check_token(hmac_token(**{claim: None}), hmac_rule(), now=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "LMU"},
        {"aud": ["LMU", "TUM"]},
        {"aud": ""},
        {"iss": "somebody"},
        {"sub": 7},
        {"sub": ""},
        {"project": ["pneumonia"]},
        {"project": ""},
        {"jti": "x" * 129},
        {"exp": "tomorrow"},
        {"exp": True},
        {"nbf": None},
    ],
)
def test_wrong_claims_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(AccessDenied):
        check_token(hmac_token(**changes), hmac_rule(), now=NOW)


def test_an_expired_token_is_refused() -> None:
    late = NOW + HOUR + timedelta(seconds=LEEWAY)

    with pytest.raises(AccessDenied, match="ExpiredTokenError"):
        check_token(own_token(), RULE, now=late)


def test_a_token_of_the_future_is_refused() -> None:
    early = NOW - timedelta(seconds=LEEWAY + 1)

    with pytest.raises(AccessDenied):
        check_token(own_token(), RULE, now=early)


def test_no_token_lives_for_ever() -> None:
    now = int(NOW.timestamp())
    token = hmac_token(exp=now + int(LONGEST.total_seconds()) + 1)

    with pytest.raises(AccessDenied, match="lives longer"):
        check_token(token, hmac_rule(), now=NOW)
    with pytest.raises(ConfigError, match="at most"):
        Ticket(subject="s", project="p", serial="t", lasts=LONGEST + HOUR)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "a" * 5000, "é.é.é", own_token()[:-2]])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(AccessDenied):
        check_token(token, RULE, now=NOW)


def test_a_rule_does_not_print_its_key() -> None:
    assert repr(SECRET)[2:20] not in repr(hmac_rule())
