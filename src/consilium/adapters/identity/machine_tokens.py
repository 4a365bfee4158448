# SPDX-License-Identifier: Apache-2.0
"""The tokens that this office made: a list, so that one can be taken back before it ends."""

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from consilium.adapters.identity.tokens import Claims, Ticket
from consilium.adapters.store.identity_tables import TOKENS, seconds
from consilium.errors import AccessDenied


def note_token(connection: Connection, ticket: Ticket, *, made_by: str, now: datetime) -> None:
    """Writes down that `made_by` made a token; the token itself is not kept."""
    connection.execute(
        insert(TOKENS).values(
            token=ticket.serial,
            subject=ticket.subject,
            project=ticket.project,
            made_by=made_by,
            made_at=seconds(now),
            expires_at=seconds(now + ticket.lasts),
        )
    )


def check_not_revoked(connection: Connection, claims: Claims) -> None:
    """Refuses a token of ours that was taken back or that we never made.

    Raises:
        AccessDenied: It is not on the list, not for what the list says, or taken back.
    """
    row = connection.execute(select(TOKENS).where(TOKENS.c.token == claims.serial)).one_or_none()
    known = row is not None and (row.subject, row.project) == (claims.subject, claims.project)
    if row is None or not known or row.revoked_at is not None:
        raise AccessDenied("the token was taken back, or is none of this office's")


def revoke_token(connection: Connection, token: str, *, now: datetime) -> bool:
    """Takes a token back; returns whether there was one that could be used."""
    done = connection.execute(
        update(TOKENS)
        .where(TOKENS.c.token == token, TOKENS.c.revoked_at.is_(None))
        .values(revoked_at=seconds(now))
    )
    return done.rowcount == 1


def revoke_tokens_of_project(connection: Connection, project: str, *, now: datetime) -> int:
    """Takes back every token of a project; returns how many."""
    return connection.execute(
        update(TOKENS)
        .where(TOKENS.c.project == project, TOKENS.c.revoked_at.is_(None))
        .values(revoked_at=seconds(now))
    ).rowcount
