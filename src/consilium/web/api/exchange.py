# SPDX-License-Identifier: Apache-2.0
"""Where a site's courier knocks: introductions, projects and decisions, cards, log heads.

Every request is signed by an office's key and every answer by this one's; the messages inside are
signed as well, and are the same as in files. A person's session opens nothing here.
"""

from hashlib import sha256
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from consilium.errors import NotFound
from consilium.web.api.associations import MessageAnswer, MessageAsked
from consilium.web.api.shapes import Answer, Blob
from consilium.web.offices import CurrentOffice, SignedCaller

router = APIRouter(prefix="/exchange", tags=["exchange between offices"])
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class WaitingList(Answer):
    """SHA-256, hexadecimal, of every project file that concerns the caller."""

    projects: list[str]


class Received(Answer):
    """What was taken."""

    id: str
    state: str


class HeadAnswer(Answer):
    """Our signature of the caller's head, and our own head to sign, base64."""

    cosigned: Blob
    head: Blob


class Kept(Answer):
    """How many were kept."""

    kept: int


@router.post("/introductions", response_model=Received)
def receive_introduction(asked: MessageAsked, caller: SignedCaller) -> Response:
    """Keeps another office's introduction for people to compare; nothing is trusted yet."""
    known = caller.office.associations.receive(asked.data())
    return caller.answer(Received(id=known.id, state=known.state))


@router.post("/answers", response_model=MessageAnswer)
def fetch_answer(caller: SignedCaller) -> Response:
    """Returns the answer to the caller's introduction."""
    message = caller.office.associations.answer_for(caller.sender.key)
    if message is None:
        raise NotFound("nobody here has answered yet; expected an administrator to compare words")
    return caller.answer(MessageAnswer(message=message))


@router.get("/projects", response_model=WaitingList)
def list_projects(caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Returns which project files concern the caller, as they are now."""
    found = caller.office.exchange.export_all(actor)
    return caller.answer(WaitingList(projects=[sha256(one).hexdigest() for one in found]))


@router.get("/projects/{digest}", response_model=MessageAnswer)
def fetch_project(digest: Digest, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Returns contract, signatures and decisions of a project, as its file."""
    for one in caller.office.exchange.export_all(actor):
        if sha256(one).hexdigest() == digest:
            return caller.answer(MessageAnswer(message=one))
    raise NotFound("there is no such project file, or no longer; expected one of the list")


@router.post("/projects", response_model=Received)
def receive_project(asked: MessageAsked, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Takes a project's file: a new one, a new revision, or the caller's decision."""
    view = caller.office.exchange.take(actor, asked.data())
    return caller.answer(Received(id=view.id, state=view.state))


@router.post("/cards", response_model=Kept)
def receive_cards(asked: MessageAsked, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Keeps the cards of the caller's datasets for this office's catalogue."""
    return caller.answer(Kept(kept=caller.office.datasets.take_cards(actor, asked.data())))


@router.post("/heads", response_model=HeadAnswer)
def exchange_heads(asked: MessageAsked, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Keeps and signs the caller's log head, and shows our own."""
    cosigned = caller.office.log.witness(actor, asked.data())
    return caller.answer(HeadAnswer(cosigned=cosigned, head=caller.office.log.head(actor.office)))


@router.post("/signatures", response_model=Kept)
def receive_signature(asked: MessageAsked, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Keeps the caller's signature of our log head."""
    caller.office.log.keep(actor, asked.data())
    return caller.answer(Kept(kept=1))
