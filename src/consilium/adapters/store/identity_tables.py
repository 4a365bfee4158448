# SPDX-License-Identifier: Apache-2.0
"""The tables of identity and of the exchange. Times are whole seconds since 1970, UTC.

No table holds a password, a session's word, a link's word or a token: only what they hash to.
`DEPARTURES` holds a nonce and a PKCE verifier for minutes: worth nothing without the code.
"""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, UniqueConstraint

from consilium.adapters.store.metadata import METADATA

PASSWORDS: Final = Table(
    "identity_passwords",
    METADATA,
    Column("person", String(64), primary_key=True),
    Column("hash", String(512), nullable=False),
    Column("set_at", BigInteger, nullable=False),
)
SESSIONS: Final = Table(
    "identity_sessions",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("person", String(64), nullable=False, index=True),
    Column("opened_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("idle_seconds", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
LINKS: Final = Table(
    "identity_links",
    METADATA,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("person", String(64), nullable=False, index=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)
TRIES: Final = Table(
    "identity_tries",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("subject", LargeBinary(32), nullable=False, index=True),
    Column("at", BigInteger, nullable=False, index=True),
)
TOKENS: Final = Table(
    "identity_tokens",
    METADATA,
    Column("token", String(128), primary_key=True),
    Column("subject", String(128), nullable=False),
    Column("project", String(128), nullable=False, index=True),
    Column("made_by", String(64), nullable=False, index=True),
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)
NONCES: Final = Table(  # of signed requests that were seen
    "identity_nonces",
    METADATA,
    Column("sender", LargeBinary(32), primary_key=True),
    Column("nonce", LargeBinary(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
ANSWERS: Final = Table(  # by idempotency key
    "api_answers",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("actor", String(64), nullable=False),
    Column("key_digest", LargeBinary(32), nullable=False),
    Column("request_digest", LargeBinary(32), nullable=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("status", Integer),
    Column("body", LargeBinary),
    UniqueConstraint("actor", "key_digest"),
)
DEPARTURES: Final = Table(  # of browsers on their way to the identity provider
    "identity_departures",
    METADATA,
    Column("state", LargeBinary(32), primary_key=True),
    Column("browser", LargeBinary(32), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
)
EXCHANGED: Final = Table(  # how far a site has read, and sent, at its coordinator
    "courier_positions",
    METADATA,
    Column("peer", String(128), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("position", String(128), nullable=False),
)


def seconds(at: datetime) -> int:
    """Returns whole seconds since 1970 of a time with a zone."""
    return int(at.timestamp())
