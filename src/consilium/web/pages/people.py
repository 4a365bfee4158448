# SPDX-License-Identifier: Apache-2.0
"""People of an office: invited, given roles, closed."""

from typing import Final

from fastapi import APIRouter, Request, Response

from consilium.adapters.identity.accounts import Accounts
from consilium.adapters.office.office import Office
from consilium.adapters.office.values import Invited
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.decisions import decide
from consilium.governance.roles import Permission, Person, PersonState, Role
from consilium.web.access import CurrentActor, TheAccounts, TheOffice, place_of
from consilium.web.pages.office_views import (
    PeopleView,
    PersonLine,
    PersonView,
)
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Option, Tag, Tone
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
PERMISSIONS: Final = {
    Permission.TRIAGE_REQUESTS: "Decide on projects and requests, make grants, set caps, revoke",
    Permission.UPLOAD_DATA: "Register, describe and withdraw datasets",
    Permission.EDIT_SETTINGS: "Change the rules of the office",
    Permission.CREATE_USERS: "Invite people, set their roles, close accounts",
    Permission.CREATE_GROUPS: "Make groups and choose their members",
    Permission.EDIT_ROLES: "Make roles of one's own",
    Permission.MANAGE_INFRASTRUCTURE: "Associate sites, host processes, publish models",
}

# -- People ---------------------------------------------------------------------------


@page(router, "/people")
def people(request: Request, actor: CurrentActor, office: TheOffice, q: str = "") -> Response:
    """Lists people whose name, address, role or group holds every word."""
    found = office.people.find(actor, q)
    view = PeopleView(
        search=Form(
            action="/people",
            method="get",
            submit="Search",
            fields=(Field(name="q", label="Name, address, role", value=q, required=False),),
        ),
        people=tuple(_line(one) for one in found),
        actions=(
            *(
                (Link("Invite a person", "/people/new"),)
                if may(actor, Action.INVITE_PERSON, ResourceKind.PERSON)
                else ()
            ),
            Link("Roles", "/roles"),
            Link("Groups", "/groups"),
        ),
        cli="consilium office users",
    )
    return show(request, actor, view)


def _line(one: Person) -> PersonLine:
    return PersonLine(
        id=one.id,
        name=one.name,
        email=one.email,
        roles=tuple(sorted(one.roles)),
        groups=tuple(sorted(one.groups)),
        state=_state(one),
    )


def _state(one: Person) -> Tag:
    active = one.state is PersonState.ACTIVE
    return Tag("active", Tone.GOOD) if active else Tag("closed", Tone.STOP)


def _role_options(office: Office, actor: Actor) -> tuple[Option, ...]:
    return tuple(
        Option(value=role.name, text=role.name, hint=_allows(role))
        for role in office.roles.roles(actor)
        if role.permissions <= actor.permissions
    )


def _allows(role: Role) -> str:
    if not role.permissions:
        return "Looks through the catalogue, asks for data, writes projects."
    return "; ".join(words for one, words in PERMISSIONS.items() if one in role.permissions) + "."


def _invite_view(office: Office, actor: Actor) -> ActionView:
    return ActionView(
        kind="People",
        title="Invite a person",
        lead="They get a link that works once, and choose their own password. You give them the "
        "link; nothing is sent by itself.",
        cli="consilium office invite EMAIL --name NAME",
        form=Form(
            action="/people/new",
            submit="Make the link",
            back=Link("Back", "/people"),
            fields=(
                Field(name="name", label="Name"),
                Field(name="email", label="Email address", kind=Kind.EMAIL),
                Field(
                    name="roles",
                    label="Roles",
                    kind=Kind.SEVERAL,
                    hint="Only roles whose permissions you hold yourself.",
                    value="User",
                    options=_role_options(office, actor),
                ),
            ),
        ),
    )


