# SPDX-License-Identifier: Apache-2.0
"""The hospital's own identity provider, spoken to by OpenID Connect: what it says of somebody.

    discover       -> where it is to be asked, by its own document
    leave_for      -> the address to which a browser is sent
    ask_provider   -> a code becomes a verified e-mail

Not here: sessions, accounts and what a browser holds (`provider_sign_in`). The requests are
Authlib's, the signatures joserfc's. Guarantees: TLS but to this machine, no redirect, five seconds
without a byte; an ID token counts only if it is signed by RS256, ES256 or Ed25519 with a key that
the issuer publishes now, for this office, for this one sign-in, and has not ended; an e-mail only
if the provider says that it was verified. Sources: OpenID Connect Core 1.0, 3.1; Discovery 1.0,
4.3; RFC 7636 (PKCE).
"""

import base64
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from typing import Any, Final, TypeVar, final
from urllib.parse import urlsplit

import httpx
import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from consilium.errors import AccessDenied, ConfigError

ALGORITHMS: Final = ("RS256", "ES256", "Ed25519")
SECONDS: Final = 5.0
LEEWAY: Final = 60  # seconds by which two clocks may differ
_T = TypeVar("_T")
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_MOST_CHARACTERS: Final = 1 << 16
_FEWEST_RSA_BITS: Final = 2048


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRule:
    """Whose word on who somebody is counts here.

    Attributes:
        issuer: https://..., as its ID tokens name it.
        client_id: How it knows this office.
        client_secret: That it knows this office by.
        label: What people call it.
    """

    issuer: str
    client_id: str
    client_secret: str = field(repr=False)
    label: str

    def __post_init__(self) -> None:
        if not _is_safe(self.issuer):
            raise ConfigError(
                f"issuer={self.issuer!r} of [oidc]; expected https://..., because whoever listens "
                "could sign in"
            )
        if not (self.client_id and self.client_secret and self.label.strip()):
            raise ConfigError("[oidc] lacks client_id, the secret or label; expected all three")


class Discovered(msgspec.Struct, frozen=True):
    """What the provider publishes about itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class _Keys(msgspec.Struct, frozen=True):
    """RFC 7517, section 5."""

    keys: list[dict[str, Any]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One sign-in, from this office to the provider and back.

    Attributes:
        nonce: That the ID token has to repeat.
        verifier: Of PKCE; the provider saw its digest first.
        back: Where the provider sends the browser.
    """

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    back: str


def require_authlib() -> None:
    """Does nothing where the extra is installed.

    Raises:
        ConfigError: It is not.
    """
    _load("authlib.oauth2.client")


def discover(rule: ProviderRule, client: httpx.Client) -> Discovered:
    """Returns where the provider is to be asked.

    Raises:
        AccessDenied: It does not answer, or says that it is somebody else.
    """
    found = _get(client, rule.issuer.rstrip("/") + _WELL_KNOWN, Discovered)
    if found.issuer != rule.issuer:
        raise AccessDenied(
            "the identity provider calls itself otherwise than it is configured here; expected "
            "the same issuer: ask whoever runs this office"
        )
    if not all(map(_is_safe, (found.authorization_endpoint, found.token_endpoint, found.jwks_uri))):
        raise AccessDenied("the identity provider names an address without TLS; expected https")
    return found


def leave_for(rule: ProviderRule, found: Discovered, state: str, going: Round) -> str:
    """Returns the address at which the provider asks somebody who they are."""
    address, _ = _authlib(rule, None, going.back).create_authorization_url(
        found.authorization_endpoint,
        state=state,
        code_verifier=going.verifier,
        nonce=going.nonce,
    )
    return str(address)


def ask_provider(
    rule: ProviderRule, client: httpx.Client, code: str, going: Round, *, now: datetime
) -> str:
    """Returns the verified e-mail of whoever came back with `code`.

    Raises:
        AccessDenied: The provider does not vouch for them, or its word does not hold here.
    """
    found = discover(rule, client)
    token = _fetch_token(rule, client, found, code, going)
    published = _get(client, found.jwks_uri, _Keys).keys
    return _email_of(_claims(token, published, rule, going.nonce, now))


