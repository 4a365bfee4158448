# SPDX-License-Identifier: Apache-2.0
"""Persons of an office: invited, changed, revoked; and who may act as whom."""

from collections.abc import Callable
from datetime import datetime
from typing import final

from sqlalchemy import Connection

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import Invitation, Invited
from consilium.governance.access import Actor
from consilium.governance.roles import Person


@final
class People:
    """Accounts. Credentials and sessions are the identity adapter's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def first_invitation(self, token_hash: bytes, expires: datetime) -> Invitation:
        """Keeps the one invitation of an office without persons; who redeems it becomes Owner.

        Raises:
            Conflict: The office has a person.
        """
        raise NotImplementedError

    def invite(
        self, actor: Actor, whom: Invited, token_hash: bytes, expires: datetime
    ) -> Invitation:
        """Keeps an invitation; its token is made, hashed and shown by the caller."""
        raise NotImplementedError

    def reset(self, actor: Actor, person: str, token_hash: bytes, expires: datetime) -> Invitation:
        """Keeps a one-time link by which a person sets new credentials."""
        raise NotImplementedError

    def invitation(self, token_hash: bytes) -> Invitation:
        """Returns what a token invites to; changes nothing.

        Raises:
            AccessDenied: Unknown, used or expired.
        """
        raise NotImplementedError

    def redeem(self, token_hash: bytes, also: Callable[[Connection, Person], None]) -> Person:
        """Uses an invitation up; `also` writes the credentials in the same transaction.

        Raises:
            AccessDenied: Unknown, used or expired.
        """
        raise NotImplementedError

    def invitations(self, actor: Actor) -> tuple[Invitation, ...]:
        """Returns those that are out."""
        raise NotImplementedError

    def cancel_invitation(self, actor: Actor, invitation: str) -> None:
        """Makes a link useless."""
        raise NotImplementedError

    def actor(self, person: str) -> Actor:
        """Returns who a signed-in person is now; read it for every request.

        Raises:
            AccessDenied: Unknown or revoked.
        """
        raise NotImplementedError

    def by_email(self, email: str) -> Person | None:
        """Returns the person with this address; for sign-in alone."""
        raise NotImplementedError

    def find(self, actor: Actor, words: str = "") -> tuple[Person, ...]:
        """Returns persons whose name, address, role or group holds every word."""
        raise NotImplementedError

    def get(self, actor: Actor, person: str) -> Person:
        """Returns one."""
        raise NotImplementedError

    def change(self, actor: Actor, person: str, *, name: str, email: str, version: int) -> Person:
        """Changes name and address.

        Raises:
            Conflict: It was changed since `version`.
        """
        raise NotImplementedError

    def set_key(self, actor: Actor, key: bytes) -> Person:
        """Keeps the actor's own Ed25519 public key."""
        raise NotImplementedError

    def set_roles(self, actor: Actor, person: str, roles: frozenset[str]) -> Person:
        """Replaces the roles of somebody else."""
        raise NotImplementedError

    def revoke(self, actor: Actor, person: str, reason: str) -> Person:
        """Ends an account for good, and every grant and unfinished project of that person."""
        raise NotImplementedError
