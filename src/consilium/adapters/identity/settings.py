# SPDX-License-Identifier: Apache-2.0
"""What an operator configures of identity: `identity.toml` in the office's folder; absent is well.

    [[tokens]]                      other people's issuers of hosted-training tokens
    algorithm = "RS256"             RS256, HS256 or Ed25519
    key_file = "issuer.pem"         public key in PEM; for HS256 the secret itself
    issuer = "https://issuer.example"

    [token_service]                 opaque tokens, asked for at another service
    address = "https://issuer.example/introspect"
    credential_file = "service.secret"

    [oidc]                          sign-in by the hospital's identity provider
    issuer = "https://login.example"
    client_id = "consilium"
    client_secret_file = "oidc.secret"
    label = "hospital account"

Secrets lie in files of their own, beside it, that only their owner reads. Without this file an
office believes its own Ed25519 tokens alone.
"""

from pathlib import Path
from typing import Final, final

import msgspec

from consilium.adapters.identity.provider import ProviderRule
from consilium.adapters.identity.remote_tokens import RemoteRule
from consilium.adapters.identity.tokens import Algorithm, TokenRule
from consilium.errors import ConfigError

NAME: Final = "identity.toml"


class _Tokens(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    algorithm: Algorithm
    key_file: str
    issuer: str


class _Service(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    address: str
    credential_file: str


class _Oidc(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    issuer: str
    client_id: str
    client_secret_file: str
    label: str


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tokens: tuple[_Tokens, ...] = ()
    token_service: _Service | None = None
    oidc: _Oidc | None = None


@final
class IdentitySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Whom an office believes beside itself; by default nobody."""

    rules: tuple[TokenRule, ...] = ()
    service: RemoteRule | None = None
    provider: ProviderRule | None = None


def read_settings(folder: Path, office: str) -> IdentitySettings:
    """Returns what `identity.toml` says, with the secrets it names.

    Raises:
        ConfigError: It cannot be read, or a secret's file is missing or open to others.
    """
    path = folder / NAME
    if not path.exists():
        return IdentitySettings()
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"{NAME} cannot be used: {error}; see docs/identity.md") from None
    return IdentitySettings(
        rules=tuple(
            TokenRule(
                algorithm=one.algorithm,
                key=_key(folder, one),
                issuer=one.issuer,
                audience=office,
            )
            for one in file.tokens
        ),
        service=_service(folder, file.token_service, office),
        provider=_provider(folder, file.oidc),
    )


def _provider(folder: Path, one: _Oidc | None) -> ProviderRule | None:
    if one is None:
        return None
    return ProviderRule(
        issuer=one.issuer,
        client_id=one.client_id,
        client_secret=_secret(folder, one.client_secret_file).decode().strip(),
        label=one.label,
    )


def _service(folder: Path, one: _Service | None, office: str) -> RemoteRule | None:
    if one is None:
        return None
    credential = _secret(folder, one.credential_file).decode().strip()
    return RemoteRule(address=one.address, credential=credential, audience=office)


def _key(folder: Path, one: _Tokens) -> bytes:
    if one.algorithm == "HS256":
        return _secret(folder, one.key_file)
    try:
        return (folder / one.key_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"{one.key_file} cannot be read ({error.strerror})") from None


def _secret(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        mode, secret = path.stat().st_mode & 0o077, path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be read ({error.strerror}); expected a secret's file beside {NAME}"
        ) from None
    if mode:
        raise ConfigError(f"others may read {name}; expected mode 600: chmod 600")
    return secret
