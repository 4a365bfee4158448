# SPDX-License-Identifier: Apache-2.0
"""Persons of an office: invited, changed, revoked; and who may act as whom.

An account comes into being by a one-time invitation alone; of its token only the hash is kept.
The first invitation of an office without persons makes its Owner. Not here: credentials and
sessions (the identity adapter), which are written in the same transaction by `redeem`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import final

from sqlalchemy import Connection

from consilium.adapters.office.desk import OPERATOR, Desk, Turn, actor_of
from consilium.adapters.office.ending import end_person
from consilium.adapters.office.values import Invitation, InvitationKind, Invited
from consilium.adapters.store.audit_store import append_entry
from consilium.adapters.store.office_shelves import (
    GROUPS,
    INVITATIONS,
    PEOPLE,
    ROLES,
    InvitationRow,
    PersonRow,
)
from consilium.errors import AccessDenied, ConfigError, Conflict
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.audit_log import Fact, facts_json
from consilium.governance.roles import OWNER, Permission, Person, PersonState, permissions_of


@final
class People:
    """Accounts. Credentials and sessions are the identity adapter's."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # -- Invitations ------------------------------------------------------------------

    def first_invitation(
        self, token_hash: bytes, expires: datetime, *, login: str | None = None
    ) -> Invitation:
        """Keeps the one invitation of an office without persons; who redeems it becomes Owner.

        Args:
            token_hash: Of the token in the link.
            expires: UTC.
            login: Account of the operating system that may then act by the command line.

        Raises:
            Conflict: The office has a person.
        """
        row = InvitationRow(
            id=self._desk.new_id(),
            kind=InvitationKind.JOIN,
            token_hash=token_hash,
            name="",
            email="",
            roles=frozenset({OWNER.name}),
            groups=frozenset(),
            expires=expires,
            invited_by=OPERATOR,
            login=login,
        )
        with self._desk.database.transaction() as connection:
            if PEOPLE.where(connection):
                raise Conflict("this office has an Owner; expected an invitation of theirs")
            for old in INVITATIONS.where(connection):
                row = replace(row, login=row.login or old.login)
                INVITATIONS.drop(connection, old.id)
            INVITATIONS.add(connection, row.id, row)
            self._log(connection, Action.INVITE_PERSON, f"person:{row.id}", {"roles": ["Owner"]})
        return _invitation(row)

    def invite(
        self, actor: Actor, whom: Invited, token_hash: bytes, expires: datetime
    ) -> Invitation:
        """Keeps an invitation; its token is made, hashed and shown by the caller."""
        _check_words(whom.name, whom.email)
        with self._desk.acting(actor) as turn:
            wanted = _rights(turn.connection, whom.roles)
            if whom.groups:
                turn.allow(Action.CHANGE_MEMBERS, Resource(kind=ResourceKind.GROUP))
            turn.allow(Action.INVITE_PERSON, Resource(kind=ResourceKind.PERSON, permissions=wanted))
            if _with_email(turn.connection, whom.email):
                raise Conflict(f"{whom.email} has an account; expected another address")
            row = InvitationRow(
                id=self._desk.new_id(),
                kind=InvitationKind.JOIN,
                token_hash=token_hash,
                name=whom.name,
                email=whom.email,
                roles=whom.roles,
                groups=whom.groups,
                expires=expires,
                invited_by=actor.id,
            )
            INVITATIONS.add(turn.connection, row.id, row)
            turn.note({"name": whom.name, "roles": sorted(whom.roles)}, about=row.id)
        return _invitation(row)

    def reset(self, actor: Actor, person: str, token_hash: bytes, expires: datetime) -> Invitation:
        """Keeps a one-time link by which a person sets new credentials."""
        with self._desk.acting(actor) as turn:
            whom = PEOPLE.get(turn.connection, person)
            turn.allow(Action.RESET_PERSON, _person(turn.connection, whom))
            row = InvitationRow(
                id=self._desk.new_id(),
                kind=InvitationKind.RESET,
                token_hash=token_hash,
                name=whom.name,
                email=whom.email,
                roles=whom.roles,
                groups=frozenset(),
                expires=expires,
                invited_by=actor.id,
                person=person,
            )
            INVITATIONS.add(turn.connection, row.id, row)
            turn.note()
        return _invitation(row)

    def invitation(self, token_hash: bytes) -> Invitation:
        """Returns what a token invites to; changes nothing.

        Raises:
            AccessDenied: Unknown, used or expired.
        """
        with self._desk.database.reading() as connection:
            return _invitation(self._valid(connection, token_hash))

    def redeem(
        self,
        token_hash: bytes,
        also: Callable[[Connection, Person], None],
        *,
        named: tuple[str, str] | None = None,
    ) -> Person:
        """Uses an invitation up; `also` writes the credentials in the same transaction.

        Args:
            token_hash: Of the token.
            also: Called with the connection and the person.
            named: Name and address; only of the first person, whose invitation has none.

        Raises:
            AccessDenied: Unknown, used or expired.
            ConfigError: The first person gave no name or address.
        """
        with self._desk.database.transaction() as connection:
            row = self._valid(connection, token_hash)
            INVITATIONS.put(connection, row.id, replace(row, used=self._desk.clock()))
            if row.person is None:
                person = self._join(connection, row, named)
            else:
                person = PEOPLE.get(connection, row.person)
            known = whole_person(connection, person)
            also(connection, known)
            how = {"invitation": row.id, "kind": str(row.kind)}
            self._log(connection, Action.CHANGE_PERSON, f"person:{person.id}", how, by=person)
        return known

    def _join(
        self, connection: Connection, row: InvitationRow, named: tuple[str, str] | None
    ) -> PersonRow:
        name, email = (row.name, row.email) if row.email else (named or ("", ""))
        _check_words(name, email)
        person = PersonRow(
            id=self._desk.new_id(), name=name, email=email, roles=row.roles, login=row.login
        )
        PEOPLE.add(connection, person.id, person)
        for name in row.groups:
            for group in GROUPS.having(connection, "name", name):
                GROUPS.put(
                    connection, group.id, replace(group, members=group.members | {person.id})
                )
        return person

    def _valid(self, connection: Connection, token_hash: bytes) -> InvitationRow:
        found = INVITATIONS.having(connection, "token_hash", token_hash.hex())
        if not found or found[0].used is not None or self._desk.clock() >= found[0].expires:
            raise AccessDenied("this link was used, has expired or is none; ask for a new one")
        if found[0].person is not None:
            whose = PEOPLE.get(connection, found[0].person)
            if whose.state is not PersonState.ACTIVE:
                raise AccessDenied("this account was ended; ask an administrator")
        return found[0]

    def invitations(self, actor: Actor) -> tuple[Invitation, ...]:
        """Returns those that are out."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_PEOPLE, Resource(kind=ResourceKind.PERSON))
            rows = INVITATIONS.where(turn.connection)
        return tuple(
            _invitation(row) for row in rows if row.used is None and turn.now < row.expires
        )

    def cancel_invitation(self, actor: Actor, invitation: str) -> None:
        """Makes a link useless."""
        with self._desk.acting(actor) as turn:
            row = INVITATIONS.get(turn.connection, invitation)
            rights = _rights(turn.connection, row.roles)
            turn.allow(Action.INVITE_PERSON, Resource(kind=ResourceKind.PERSON, permissions=rights))
            INVITATIONS.put(turn.connection, invitation, replace(row, used=turn.now))
            turn.note({"cancelled": invitation}, about=invitation)

    # -- Who is who -------------------------------------------------------------------

    def actor(self, person: str) -> Actor:
        """Returns who a signed-in person is now; read it for every request.

        Raises:
            AccessDenied: Unknown or revoked.
        """
        with self._desk.database.reading() as connection:
            found = PEOPLE.peek(connection, person)
            if found is None or found.state is not PersonState.ACTIVE:
                raise AccessDenied("this account is not here, or was ended: ask an administrator")
            return actor_of(connection, found, self._desk.name)

    def operator(self, login: str) -> Actor:
        """Returns the person that an account of the operating system belongs to.

        Raises:
            AccessDenied: It belongs to nobody here.
        """
        with self._desk.database.reading() as connection:
            for person in PEOPLE.where(connection):
                if person.login == login and person.state is PersonState.ACTIVE:
                    return actor_of(connection, person, self._desk.name)
        raise AccessDenied(
            f"the account {login!r} of this machine belongs to nobody in this office; expected "
            "one that an administrator linked: consilium office link EMAIL LOGIN"
        )

    def by_email(self, email: str) -> Person | None:
        """Returns the person with this address; for sign-in alone."""
        with self._desk.database.reading() as connection:
            found = _with_email(connection, email)
            return whole_person(connection, found[0]) if found else None

    def find(self, actor: Actor, words: str = "") -> tuple[Person, ...]:
        """Returns persons whose name, address, role or group holds every word."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_PEOPLE, Resource(kind=ResourceKind.PERSON))
            rows = PEOPLE.where(turn.connection)
            people = [whole_person(turn.connection, row) for row in rows]
        wanted = words.casefold().split()
        return tuple(one for one in people if all(word in _text(one) for word in wanted))

    def get(self, actor: Actor, person: str) -> Person:
        """Returns one."""
        with self._desk.looking(actor) as turn:
            turn.allow(
                Action.SEE_PERSON, Resource(kind=ResourceKind.PERSON, id=person, subject=person)
            )
            return whole_person(turn.connection, PEOPLE.get(turn.connection, person))

    # -- Changes ----------------------------------------------------------------------

    def change(self, actor: Actor, person: str, *, name: str, email: str, version: int) -> Person:
        """Changes name and address.

        Raises:
            Conflict: It was changed since `version`.
        """
        _check_words(name, email)
        with self._desk.acting(actor) as turn:
            row = PEOPLE.get(turn.connection, person)
            turn.allow(Action.CHANGE_PERSON, _person(turn.connection, row))
            if row.version != version:
                raise Conflict(f"the account is at version {row.version}; you read {version}")
            return self._put(turn, replace(row, name=name, email=email), {"name": name})

    def set_key(self, actor: Actor, key: bytes) -> Person:
        """Keeps the actor's own Ed25519 public key."""
        if len(key) != 32:
            raise ConfigError(f"a key of {len(key)} bytes; expected 32, of Ed25519")
        with self._desk.acting(actor) as turn:
            row = PEOPLE.get(turn.connection, actor.id)
            turn.allow(Action.CHANGE_PERSON, _person(turn.connection, row))
            return self._put(turn, replace(row, key=key), {"key": key.hex()})

    def link(self, actor: Actor, person: str, login: str) -> Person:
        """Lets an account of the operating system act as somebody else, by the command line.

        Raises:
            Conflict: That account is another person's.
        """
        with self._desk.acting(actor) as turn:
            row = PEOPLE.get(turn.connection, person)
            turn.allow(Action.ASSIGN_ROLES, _person(turn.connection, row))
            if any(one.login == login for one in PEOPLE.where(turn.connection)):
                raise Conflict(f"the account {login!r} is linked; expected one person for each")
            return self._put(turn, replace(row, login=login), {"login": login})

    def set_roles(self, actor: Actor, person: str, roles: frozenset[str]) -> Person:
        """Replaces the roles of somebody else."""
        with self._desk.acting(actor) as turn:
            row = PEOPLE.get(turn.connection, person)
            touched = _rights(turn.connection, row.roles | roles)
            resource = replace(_person(turn.connection, row), permissions=touched)
            turn.allow(Action.ASSIGN_ROLES, resource)
            return self._put(turn, replace(row, roles=roles), {"roles": sorted(roles)})

    def revoke(self, actor: Actor, person: str, reason: str) -> Person:
        """Ends an account for good, and every grant and unfinished project of that person."""
        with self._desk.acting(actor) as turn:
            row = PEOPLE.get(turn.connection, person)
            turn.allow(Action.REVOKE_PERSON, _person(turn.connection, row))
            ended = end_person(turn, person, reason)
            gone = replace(row, state=PersonState.REVOKED, login=None)
            return self._put(turn, gone, {"reason": reason, **ended})

    def _put(self, turn: Turn, row: PersonRow, facts: dict[str, object]) -> Person:
        PEOPLE.put(turn.connection, row.id, replace(row, version=row.version + 1))
        turn.note(facts)
        return whole_person(turn.connection, PEOPLE.get(turn.connection, row.id))

    def _log(
        self,
        connection: Connection,
        action: Action,
        resource: str,
        facts: Mapping[str, object],
        *,
        by: PersonRow | None = None,
    ) -> None:
        append_entry(
            connection,
            Fact(
                time=self._desk.clock(),
                actor=OPERATOR if by is None else by.id,
                actor_name=OPERATOR if by is None else by.name,
                action=str(action),
                resource=resource,
                facts=facts_json(facts),
            ),
        )