@page(router, "/people/new")
def new_person(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows the form of an invitation."""
    return show(request, actor, _invite_view(office, actor))


@router.post("/people/new", response_model=None)
def invite(
    request: Request,
    actor: CurrentActor,
    office: TheOffice,
    accounts: TheAccounts,
    answers: Posted,
) -> Response:
    """Makes an invitation and shows its link, once."""

    def act() -> Response:
        whom = Invited(
            name=answers["name"],
            email=answers["email"],
            roles=frozenset(answers["roles"].split(",")),
        )
        word, _ = accounts.invite(actor, whom)
        return _show_link(request, actor, whom.name, word)

    return take(request, actor, _invite_view(office, actor), answers, act)


def _show_link(request: Request, actor: Actor, name: str, word: str) -> Response:
    """Returns the page with a one-time link; it is shown now and never again."""
    view = ActionView(
        kind="People",
        title=f"A link for {name}",
        lead="Give it to nobody else. It is shown once, and works once.",
        cli="",
        facts=(Fact("Link", f"{place_of(request).origins[0]}/links/{word}"),),
        form=Form(action="/people", method="get", fields=(), submit="I have it"),
    )
    return show(request, actor, view)


@page(router, "/people/{person}")
def person(request: Request, actor: CurrentActor, office: TheOffice, person: str) -> Response:
    """Shows one person."""
    one = office.people.get(actor, person)
    resource = _resource(one)
    steps = (
        (Action.RESET_PERSON, "Make a reset link", "reset"),
        (Action.REVOKE_PERSON, "Close the account", "close"),
    )
    assign = decide(actor, Action.ASSIGN_ROLES, resource).allowed
    view = PersonView(
        id=one.id,
        title=one.name,
        state=_state(one),
        facts=(
            Fact("Email address", one.email),
            Fact("Roles", ", ".join(sorted(one.roles)) or "none"),
            Fact("Groups", ", ".join(sorted(one.groups)) or "none"),
            Fact("Key", f"ed25519 {one.key.hex()[:16]}" if one.key else "none yet"),
        ),
        roles=_roles_form(office, actor, one) if assign else None,
        actions=tuple(
            Link(text, f"/people/{one.id}/{word}")
            for action, text, word in steps
            if decide(actor, action, resource).allowed
        ),
        cli=f"consilium office users --words {one.email}",
    )
    return show(request, actor, view)


def _resource(one: Person) -> Resource:
    return Resource(
        kind=ResourceKind.PERSON,
        id=one.id,
        subject=one.id,
        state=one.state,
        permissions=one.permissions,
    )


def _roles_form(office: Office, actor: Actor, one: Person) -> Form:
    return Form(
        action=f"/people/{one.id}/roles",
        submit="Set roles",
        fields=(
            Field(
                name="roles",
                label="What may they do?",
                kind=Kind.SEVERAL,
                value=",".join(sorted(one.roles)),
                options=_role_options(office, actor),
            ),
        ),
    )


def _step_view(office: Office, actor: Actor, one: Person, step: str) -> ActionView:
    back = Link("Back", f"/people/{one.id}")
    if step == "roles":
        form = _roles_form(office, actor, one)
        return ActionView(kind=one.name, title="Roles", cli="", form=form)
    if step == "reset":
        return ActionView(
            kind=one.name,
            title="Make a reset link",
            cli="",
            happens=("Every session of theirs ends now.", "You get a link that works once."),
            form=Form(
                action=f"/people/{one.id}/reset", fields=(), submit="Make the link", back=back
            ),
        )
    return ActionView(
        kind=one.name,
        title="Close the account",
        cli=f"consilium office revoke {one.email} --reason TEXT",
        happens=(
            "They are signed out at once and cannot sign in again.",
            "Their grants end, and so do their projects that are not finished.",
        ),
        stays=("A closed account does not come back.",),
        form=Form(
            action=f"/people/{one.id}/close",
            submit="Close the account",
            tone=Tone.STOP,
            back=back,
            fields=(
                Field(name="reason", label="Why?", kind=Kind.LINES),
                Field(name="confirm", label="Type their name to confirm", hint=one.name),
            ),
        ),
    )


@page(router, "/people/{person}/{step}")
def ask_for_step(
    request: Request, actor: CurrentActor, office: TheOffice, person: str, step: str
) -> Response:
    """Shows the form of a step."""
    return show(request, actor, _step_view(office, actor, office.people.get(actor, person), step))


@router.post("/people/{person}/roles", response_model=None)
def set_roles(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Replaces somebody else's roles."""
    one = office.people.get(actor, request.path_params["person"])

    def act() -> Response:
        office.people.set_roles(actor, one.id, frozenset(answers["roles"].split(",")))
        return see_other(f"/people/{one.id}", done="saved")

    return take(request, actor, _step_view(office, actor, one, "roles"), answers, act)


@router.post("/people/{person}/reset", response_model=None)
def reset(
    request: Request, actor: CurrentActor, office: TheOffice, accounts: TheAccounts, person: str
) -> Response:
    """Ends somebody's sessions and shows a link for a new password, once."""
    one = office.people.get(actor, person)
    return _show_link(request, actor, one.name, _reset_word(accounts, actor, one))


def _reset_word(accounts: Accounts, actor: Actor, one: Person) -> str:
    word, _ = accounts.reset(actor, one.id)
    return word


@router.post("/people/{person}/close", response_model=None)
def close(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Ends an account for good."""
    one = office.people.get(actor, request.path_params["person"])
    view = _step_view(office, actor, one, "close")

    def act() -> Response:
        office.people.revoke(actor, one.id, answers["reason"])
        return see_other("/people", done="revoked")

    if answers.get("confirm") != one.name:
        answers.pop("confirm", None)
    return take(request, actor, view, answers, act)
