# SPDX-License-Identifier: Apache-2.0
"""Single sign-on by OpenID Connect (extra `oidc`): a hospital's own directory says who somebody is.

Authlib's Starlette client does discovery, PKCE, state, nonce and the check of the ID token. What
is ours: an account exists only after an invitation; the directory's (issuer, subject) is bound to
it once, at the first sign-in with the invited, verified e-mail, and from then on decides alone.
Guarantees: nobody gets an account, a role or another's account by what a directory says.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit

from sqlalchemy import Connection, insert, select

from consilium.adapters.store.identity_tables import SUBJECTS
from consilium.errors import AccessDenied, ConfigError

if TYPE_CHECKING:
    from authlib.integrations.starlette_client import OAuth  # type: ignore[import-untyped]  # has no types

NAME: Final = "directory"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Where people are known.

    Attributes:
        issuer: https://..., whose /.well-known/openid-configuration is read.
        client: This office's name there.
        secret: That goes with it.
    """

    issuer: str
    client: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise ConfigError(f"issuer={self.issuer!r}; expected https://...")


def make_client(directory: Directory) -> "OAuth":
    """Returns Authlib's client for `directory`.

    Raises:
        ConfigError: The extra is not installed.
    """
    try:
        from authlib.integrations.starlette_client import OAuth  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"package {error.name} is missing; expected the extra for single sign-on: "
            "pip install 'consilium[oidc]'"
        ) from None
    client = OAuth()
    client.register(
        NAME,
        client_id=directory.client,
        client_secret=directory.secret,
        server_metadata_url=f"{directory.issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email", "code_challenge_method": "S256"},
    )
    return client


def bound_person(connection: Connection, issuer: str, subject: str) -> str | None:
    """Returns the id of the person whom this subject was bound to, or None."""
    return connection.execute(
        select(SUBJECTS.c.person).where(SUBJECTS.c.issuer == issuer, SUBJECTS.c.subject == subject)
    ).scalar_one_or_none()


def bind_person(connection: Connection, issuer: str, subject: str, person: str) -> None:
    """Binds a subject of the directory to a person who has none there yet.

    Raises:
        AccessDenied: The person is bound to another subject.
    """
    taken = connection.execute(
        select(SUBJECTS.c.subject).where(SUBJECTS.c.issuer == issuer, SUBJECTS.c.person == person)
    ).scalar_one_or_none()
    if taken is not None:
        raise AccessDenied(
            "this account is bound to somebody else of the directory; expected that one: ask an "
            "administrator"
        )
    connection.execute(insert(SUBJECTS).values(issuer=issuer, subject=subject, person=person))
