# SPDX-License-Identifier: Apache-2.0
"""Grants on datasets, and requests for them."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, Field

from consilium.adapters.office.values import RequestDraft
from consilium.governance.grants import Grant, ReleaseKind
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.once import spending
from consilium.web.api.people import Why
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Epsilon,
    Id,
    Line,
    Listed,
    Prose,
    Reason,
    Words,
    listed,
)

router = APIRouter(tags=["grants and requests"])
once = spending()
Purposes = Annotated[tuple[Line, ...], Field(max_length=20)]
Kinds = Annotated[tuple[ReleaseKind, ...], Field(min_length=1, max_length=3)]


class GrantAnswer(Answer):
    """What a person or group may do with one dataset."""

    id: str
    dataset: str
    holder: str
    purposes: Words
    kinds: Words
    epsilon_cap: float
    expires: datetime
    given_by: str
    revoked: datetime | None


class GrantAsked(Asked):
    """A permission to give: to whom, what for, what may leave, up to which price, until when."""

    holder: Id
    purposes: Purposes = ()
    kinds: Kinds
    epsilon_cap: Epsilon
    expires: AwareDatetime


class DraftAnswer(Answer):
    """What a request wishes."""

    dataset: str
    reason: str
    purposes: Words
    kinds: Words
    epsilon_cap: float
    days: int


class RequestAnswer(Answer):
    """A request for a grant, and what became of it."""

    id: str
    draft: DraftAnswer
    author: str
    author_name: str
    state: str
    made: datetime
    decided: datetime | None
    decided_by: str | None
    answer: str
    grant: str | None


class RequestAsked(Asked):
    """A wish for a grant on a dataset, with its reason."""

    dataset: Id
    reason: Reason
    purposes: Purposes = ()
    kinds: Kinds = (ReleaseKind.TRAINING,)
    epsilon_cap: Epsilon = 1.0
    days: Annotated[int, Field(ge=1, le=3650)] = 90


class Said(Asked):
    """Yes or no, with words."""

    accept: bool
    answer: Prose


@router.get("/datasets/{dataset}/grants")
def find_grants(
    dataset: Id, actor: CurrentActor, office: TheOffice, part: Cursor
) -> Listed[GrantAnswer]:
    """Returns all grants on a dataset."""
    found = office.grants.of_dataset(actor, dataset)
    return listed(found, part, GrantAnswer.model_validate, lambda one: one.id)


@once.post("/datasets/{dataset}/grants", status_code=201)
def give_grant(
    dataset: Id, asked: GrantAsked, actor: CurrentActor, office: TheOffice
) -> GrantAnswer:
    """Gives a grant to somebody else, or to a group."""
    grant = Grant(
        id="",
        dataset=dataset,
        holder=asked.holder,
        purposes=frozenset(asked.purposes),
        kinds=frozenset(asked.kinds),
        epsilon_cap=asked.epsilon_cap,
        expires=asked.expires,
        given_by=actor.id,
    )
    return GrantAnswer.model_validate(office.grants.give(actor, grant))


@router.get("/grants/mine")
def find_own_grants(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[GrantAnswer]:
    """Returns the caller's grants, alone and in groups."""
    found = office.grants.own(actor)
    return listed(found, part, GrantAnswer.model_validate, lambda one: one.id)


@router.post("/grants/{grant}/revocation")
def revoke_grant(grant: Id, asked: Why, actor: CurrentActor, office: TheOffice) -> GrantAnswer:
    """Ends a grant."""
    return GrantAnswer.model_validate(office.grants.revoke(actor, grant, asked.reason))


# -- Requests -------------------------------------------------------------------------


@router.get("/requests")
def find_requests(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[RequestAnswer]:
    """Returns the requests that the caller may see."""
    found = office.grants.requests(actor)
    return listed(found, part, RequestAnswer.model_validate, lambda one: one.id)


@once.post("/requests", status_code=201)
def make_request(asked: RequestAsked, actor: CurrentActor, office: TheOffice) -> RequestAnswer:
    """Asks for a grant."""
    draft = RequestDraft(
        dataset=asked.dataset,
        reason=asked.reason,
        purposes=frozenset(asked.purposes),
        kinds=frozenset(asked.kinds),
        epsilon_cap=asked.epsilon_cap,
        days=asked.days,
    )
    return RequestAnswer.model_validate(office.grants.ask(actor, draft))


@once.post("/requests/{request}/decision")
def decide_request(
    request: Id, asked: Said, actor: CurrentActor, office: TheOffice
) -> RequestAnswer:
    """Accepts, which gives the grant, or denies."""
    decided = office.grants.decide(actor, request, accept=asked.accept, answer=asked.answer)
    return RequestAnswer.model_validate(decided)


@router.delete("/requests/{request}")
def withdraw_request(request: Id, actor: CurrentActor, office: TheOffice) -> RequestAnswer:
    """Takes one's own request back."""
    return RequestAnswer.model_validate(office.grants.withdraw(actor, request))