# -- Rows and values ------------------------------------------------------------------


def whole_person(connection: Connection, row: PersonRow) -> Person:
    """Returns a person with their groups and permissions."""
    actor = actor_of(connection, row, "")
    names = [group.name for group in GROUPS.where(connection) if row.id in group.members]
    return Person(
        id=row.id,
        name=row.name,
        email=row.email,
        roles=row.roles,
        groups=frozenset(names),
        permissions=actor.permissions,
        state=row.state,
        key=row.key,
        version=row.version,
    )


def _person(connection: Connection, row: PersonRow) -> Resource:
    return Resource(
        kind=ResourceKind.PERSON,
        id=row.id,
        subject=row.id,
        state=row.state,
        permissions=_rights(connection, row.roles),
    )


def _rights(connection: Connection, roles: Iterable[str]) -> frozenset[Permission]:
    return permissions_of(frozenset(ROLES.get(connection, name) for name in roles))


def _with_email(connection: Connection, email: str) -> list[PersonRow]:
    return PEOPLE.having(connection, "email", email.casefold())


def _invitation(row: InvitationRow) -> Invitation:
    return Invitation(
        id=row.id,
        kind=InvitationKind(row.kind),
        name=row.name,
        email=row.email,
        roles=row.roles,
        expires=row.expires,
        invited_by=row.invited_by,
    )


def _check_words(name: str, email: str) -> None:
    if not name.strip() or len(name) > 200:
        raise ConfigError("a person without a name; expected 1 to 200 characters")
    if "@" not in email or len(email) > 254:
        raise ConfigError(f"{email!r} is no address; expected one with an @")


def _text(one: Person) -> str:
    return " ".join((one.name, one.email, *one.roles, *one.groups)).casefold()
