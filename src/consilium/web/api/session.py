# SPDX-License-Identifier: Apache-2.0
"""Signing in and out, links, one's own password; which office this is."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr

from consilium.adapters.identity.accounts import Founder
from consilium.governance.access import Actor
from consilium.web.access import (
    ANONYMOUS,
    CurrentActor,
    TheAccounts,
    TheOffice,
    address_of,
    drop_session,
    keep_session,
    place_of,
)
from consilium.web.api.shapes import Answer, Asked, Hex, Line, Words

router = APIRouter(tags=["session"])
Secret = Annotated[SecretStr, Field(max_length=1024)]
Word = Annotated[str, Field(min_length=1, max_length=100)]


class OfficeAnswer(Answer):
    """Which office this is."""

    name: str
    kind: str
    key: Hex
    founded: datetime


class Me(Answer):
    """Who is signed in, and what they may do."""

    id: str
    name: str
    office: str
    roles: Words
    groups: Words
    permissions: Words


class SignIn(Asked):
    """E-mail and password."""

    email: Line
    password: Secret


class Join(Asked):
    """A link's word and a new password; name and e-mail for an office's first person alone."""

    link: Word
    password: Secret
    name: Annotated[str, Field(max_length=200)] = ""
    email: Annotated[str, Field(max_length=200)] = ""


class Enter(Asked):
    """The word of a link that lets in once."""

    link: Word


class NewPassword(Asked):
    """The old password and the new one."""

    old: Secret
    new: Secret


@router.get("/office", openapi_extra=ANONYMOUS)
def get_office(office: TheOffice) -> OfficeAnswer:
    """Returns which office this is: name, kind, public key."""
    return OfficeAnswer.model_validate(office.settings.facts())


@router.post("/session", status_code=201, openapi_extra=ANONYMOUS)
def sign_in(asked: SignIn, request: Request, response: Response, accounts: TheAccounts) -> Me:
    """Opens a session and sets its cookie."""
    word = accounts.sign_in(asked.email, asked.password.get_secret_value(), address_of(request))
    return _opened(request, response, accounts.actor(word), word)


@router.post("/session/join", status_code=201, openapi_extra=ANONYMOUS)
def join(asked: Join, request: Request, response: Response, accounts: TheAccounts) -> Me:
    """Turns an invitation, a reset or the first link into a password, and opens a session."""
    founder = Founder(name=asked.name, email=asked.email) if asked.email else None
    word = accounts.join(asked.link, asked.password.get_secret_value(), founder)
    return _opened(request, response, accounts.actor(word), word)


@router.post("/session/enter", status_code=201, openapi_extra=ANONYMOUS)
def enter(asked: Enter, request: Request, response: Response, accounts: TheAccounts) -> Me:
    """Opens a session for a one-time link."""
    word = accounts.enter(asked.link)
    return _opened(request, response, accounts.actor(word), word)


@router.get("/session")
def get_session(actor: CurrentActor) -> Me:
    """Returns who is signed in."""
    return Me.model_validate(actor)


@router.delete("/session", status_code=204)
def sign_out(actor: CurrentActor, request: Request, response: Response) -> None:  # noqa: ARG001
    """Ends this session."""
    drop_session(request, response)


@router.delete("/session/all", status_code=204)
def sign_out_everywhere(
    actor: CurrentActor, request: Request, response: Response, accounts: TheAccounts
) -> None:
    """Ends every session of this person, on every device."""
    accounts.end_all(actor.id)
    drop_session(request, response)


@router.put("/session/password", status_code=204)
def change_password(
    asked: NewPassword,
    actor: CurrentActor,
    request: Request,
    response: Response,
    accounts: TheAccounts,
) -> None:
    """Changes one's own password; every other session ends."""
    word = accounts.change_password(
        actor, asked.old.get_secret_value(), asked.new.get_secret_value(), address_of(request)
    )
    keep_session(request, response, word)


def _opened(request: Request, response: Response, actor: Actor | None, word: str) -> Me:
    old = request.cookies.get(place_of(request).cookie)
    if old is not None:
        drop_session(request, response)
    keep_session(request, response, word)
    return Me.model_validate(actor)