def _fetch_token(
    rule: ProviderRule, client: httpx.Client, found: Discovered, code: str, going: Round
) -> str:
    base: Any = _load("authlib.oauth2").OAuth2Error
    try:
        answer = _authlib(rule, client, going.back).fetch_token(
            found.token_endpoint,
            grant_type="authorization_code",
            code=code,
            code_verifier=going.verifier,
            auth=(rule.client_id, rule.client_secret),
        )
    except (base, httpx.HTTPError, ValueError) as error:
        raise AccessDenied(
            f"the identity provider does not take this sign-in ({type(error).__name__}); expected "
            "a fresh one: start again"
        ) from None
    token = answer.get("id_token")
    if not isinstance(token, str) or len(token) > _MOST_CHARACTERS:
        raise AccessDenied("the identity provider sent no ID token; expected one: scope openid")
    return token


def _claims(
    token: str, published: list[dict[str, Any]], rule: ProviderRule, nonce: str, now: datetime
) -> dict[str, Any]:
    """Returns what the ID token says, after every check of OpenID Connect Core, 3.1.3.7."""
    checked: Any = _load("authlib.oidc.core").CodeIDToken
    try:
        signed = jwt.decode(token, _key_set(published), algorithms=list(ALGORITHMS))
        claims = checked(
            signed.claims,
            signed.header,
            {
                "iss": {"essential": True, "value": rule.issuer},
                "aud": {"essential": True, "value": rule.client_id},
                "nonce": {"essential": True, "value": nonce},
            },
            {"nonce": nonce, "client_id": rule.client_id},
        )
        claims.validate(now=int(now.timestamp()), leeway=LEEWAY)
    except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise AccessDenied(
            f"the ID token is refused ({_named(error)}); expected one of the configured issuer, "
            "for this office and this sign-in, valid now: start again"
        ) from None
    return dict(claims)


def _named(error: Exception) -> str:
    claim = getattr(error, "claim", "")
    return f"{type(error).__name__}: {claim}" if claim else type(error).__name__


def _key_set(published: list[dict[str, Any]]) -> KeySet:
    """Returns the published keys for signatures, of kinds and sizes that are believed here."""
    usable = [
        one
        for one in published
        if one.get("kty") in ("RSA", "EC", "OKP")
        and one.get("use", "sig") == "sig"
        and not _is_short(one)
    ]
    return KeySet.import_key_set({"keys": usable})


def _is_short(key: dict[str, Any]) -> bool:
    if key["kty"] != "RSA":
        return False
    modulus = base64.urlsafe_b64decode(key["n"] + "==")
    return int.from_bytes(modulus, "big").bit_length() < _FEWEST_RSA_BITS


def _email_of(claims: dict[str, Any]) -> str:
    email = claims.get("email")
    if claims.get("email_verified") is not True or not isinstance(email, str):
        raise AccessDenied(
            "the identity provider has not verified an e-mail of this person; expected "
            "email_verified: ask whoever runs it"
        )
    if not email.isascii():  # letters that look or fold alike would be another's address
        raise AccessDenied("the e-mail has letters beyond ASCII; expected none: use a password")
    return email


# -- Requests -------------------------------------------------------------------------


def _get(client: httpx.Client, address: str, kind: type[_T]) -> _T:
    try:
        answer = client.get(address, headers={"Accept": "application/json"})
        if answer.status_code != 200:
            raise AccessDenied("the identity provider refused; expected its document: try later")
        return msgspec.json.decode(answer.content, type=kind)
    except (httpx.HTTPError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AccessDenied(
            f"the identity provider gave no answer that can be read ({type(error).__name__}); "
            "expected its document: use a password, or try later"
        ) from None


def _authlib(rule: ProviderRule, session: httpx.Client | None, back: str) -> Any:  # noqa: ANN401
    """Returns Authlib's client; its own httpx class would be tied to another HTTP package."""
    return _load("authlib.oauth2.client").OAuth2Client(
        session,
        client_id=rule.client_id,
        client_secret=rule.client_secret,
        scope="openid email",
        redirect_uri=back,
        code_challenge_method="S256",
    )


def _load(name: str) -> Any:  # noqa: ANN401 - Authlib has no types
    try:
        return import_module(name)
    except ImportError:
        raise ConfigError(
            "[oidc] of identity.toml needs authlib, which is not installed; expected the extra: "
            "pip install 'consilium[oidc]'"
        ) from None


def _is_safe(address: str) -> bool:
    parts = urlsplit(address)
    plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
    return bool((parts.scheme == "https" or plain) and parts.hostname and not parts.fragment)
