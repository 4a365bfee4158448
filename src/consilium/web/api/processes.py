# SPDX-License-Identifier: Apache-2.0
"""Hosted training: processes with limits, the tokens of their machines, admission, updates.

An update's bytes never come here: they go through the secure sum of the run. What comes here is
that a machine may take part in a cycle, and that it did.
"""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from consilium.adapters.identity.machine_tokens import note_token, revoke_token
from consilium.adapters.identity.tokens import Ticket, make_token
from consilium.adapters.office.office import Office
from consilium.adapters.office.values import Hosted
from consilium.errors import NotFound
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.hosting import Candidate, Limits, Update
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.once import spending
from consilium.web.api.shapes import Answer, Asked, Cursor, Id, Listed, Words, listed
from consilium.web.machines import CurrentMachine

router = APIRouter(tags=["hosted training"])
once = spending()
Count = Annotated[int, Field(ge=1, le=100_000)]
Speed = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]


class LimitsAsked(Asked):
    """What a process asks of its machines, and when its cycles end."""

    name: Id
    version: Id
    fewest_sites: Count = 3
    most_sites: Count = 100
    cycle_seconds: Annotated[float, Field(gt=0, le=1e7, allow_inf_nan=False)] = 3600.0
    cycles: Count = 1
    fewest_updates: Count = 3
    most_updates: Count = 100
    least_upload: Speed = 0.0
    least_download: Speed = 0.0
    largest_update: Annotated[int, Field(ge=1, le=1 << 40)] = 1 << 30
    rest_cycles: Annotated[int, Field(ge=0, le=100_000)] = 0


class ProcessAsked(Asked):
    """An approved project to host."""

    project: Id
    limits: LimitsAsked


class LimitsAnswer(Answer):
    """The limits of a process."""

    name: str
    version: str
    fewest_sites: int
    most_sites: int
    cycle_seconds: float
    cycles: int
    fewest_updates: int
    most_updates: int
    least_upload: float
    least_download: float
    largest_update: int
    rest_cycles: int


class CycleAnswer(Answer):
    """Where a process stands."""

    number: int
    began: datetime | None
    sites: Words
    updates: Words
    state: str


class ProcessAnswer(Answer):
    """A hosted process."""

    id: str
    project: str
    limits: LimitsAnswer
    cycle: CycleAnswer


class TokenAsked(Asked):
    """Which machine, and for how many hours."""

    subject: Id
    hours: Annotated[int, Field(ge=1, le=24)] = 8


class TokenAnswer(Answer):
    """A token, shown this once; `serial` takes it back."""

    token: str
    serial: str
    project: str
    expires: datetime


class Speeds(Asked):
    """Megabits a second, as the machine measured them."""

    upload: Speed
    download: Speed


class HandedIn(Asked):
    """Which cycle an update was for, and its bytes."""

    cycle: Count
    size: Annotated[int, Field(ge=0, le=1 << 40)]


class DecisionAnswer(Answer):
    """Yes or no, with the reason."""

    allowed: bool
    reason: str


@router.get("/processes")
def find_processes(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[ProcessAnswer]:
    """Returns every hosted process."""
    found = office.processes.hosted(actor)
    return listed(found, part, ProcessAnswer.model_validate, lambda one: one.id)


@once.post("/processes", status_code=201)
def host_process(asked: ProcessAsked, actor: CurrentActor, office: TheOffice) -> ProcessAnswer:
    """Opens a process for an approved project."""
    limits = Limits(**asked.limits.model_dump())
    process = office.processes.host(actor, limits, asked.project)
    return ProcessAnswer.model_validate(_hosted(actor, office, process))


@router.get("/processes/{process}")
def get_process(process: Id, actor: CurrentActor, office: TheOffice) -> ProcessAnswer:
    """Returns one process."""
    return ProcessAnswer.model_validate(_hosted(actor, office, process))


@router.post("/processes/{process}/closing", status_code=204)
def close_process(process: Id, actor: CurrentActor, office: TheOffice) -> None:
    """Ends a process."""
    office.processes.close(actor, process)


# -- Tokens ---------------------------------------------------------------------------


@router.post("/processes/{process}/tokens", status_code=201)
def make_machine_token(
    process: Id, asked: TokenAsked, actor: CurrentActor, office: TheOffice
) -> TokenAnswer:
    """Makes a token for one machine, bound to the project of this process."""
    hosted, desk = _hosted(actor, office, process), office.desk
    ticket = Ticket(
        subject=asked.subject,
        project=hosted.project,
        serial=desk.new_id(),
        lasts=timedelta(hours=asked.hours),
    )
    with desk.acting(actor) as turn:
        turn.allow(Action.HOST_PROCESS, Resource(kind=ResourceKind.PROCESS, id=process))
        note_token(turn.connection, ticket, made_by=actor.id, now=turn.now)
        turn.note({"token": ticket.serial, "machine": ticket.subject})
    return TokenAnswer(
        token=make_token(desk.key, desk.name, ticket, now=turn.now),
        serial=ticket.serial,
        project=ticket.project,
        expires=turn.now + ticket.lasts,
    )


@router.delete("/tokens/{serial}", status_code=204)
def revoke_machine_token(serial: Id, actor: CurrentActor, office: TheOffice) -> None:
    """Takes a token back, at once."""
    with office.desk.acting(actor) as turn:
        turn.allow(Action.HOST_PROCESS, Resource(kind=ResourceKind.PROCESS))
        if not revoke_token(turn.connection, serial, now=turn.now):
            raise NotFound("there is no such token that can be used; expected its serial")
        turn.note({"token taken back": serial})


# -- Machines -------------------------------------------------------------------------


@router.post("/processes/{process}/admission")
def join_process(
    process: Id, asked: Speeds, machine: CurrentMachine, office: TheOffice
) -> DecisionAnswer:
    """Admits a machine to the cycle, or says why not."""
    candidate = Candidate(site=machine.id, upload=asked.upload, download=asked.download)
    return DecisionAnswer.model_validate(office.processes.join(machine, process, candidate))


@router.post("/processes/{process}/updates")
def hand_in(
    process: Id, asked: HandedIn, machine: CurrentMachine, office: TheOffice
) -> DecisionAnswer:
    """Counts an update that went through the secure sum, or says why not."""
    update = Update(site=machine.id, cycle=asked.cycle, size=asked.size)
    return DecisionAnswer.model_validate(office.processes.hand_in(machine, process, update))


def _hosted(actor: Actor, office: Office, process: str) -> Hosted:
    for one in office.processes.hosted(actor):
        if one.id == process:
            return one
    raise NotFound("there is no such process; expected one of the list")
