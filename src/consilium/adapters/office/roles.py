# SPDX-License-Identifier: Apache-2.0
"""Roles and groups of an office."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.governance.access import Actor
from consilium.governance.roles import Group, Role


@final
class Roles:
    """Names for permissions, and for people together."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def roles(self, actor: Actor) -> tuple[Role, ...]:
        """Returns all roles."""
        raise NotImplementedError

    def make_role(self, actor: Actor, role: Role) -> Role:
        """Adds a role of permissions that the actor holds."""
        raise NotImplementedError

    def change_role(self, actor: Actor, role: Role) -> Role:
        """Replaces the permissions of a role that is not built in."""
        raise NotImplementedError

    def remove_role(self, actor: Actor, name: str) -> None:
        """Removes a role that nobody has."""
        raise NotImplementedError

    def groups(self, actor: Actor) -> tuple[Group, ...]:
        """Returns all groups."""
        raise NotImplementedError

    def make_group(self, actor: Actor, name: str) -> Group:
        """Adds an empty group."""
        raise NotImplementedError

    def rename_group(self, actor: Actor, group: str, name: str) -> Group:
        """Renames a group."""
        raise NotImplementedError

    def add_member(self, actor: Actor, group: str, person: str) -> Group:
        """Puts somebody else into a group."""
        raise NotImplementedError

    def remove_member(self, actor: Actor, group: str, person: str) -> Group:
        """Takes somebody else out of a group."""
        raise NotImplementedError

    def remove_group(self, actor: Actor, group: str) -> None:
        """Removes a group, and its grants."""
        raise NotImplementedError
