# SPDX-License-Identifier: Apache-2.0
"""Persons and invitations."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from consilium.adapters.office.values import Invited
from consilium.web.access import CurrentActor, TheAccounts, TheOffice, place_of
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Editing,
    Hex,
    Id,
    Line,
    Listed,
    Reason,
    Words,
    listed,
    tagged,
)

router = APIRouter(tags=["people"])
Search = Annotated[str, Field(max_length=200)]


class PersonAnswer(Answer):
    """Somebody with an account here."""

    id: str
    name: str
    email: str
    roles: Words
    groups: Words
    permissions: Words
    state: str
    key: Hex | None
    version: int


class PersonChange(Asked):
    """New name and address."""

    name: Line
    email: Line


class RolesChange(Asked):
    """The names of all roles that the person is to have."""

    roles: Annotated[tuple[Line, ...], Field(max_length=50)]


class OwnKey(Asked):
    """An Ed25519 public key, hexadecimal."""

    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class InvitationAsked(Asked):
    """Whom to invite."""

    name: Line
    email: Line
    roles: Annotated[tuple[Line, ...], Field(max_length=50)] = ("User",)
    groups: Annotated[tuple[Line, ...], Field(max_length=50)] = ()


class InvitationAnswer(Answer):
    """A one-time link that is out, without its word."""

    id: str
    kind: str
    name: str
    email: str
    roles: Words
    expires: datetime
    invited_by: str


class LinkAnswer(Answer):
    """A one-time link, shown this once. Give it to that person by a way you trust."""

    link: str
    invitation: InvitationAnswer


class Why(Asked):
    """The reason, for the log and for whom it concerns."""

    reason: Reason


@router.get("/people")
def find_people(
    actor: CurrentActor, office: TheOffice, part: Cursor, words: Search = ""
) -> Listed[PersonAnswer]:
    """Returns persons whose name, address, role or group holds every word."""
    found = office.people.find(actor, words)
    return listed(found, part, PersonAnswer.model_validate, lambda one: one.id)


@router.put("/people/me/key")
def set_own_key(asked: OwnKey, actor: CurrentActor, office: TheOffice) -> PersonAnswer:
    """Keeps the caller's own public key."""
    return PersonAnswer.model_validate(office.people.set_key(actor, bytes.fromhex(asked.key)))


@router.get("/people/{person}")
def get_person(
    person: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> PersonAnswer:
    """Returns one person."""
    return tagged(response, PersonAnswer.model_validate(office.people.get(actor, person)))


@router.patch("/people/{person}")
def change_person(
    person: Id,
    asked: PersonChange,
    edit: Editing,
) -> PersonAnswer:
    """Changes name and address."""
    now = PersonAnswer.model_validate(edit.office.people.get(edit.actor, person))
    edit.check(now)
    changed = edit.office.people.change(
        edit.actor, person, name=asked.name, email=asked.email, version=now.version
    )
    return edit.tagged(PersonAnswer.model_validate(changed))


@router.put("/people/{person}/roles")
def set_roles(
    person: Id,
    asked: RolesChange,
    edit: Editing,
) -> PersonAnswer:
    """Replaces the roles of somebody else."""
    edit.check(PersonAnswer.model_validate(edit.office.people.get(edit.actor, person)))
    changed = edit.office.people.set_roles(edit.actor, person, frozenset(asked.roles))
    return edit.tagged(PersonAnswer.model_validate(changed))


@router.post("/people/{person}/reset", status_code=201)
def reset_person(
    person: Id, actor: CurrentActor, accounts: TheAccounts, request: Request
) -> LinkAnswer:
    """Ends every session of a person and returns a link for a new password."""
    word, kept = accounts.reset(actor, person)
    return LinkAnswer(link=_link(request, word), invitation=InvitationAnswer.model_validate(kept))


@router.post("/people/{person}/revocation")
def revoke_person(
    person: Id, asked: Why, actor: CurrentActor, office: TheOffice, accounts: TheAccounts
) -> PersonAnswer:
    """Ends an account for good, with every grant and unfinished project of that person."""
    revoked = office.people.revoke(actor, person, asked.reason)
    accounts.end_all(person)
    return PersonAnswer.model_validate(revoked)


# -- Invitations ----------------------------------------------------------------------


@router.get("/invitations")
def find_invitations(
    actor: CurrentActor, office: TheOffice, part: Cursor
) -> Listed[InvitationAnswer]:
    """Returns the links that are out."""
    found = office.people.invitations(actor)
    return listed(found, part, InvitationAnswer.model_validate, lambda one: one.id)


@router.post("/invitations", status_code=201)
def invite(
    asked: InvitationAsked, actor: CurrentActor, accounts: TheAccounts, request: Request
) -> LinkAnswer:
    """Invites somebody; the answer holds the link, once."""
    whom = Invited(
        name=asked.name,
        email=asked.email,
        roles=frozenset(asked.roles),
        groups=frozenset(asked.groups),
    )
    word, kept = accounts.invite(actor, whom)
    return LinkAnswer(link=_link(request, word), invitation=InvitationAnswer.model_validate(kept))


@router.delete("/invitations/{invitation}", status_code=204)
def cancel_invitation(invitation: Id, actor: CurrentActor, office: TheOffice) -> None:
    """Makes a link useless."""
    office.people.cancel_invitation(actor, invitation)


def _link(request: Request, word: str) -> str:
    return f"{place_of(request).origins[0]}/links/{word}"
