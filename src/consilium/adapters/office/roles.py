# SPDX-License-Identifier: Apache-2.0
"""Roles and groups of an office."""

from collections.abc import Callable
from dataclasses import replace
from typing import final

from sqlalchemy import Connection

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.ending import end_grants
from consilium.adapters.store.office_shelves import GROUPS, PEOPLE, ROLES
from consilium.errors import Conflict
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.roles import BUILT_IN, DATA_STEWARD, Group, Role


@final
class Roles:
    """Names for permissions, and for people together."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # -- Roles ------------------------------------------------------------------------

    def roles(self, actor: Actor) -> tuple[Role, ...]:
        """Returns all roles."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_ROLES, Resource(kind=ResourceKind.ROLE))
            return tuple(ROLES.where(turn.connection))

    def make_role(self, actor: Actor, role: Role) -> Role:
        """Adds a role of permissions that the actor holds.

        Raises:
            Conflict: There is a role of this name.
        """
        own = replace(role, built_in=False)
        with self._desk.acting(actor) as turn:
            turn.allow(Action.EDIT_ROLE, _role(own))
            ROLES.add(turn.connection, own.name, own)
            turn.note({"permissions": sorted(own.permissions)})
        return own

    def change_role(self, actor: Actor, role: Role) -> Role:
        """Replaces the permissions of a role that is not built in."""
        with self._desk.acting(actor) as turn:
            before = ROLES.get(turn.connection, role.name)
            touched = replace(before, permissions=before.permissions | role.permissions)
            turn.allow(Action.EDIT_ROLE, _role(touched))
            after = replace(before, permissions=role.permissions)
            ROLES.put(turn.connection, role.name, after)
            turn.note({"permissions": sorted(role.permissions)})
        return after

    def remove_role(self, actor: Actor, name: str) -> None:
        """Removes a role that nobody has.

        Raises:
            Conflict: Somebody has it.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.EDIT_ROLE, _role(ROLES.get(turn.connection, name)))
            holders = [one.name for one in PEOPLE.where(turn.connection) if name in one.roles]
            if holders:
                raise Conflict(f"{', '.join(holders)} have role {name!r}; expected nobody")
            ROLES.drop(turn.connection, name)
            turn.note({"removed": name})

    # -- Groups -----------------------------------------------------------------------

    def groups(self, actor: Actor) -> tuple[Group, ...]:
        """Returns all groups."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_GROUPS, Resource(kind=ResourceKind.GROUP))
            return tuple(GROUPS.where(turn.connection))

    def make_group(self, actor: Actor, name: str) -> Group:
        """Adds an empty group.

        Raises:
            Conflict: There is a group of this name.
        """
        group = Group(id=self._desk.new_id(), name=name, members=frozenset())
        with self._desk.acting(actor) as turn:
            turn.allow(Action.EDIT_GROUP, Resource(kind=ResourceKind.GROUP, id=group.id))
            GROUPS.add(turn.connection, group.id, group)
            turn.note({"name": name})
        return group

    def rename_group(self, actor: Actor, group: str, name: str) -> Group:
        """Renames a group."""
        return self._change(actor, group, lambda old: replace(old, name=name))

    def add_member(self, actor: Actor, group: str, person: str) -> Group:
        """Puts somebody else into a group."""

        def adds(old: Group) -> Group:
            return replace(old, members=old.members | {person})

        return self._change(actor, group, adds, subject=person)

    def remove_member(self, actor: Actor, group: str, person: str) -> Group:
        """Takes somebody else out of a group."""

        def takes(old: Group) -> Group:
            return replace(old, members=old.members - {person})

        return self._change(actor, group, takes, subject=person)

    def remove_group(self, actor: Actor, group: str) -> None:
        """Removes a group, and its grants."""
        with self._desk.acting(actor) as turn:
            old = GROUPS.get(turn.connection, group)
            turn.allow(Action.EDIT_GROUP, Resource(kind=ResourceKind.GROUP, id=group))
            grants = end_grants(turn, group)
            GROUPS.drop(turn.connection, group)
            turn.note({"removed": old.name, "grants": grants})

    def _change(
        self,
        actor: Actor,
        group: str,
        change: Callable[[Group], Group],
        *,
        subject: str | None = None,
    ) -> Group:
        action = Action.EDIT_GROUP if subject is None else Action.CHANGE_MEMBERS
        with self._desk.acting(actor) as turn:
            old = GROUPS.get(turn.connection, group)
            if subject is not None:
                PEOPLE.get(turn.connection, subject)
            turn.allow(action, Resource(kind=ResourceKind.GROUP, id=group, subject=subject))
            new = replace(change(old), version=old.version + 1)
            GROUPS.put(turn.connection, group, new)
            turn.note({"name": new.name, "person": subject or ""})
        return new


def seed_roles(connection: Connection) -> None:
    """Writes the roles that every new office has."""
    for role in (*BUILT_IN.values(), DATA_STEWARD):
        ROLES.add(connection, role.name, role)


def _role(role: Role) -> Resource:
    return Resource(
        kind=ResourceKind.ROLE,
        id=role.name,
        state="built-in" if role.built_in else "custom",
        permissions=role.permissions,
    )
