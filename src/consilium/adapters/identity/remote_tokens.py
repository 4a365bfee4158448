# SPDX-License-Identifier: Apache-2.0
"""Opaque tokens that another service judges: a hospital's own issuer, where configured.

One request a token: POST to the configured HTTPS address, as RFC 7662 has it, with this office's
own credential. Guarantees: no plain HTTP but to this machine, no redirect, five seconds, 64 KiB;
whatever is not a plain yes for this project and this audience, now, is a no.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, final
from urllib.parse import urlsplit

import httpx
import msgspec

from consilium.adapters.identity.tokens import LONGEST, MOST_CHARACTERS, Claims
from consilium.errors import AccessDenied, ConfigError

SECONDS: Final = 5.0
_LARGEST: Final = 1 << 16
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteRule:
    """Whom to ask about an opaque token.

    Attributes:
        address: Where tokens are posted; https, or http at this machine.
        credential: That the service knows this office by.
        audience: Whom the token must be meant for: this office.
    """

    address: str
    credential: str = field(repr=False)
    audience: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        plain = parts.scheme == "http" and parts.hostname in _LOOPBACK
        if not (parts.scheme == "https" or plain) or not parts.hostname:
            raise ConfigError(
                f"address={self.address!r} of the token service; expected https://..., because "
                "whoever listens could take part"
            )


class _Answer(msgspec.Struct, frozen=True):
    """RFC 7662, section 2.2; `project` is ours."""

    active: bool
    sub: str = ""
    aud: str | list[str] = ""
    exp: int = 0
    jti: str = ""
    project: str = ""


def ask_remote(token: str, rule: RemoteRule, client: httpx.Client, *, now: datetime) -> Claims:
    """Returns what the service says of `token`, if that is a yes for this office.

    Raises:
        AccessDenied: It is a no, or no answer.
    """
    if not 0 < len(token) <= MOST_CHARACTERS:
        raise AccessDenied(f"the token has no or more than {MOST_CHARACTERS} characters")
    answer = _ask(token, rule, client)
    meant = [answer.aud] if isinstance(answer.aud, str) else answer.aud
    lives = answer.exp - now.timestamp()
    if not answer.active or rule.audience not in meant or not answer.sub or not answer.project:
        raise AccessDenied("the token service does not vouch for this token at this office")
    if not 0 < lives <= LONGEST.total_seconds():
        raise AccessDenied(f"the token has ended, or lives longer than {LONGEST}")
    return Claims(
        subject=answer.sub,
        project=answer.project,
        serial=answer.jti or answer.sub,
        expires=datetime.fromtimestamp(answer.exp, tz=UTC),
    )


def _ask(token: str, rule: RemoteRule, client: httpx.Client) -> _Answer:
    try:
        with client.stream(
            "POST",
            rule.address,
            data={"token": token},
            headers={"Authorization": f"Bearer {rule.credential}", "Accept": "application/json"},
            timeout=SECONDS,
            follow_redirects=False,
        ) as response:
            body = b"".join(_bounded(response))
        if response.status_code != 200:
            raise AccessDenied("the token service refused; expected its yes")
        return msgspec.json.decode(body, type=_Answer)
    except (httpx.HTTPError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AccessDenied(
            f"the token service gave no answer that can be read ({type(error).__name__}); "
            "expected its yes: ask whoever runs it"
        ) from None


def _bounded(response: httpx.Response) -> list[bytes]:
    parts, size = [], 0
    for part in response.iter_bytes():
        size += len(part)
        if size > _LARGEST:
            raise AccessDenied(f"the token service answers more than {_LARGEST} bytes")
        parts.append(part)
    return parts
