# SPDX-License-Identifier: Apache-2.0
"""Where a site's courier knocks: introductions, projects and decisions, cards, log heads.

Every request is signed by an office's key and every answer by this one's; the messages inside are
signed as well, and are the same as in files. A person's session opens nothing here.
"""

from fastapi import APIRouter, Response

from consilium.errors import NotFound
from consilium.web.api.associations import MessageAnswer, MessageAsked
from consilium.web.api.shapes import Answer, Blob, Id
from consilium.web.offices import CurrentOffice, SignedCaller

router = APIRouter(prefix="/exchange", tags=["exchange between offices"])


class Waiting(Answer):
    """A project that concerns the caller, at its newest version here."""

    id: str
    version: int


class WaitingList(Answer):
    """Every project that concerns the caller."""

    projects: list[Waiting]


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
    """Returns which projects concern the caller."""
    found = caller.office.projects.find(actor)
    waiting = [Waiting(id=one.id, version=one.version) for one in found]
    return caller.answer(WaitingList(projects=waiting))


@router.get("/projects/{project}", response_model=MessageAnswer)
def fetch_project(project: Id, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Returns contract, signatures and decisions of a project, as its file."""
    return caller.answer(MessageAnswer(message=caller.office.projects.export(actor, project)))


@router.post("/projects", response_model=Received)
def receive_project(asked: MessageAsked, caller: SignedCaller, actor: CurrentOffice) -> Response:
    """Takes a project's file: a new one, a new revision, or the caller's decision."""
    view = caller.office.projects.take(actor, asked.data())
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
