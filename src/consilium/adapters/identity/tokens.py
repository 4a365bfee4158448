# SPDX-License-Identifier: Apache-2.0
"""Signed tokens: one machine, one project, one audience, a few hours.

`TokenRule` says which tokens an office believes; it is the only place where algorithm and key
meet, and it cannot be built with two that do not belong together. Ed25519 (RFC 9864's name for
what was "EdDSA") signs what this office makes; RS256, HS256 and opaque tokens that a remote API
judges (`remote_tokens`) are for other people's issuers and exist only where configured.

Guarantees: the algorithm comes from the rule, never from the token, so `none`, another algorithm
and a public key taken for an HMAC secret are refused; a token without exp, nbf, iat, aud, sub,
jti and project, of another project, another audience, not yet or no longer valid is refused.
Source: RFC 7519; RFC 8725 (best current practice), sections 3.1, 3.2, 3.8, 3.9, 3.11.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias, final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, OKPKey, RSAKey

from consilium.errors import AccessDenied, ConfigError

Algorithm: TypeAlias = Literal["Ed25519", "RS256", "HS256"]
LEEWAY: Final = 60  # seconds between two clocks
LONGEST: Final = timedelta(hours=24)  # that any token may live, whoever made it
MOST_CHARACTERS: Final = 4096
_FEWEST_SECRET_BYTES: Final = 32  # RFC 7518, 3.2
_FEWEST_RSA_BITS: Final = 2048  # RFC 7518, 3.3
_REQUIRED: Final = ("sub", "exp", "nbf", "iat", "jti", "project")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """Which tokens are believed.

    Attributes:
        algorithm: The only one.
        key: Ed25519 or RSA public key as PEM; for HS256 the shared secret, at least 32 bytes.
        issuer: The only one.
        audience: Whom a token must be meant for: this office.

    Raises:
        ConfigError: The key is not of the algorithm's kind, too short, or for HS256 it is a
            public key in disguise.
    """

    algorithm: Algorithm
    key: bytes = field(repr=False)
    issuer: str
    audience: str

    def __post_init__(self) -> None:
        _key_of(self.algorithm, self.key)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a believed token says.

    Attributes:
        subject: Which machine or worker.
        project: The only project it is for.
        serial: Its number, by which it can be revoked.
        expires: When it ends.
    """

    subject: str
    project: str
    serial: str
    expires: datetime


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a new token is to say.

    Attributes:
        subject: Which machine or worker.
        project: The only project it is for.
        serial: Its number.
        lasts: At most `LONGEST`.
    """

    subject: str
    project: str
    serial: str
    lasts: timedelta

    def __post_init__(self) -> None:
        if not timedelta(0) < self.lasts <= LONGEST:
            raise ConfigError(f"lasts={self.lasts}; expected more than 0 and at most {LONGEST}")


def token_key(identity: bytes) -> bytes:
    """Returns the office's Ed25519 private key for tokens, derived from its identity key.

    The identity key itself signs contracts, log heads and requests; no token can be one of them.
    """
    return HKDF(
        algorithm=SHA256(), length=32, salt=None, info=b"consilium/v1/identity/tokens"
    ).derive(identity)


def own_rule(identity: bytes, office: str) -> TokenRule:
    """Returns the rule for tokens that this office makes itself."""
    key = OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(token_key(identity)))
    return TokenRule(
        algorithm="Ed25519", key=key.as_pem(private=False), issuer=office, audience=office
    )


def make_token(identity: bytes, office: str, ticket: Ticket, *, now: datetime) -> str:
    """Returns a token by which a machine shows that it may take part in one project."""
    seconds = int(now.timestamp())
    claims = {
        "iss": office,
        "aud": office,
        "sub": ticket.subject,
        "project": ticket.project,
        "jti": ticket.serial,
        "iat": seconds,
        "nbf": seconds,
        "exp": seconds + int(ticket.lasts.total_seconds()),
    }
    key = OKPKey.import_key(Ed25519PrivateKey.from_private_bytes(token_key(identity)))
    return jwt.encode({"alg": "Ed25519"}, claims, key, algorithms=["Ed25519"])


def read_token(token: str, rule: TokenRule, *, project: str, now: datetime) -> Claims:
    """Returns what `token` says, if `rule` believes it and it is for `project`.

    Raises:
        AccessDenied: It is not believed; the reason names the check and no claim of the token.
    """
    claims = check_token(token, rule, now=now)
    if claims.project != project:
        raise AccessDenied("the token is for another project; expected one for this project")
    return claims


def check_token(token: str, rule: TokenRule, *, now: datetime) -> Claims:
    """Returns what `token` says, if `rule` believes it; the caller compares the project.

    Raises:
        AccessDenied: It is not believed.
    """
    if len(token) > MOST_CHARACTERS:
        raise AccessDenied(f"the token is longer than {MOST_CHARACTERS} characters")
    try:
        found = jwt.decode(token, _key_of(rule.algorithm, rule.key), algorithms=[rule.algorithm])
        _claims_registry(rule, now).validate(found.claims)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise AccessDenied(
            f"the token is refused ({type(error).__name__}); expected one signed by "
            f"{rule.algorithm} of the configured issuer, for this office, valid now"
        ) from None
    return _claims(found.claims)


def _claims(claims: dict[str, object]) -> Claims:
    texts = {name: claims[name] for name in ("sub", "project", "jti")}
    expires, issued = claims["exp"], claims["iat"]
    if not all(isinstance(text, str) and 0 < len(text) <= 128 for text in texts.values()):
        raise AccessDenied("the token's sub, project or jti is no text of 1 to 128 characters")
    assert isinstance(expires, int | float)  # noqa: S101 - joserfc has checked both
    assert isinstance(issued, int | float)  # noqa: S101
    if expires - issued > LONGEST.total_seconds():
        raise AccessDenied(f"the token lives longer than {LONGEST}; expected a shorter one")
    return Claims(
        subject=str(texts["sub"]),
        project=str(texts["project"]),
        serial=str(texts["jti"]),
        expires=datetime.fromtimestamp(expires, tz=UTC),
    )


def _claims_registry(rule: TokenRule, now: datetime) -> jwt.JWTClaimsRegistry:
    return jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY,
        iss={"essential": True, "value": rule.issuer},
        aud={"essential": True, "value": rule.audience},
        **{name: jwt.ClaimsOption(essential=True) for name in _REQUIRED},
    )


def _key_of(algorithm: Algorithm, key: bytes) -> OKPKey | RSAKey | OctKey:
    """Returns the key, if it is of the kind that the algorithm needs."""
    if algorithm == "HS256":
        if b"-----BEGIN" in key or len(key) < _FEWEST_SECRET_BYTES:
            raise ConfigError(
                f"the HS256 secret has {len(key)} bytes or is a key file; expected at least "
                f"{_FEWEST_SECRET_BYTES} random bytes that nobody else has"
            )
        return OctKey.import_key(key)
    try:
        public = load_pem_public_key(key)
    except (ValueError, UnsupportedAlgorithm):
        public = None
    if algorithm == "Ed25519" and isinstance(public, Ed25519PublicKey):
        return OKPKey.import_key(public)
    if algorithm == "RS256" and isinstance(public, RSAPublicKey):
        if public.key_size < _FEWEST_RSA_BITS:
            raise ConfigError(f"the RSA key has {public.key_size} bits; expected 2048 or more")
        return RSAKey.import_key(public)
    raise ConfigError(
        f"the key is not one of {algorithm} ({type(public).__name__}); expected its public key, "
        "in PEM"
    )
