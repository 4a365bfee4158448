# SPDX-License-Identifier: Apache-2.0
"""Roles and groups of an office: names for permissions, and for people together."""

from typing import Final

from fastapi import APIRouter, Request, Response

from consilium.adapters.office.office import Office
from consilium.errors import AccessDenied, NotFound
from consilium.governance.access import Action, Actor, ResourceKind
from consilium.governance.roles import Group, Permission, Role
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.pages.office_views import (
    GroupLine,
    GroupsView,
    RoleLine,
    RolesView,
)
from consilium.web.pages.parts import Field, Form, Kind, Link, Option
from consilium.web.pages.people import PERMISSIONS
from consilium.web.pages.showing import (
    Posted,
    may,
    page,
    see_other,
    show,
    take,
)
from consilium.web.pages.views import ActionView

router = APIRouter(include_in_schema=False)

# -- Roles ----------------------------------------------------------------------------


@page(router, "/roles")
def roles(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows what each role allows."""
    edit = may(actor, Action.EDIT_ROLE, ResourceKind.ROLE, "custom")
    view = RolesView(
        permissions=tuple(PERMISSIONS.values()),
        roles=tuple(
            RoleLine(
                name=role.name,
                allows=tuple(one in role.permissions for one in PERMISSIONS),
                custom=not role.built_in,
            )
            for role in office.roles.roles(actor)
        ),
        actions=(Link("New role", "/roles/new"),) if edit else (),
        cli="",
    )
    return show(request, actor, view)


def _role_view(actor: Actor) -> ActionView:
    if not actor.permissions:
        raise AccessDenied("you hold no permission that a role of yours could hand out")
    return ActionView(
        kind="Roles",
        title="New role",
        cli="",
        lead="You can hand out only permissions that you hold.",
        form=Form(
            action="/roles/new",
            submit="Make the role",
            back=Link("Back", "/roles"),
            fields=(
                Field(name="name", label="Name"),
                Field(
                    name="permissions",
                    label="What does it allow?",
                    kind=Kind.SEVERAL,
                    options=tuple(
                        Option(value=one, text=words)
                        for one, words in PERMISSIONS.items()
                        if one in actor.permissions
                    ),
                ),
            ),
        ),
    )


@page(router, "/roles/new")
def new_role(request: Request, actor: CurrentActor) -> Response:
    """Shows the form of a new role."""
    return show(request, actor, _role_view(actor))


@router.post("/roles/new", response_model=None)
def make_role(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Makes a role."""

    def act() -> Response:
        chosen = frozenset(Permission(one) for one in answers["permissions"].split(","))
        office.roles.make_role(actor, Role(name=answers["name"], permissions=chosen))
        return see_other("/roles", done="saved")

    return take(request, actor, _role_view(actor), answers, act)


# -- Groups ---------------------------------------------------------------------------


@page(router, "/groups")
def groups(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Lists groups and who is in them."""
    edit = may(actor, Action.EDIT_GROUP, ResourceKind.GROUP)
    names = {one.id: one.name for one in office.people.find(actor)} if edit else {}
    view = GroupsView(
        groups=tuple(
            GroupLine(
                id=one.id,
                name=one.name,
                members=tuple(sorted(names.get(member, member) for member in one.members)),
            )
            for one in office.roles.groups(actor)
        ),
        actions=(Link("New group", "/groups/new"),) if edit else (),
        cli="",
    )
    return show(request, actor, view)


_NEW_GROUP: Final = ActionView(
    kind="Groups",
    title="New group",
    cli="",
    form=Form(
        action="/groups/new",
        submit="Make the group",
        back=Link("Back", "/groups"),
        fields=(Field(name="name", label="Name"),),
    ),
)


@page(router, "/groups/new")
def new_group(request: Request, actor: CurrentActor) -> Response:
    """Shows the form of a new group."""
    return show(request, actor, _NEW_GROUP)


@router.post("/groups/new", response_model=None)
def make_group(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Makes a group."""

    def act() -> Response:
        made = office.roles.make_group(actor, answers["name"])
        return see_other(f"/groups/{made.id}", done="saved")

    return take(request, actor, _NEW_GROUP, answers, act)


def _group(office: Office, actor: Actor, group: str) -> Group:
    for one in office.roles.groups(actor):
        if one.id == group:
            return one
    raise NotFound("there is no such group; expected one of the list")


def _group_view(office: Office, actor: Actor, group: str) -> ActionView:
    one = _group(office, actor, group)
    people = [person for person in office.people.find(actor) if person.id != actor.id]
    return ActionView(
        kind="Group",
        title=one.name,
        cli="",
        lead="A grant to the group holds for everybody in it, and ends for who leaves. Nobody "
        "puts themselves in.",
        back=Link("Groups", "/groups"),
        form=Form(
            action=f"/groups/{one.id}",
            submit="Set members",
            fields=(
                Field(
                    name="members",
                    label="Members",
                    kind=Kind.SEVERAL,
                    required=False,
                    value=",".join(sorted(one.members)),
                    options=tuple(Option(value=each.id, text=each.name) for each in people),
                ),
            )
            if people
            else (),
        ),
    )


@page(router, "/groups/{group}")
def group(request: Request, actor: CurrentActor, office: TheOffice, group: str) -> Response:
    """Shows a group's members."""
    return show(request, actor, _group_view(office, actor, group))


@router.post("/groups/{group}", response_model=None)
def set_members(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Puts others in and takes others out."""
    one = _group(office, actor, request.path_params["group"])
    wanted = {member for member in answers.get("members", "").split(",") if member}

    def act() -> Response:
        for member in sorted(wanted - one.members):
            office.roles.add_member(actor, one.id, member)
        for member in sorted(one.members - wanted - {actor.id}):
            office.roles.remove_member(actor, one.id, member)
        return see_other(f"/groups/{one.id}", done="saved")

    return take(request, actor, _group_view(office, actor, one.id), answers, act)
