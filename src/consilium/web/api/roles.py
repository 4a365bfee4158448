# SPDX-License-Identifier: Apache-2.0
"""Roles, groups and their members."""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from consilium.adapters.office.office import Office
from consilium.errors import NotFound
from consilium.governance.access import Actor
from consilium.governance.roles import Permission, Role
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Editing,
    Id,
    Line,
    Listed,
    Words,
    listed,
    tagged,
)

router = APIRouter(tags=["roles and groups"])


class RoleAnswer(Answer):
    """A name for some of the seven permissions."""

    name: str
    permissions: Words
    built_in: bool


class RoleChange(Asked):
    """What the holders of a role may do."""

    permissions: Annotated[list[Permission], Field(max_length=7)]


class RoleAsked(RoleChange):
    """A new role."""

    name: Annotated[Line, Field(max_length=60)]


class GroupAnswer(Answer):
    """People who are granted datasets together."""

    id: str
    name: str
    members: Words
    version: int


class GroupAsked(Asked):
    """The name of a group."""

    name: Annotated[Line, Field(max_length=60)]


@router.get("/roles")
def find_roles(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[RoleAnswer]:
    """Returns all roles."""
    found = office.roles.roles(actor)
    return listed(found, part, RoleAnswer.model_validate, lambda one: one.name)


@router.post("/roles", status_code=201)
def make_role(
    asked: RoleAsked, actor: CurrentActor, office: TheOffice, response: Response
) -> RoleAnswer:
    """Makes a role of permissions that the caller holds."""
    role = Role(name=asked.name, permissions=frozenset(asked.permissions))
    return tagged(response, RoleAnswer.model_validate(office.roles.make_role(actor, role)))


@router.get("/roles/{name}")
def get_role(name: Line, actor: CurrentActor, office: TheOffice, response: Response) -> RoleAnswer:
    """Returns one role."""
    return tagged(response, _role(actor, office, name))


@router.put("/roles/{name}")
def change_role(
    name: Line,
    asked: RoleChange,
    edit: Editing,
) -> RoleAnswer:
    """Replaces the permissions of a role that is not built in."""
    edit.check(_role(edit.actor, edit.office, name))
    role = Role(name=name, permissions=frozenset(asked.permissions))
    return edit.tagged(RoleAnswer.model_validate(edit.office.roles.change_role(edit.actor, role)))


@router.delete("/roles/{name}", status_code=204)
def remove_role(name: Line, edit: Editing) -> None:
    """Removes a role that nobody has."""
    edit.check(_role(edit.actor, edit.office, name))
    edit.office.roles.remove_role(edit.actor, name)


def _role(actor: Actor, office: Office, name: str) -> RoleAnswer:
    for one in office.roles.roles(actor):
        if one.name == name:
            return RoleAnswer.model_validate(one)
    raise NotFound(f"there is no role {name!r}; expected one of the list")


# -- Groups ---------------------------------------------------------------------------


@router.get("/groups")
def find_groups(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[GroupAnswer]:
    """Returns all groups."""
    found = office.roles.groups(actor)
    return listed(found, part, GroupAnswer.model_validate, lambda one: one.id)


@router.post("/groups", status_code=201)
def make_group(
    asked: GroupAsked, actor: CurrentActor, office: TheOffice, response: Response
) -> GroupAnswer:
    """Makes an empty group."""
    return tagged(response, GroupAnswer.model_validate(office.roles.make_group(actor, asked.name)))


@router.get("/groups/{group}")
def get_group(group: Id, actor: CurrentActor, office: TheOffice, response: Response) -> GroupAnswer:
    """Returns one group."""
    return tagged(response, _group(actor, office, group))


@router.patch("/groups/{group}")
def rename_group(
    group: Id,
    asked: GroupAsked,
    edit: Editing,
) -> GroupAnswer:
    """Renames a group."""
    edit.check(_group(edit.actor, edit.office, group))
    renamed = edit.office.roles.rename_group(edit.actor, group, asked.name)
    return edit.tagged(GroupAnswer.model_validate(renamed))


@router.delete("/groups/{group}", status_code=204)
def remove_group(group: Id, edit: Editing) -> None:
    """Removes a group, and its grants."""
    edit.check(_group(edit.actor, edit.office, group))
    edit.office.roles.remove_group(edit.actor, group)


@router.put("/groups/{group}/members/{person}")
def add_member(group: Id, person: Id, actor: CurrentActor, office: TheOffice) -> GroupAnswer:
    """Puts somebody else into a group."""
    return GroupAnswer.model_validate(office.roles.add_member(actor, group, person))


@router.delete("/groups/{group}/members/{person}")
def remove_member(group: Id, person: Id, actor: CurrentActor, office: TheOffice) -> GroupAnswer:
    """Takes somebody else out of a group."""
    return GroupAnswer.model_validate(office.roles.remove_member(actor, group, person))


def _group(actor: Actor, office: Office, group: str) -> GroupAnswer:
    for one in office.roles.groups(actor):
        if one.id == group:
            return GroupAnswer.model_validate(one)
    raise NotFound("there is no such group; expected one of the list")
