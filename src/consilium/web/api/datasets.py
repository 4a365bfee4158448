# SPDX-License-Identifier: Apache-2.0
"""Datasets: the catalogue, registration, caps, freezing, opting out. No row of data is here."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import Field

from consilium.adapters.office.values import CardChanges, NewDataset
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.once import spending
from consilium.web.api.people import Why
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Editing,
    Epsilon,
    Id,
    Line,
    Listed,
    Prose,
    Reason,
    listed,
    tagged,
)

router = APIRouter(tags=["datasets"])
once = spending()
Tags = Annotated[tuple[Annotated[Line, Field(max_length=60)], ...], Field(max_length=40)]


class DatasetAnswer(Answer):
    """The card of a dataset: counts with noise, names, words; no row, no path."""

    id: str
    name: str
    office: str
    description: str
    tags: list[str]
    task: str
    unit: str
    classes: list[str]
    features: list[str]
    shape: list[int]
    noisy_patients: int
    count_epsilon: float
    fingerprint: str
    state: str
    registered: datetime
    version: int


class DatasetAsked(Asked):
    """An imported folder of this office, and words to find it by."""

    name: Line
    folder: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[^\x00]+$")]
    description: Prose
    tags: Tags = ()
    cap: Epsilon | None = None


class CardChange(Asked):
    """What changes of a card; what is left out stays."""

    description: Prose | None = None
    tags: Tags | None = None


class LowerCap(Asked):
    """A cap that is lower than before."""

    epsilon: Epsilon


class RaiseAsked(Asked):
    """A higher cap, or with null the end of a freeze; somebody else must confirm it."""

    epsilon: Epsilon | None
    reason: Reason


class RaiseAnswer(Answer):
    """A proposal that waits for a second person, or what became of it."""

    id: str
    dataset: str
    epsilon: float | None
    reason: str
    proposed_by: str
    proposed_by_name: str
    proposed: datetime
    state: str


class OptOut(Asked):
    """A patient's pseudonym at this office."""

    pseudonym: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")]


@router.get("/datasets")
def search_datasets(
    actor: CurrentActor,
    office: TheOffice,
    part: Cursor,
    words: Annotated[str, Field(max_length=200)] = "",
    tag: Annotated[tuple[str, ...], Query(max_length=20)] = (),
) -> Listed[DatasetAnswer]:
    """Returns the cards, of this and of associated offices, that hold every word and tag."""
    found = office.datasets.search(actor, words, tag)
    return listed(found, part, DatasetAnswer.model_validate, lambda one: one.id)


@once.post("/datasets", status_code=201)
def register_dataset(
    asked: DatasetAsked, actor: CurrentActor, office: TheOffice, response: Response
) -> DatasetAnswer:
    """Registers an imported folder; its noisy count of patients is charged to its budget."""
    new = NewDataset(
        name=asked.name,
        folder=asked.folder,
        description=asked.description,
        tags=tuple(asked.tags),
        cap=asked.cap,
    )
    return tagged(response, DatasetAnswer.model_validate(office.datasets.register(actor, new)))


@router.get("/datasets/{dataset}")
def get_dataset(
    dataset: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> DatasetAnswer:
    """Returns one card."""
    return tagged(response, DatasetAnswer.model_validate(office.datasets.get(actor, dataset)))


@router.patch("/datasets/{dataset}")
def edit_dataset(
    dataset: Id,
    asked: CardChange,
    edit: Editing,
) -> DatasetAnswer:
    """Changes the words of a card."""
    now = DatasetAnswer.model_validate(edit.office.datasets.get(edit.actor, dataset))
    edit.check(now)
    changes = CardChanges(
        description=asked.description, tags=None if asked.tags is None else tuple(asked.tags)
    )
    edited = edit.office.datasets.edit(edit.actor, dataset, changes, now.version)
    return edit.tagged(DatasetAnswer.model_validate(edited))


@router.post("/datasets/{dataset}/withdrawal")
def withdraw_dataset(
    dataset: Id, asked: Why, actor: CurrentActor, office: TheOffice
) -> DatasetAnswer:
    """Ends its use for good: projects on it are revoked, its ledger is kept."""
    return DatasetAnswer.model_validate(office.datasets.withdraw(actor, dataset, asked.reason))


# -- Budget ---------------------------------------------------------------------------


class ProjectShare(Answer):
    """What a project has spent by itself, and the steps it holds; shares compose, not add."""

    name: str
    epsilon: float
    steps: int
    held: int


class MonthShare(Answer):
    """What was spent up to the end of a month, composed."""

    month: str
    epsilon: float


class PatientsShare(Answer):
    """How many patients have spent so much, over all datasets of this office."""

    epsilon: float
    patients: int


class StandingAnswer(Answer):
    """How a dataset's budget stands: composed epsilons at `delta`, unit: the patient."""

    dataset: str
    cap: float
    delta: float
    epsilon: float
    reserved: float
    free: float
    share: float
    exact: float | None
    guess: float
    frozen: bool
    patients: int
    opted_out: int
    patient_cap: float
    patient_delta: float
    by_project: list[ProjectShare]
    by_month: list[MonthShare]
    by_patient: list[PatientsShare]


class PriceAnswer(Answer):
    """What a run would cost this office's dataset: composed epsilons at `delta`."""

    alone: float
    before: float
    after: float
    remaining: float
    cap: float
    delta: float
    fits: bool
    most_steps: int
    patients: int
    exhausted: int


@router.get("/datasets/{dataset}/budget")
def get_budget(dataset: Id, actor: CurrentActor, office: TheOffice) -> StandingAnswer:
    """Returns what is spent, held and free, by project, by month and by patient."""
    return StandingAnswer.model_validate(office.datasets.standing(actor, dataset))


# -- Caps -----------------------------------------------------------------------------


@router.post("/datasets/{dataset}/freeze")
def freeze_dataset(
    dataset: Id, asked: Why, actor: CurrentActor, office: TheOffice
) -> DatasetAnswer:
    """Stops every new charge at once."""
    return DatasetAnswer.model_validate(office.datasets.freeze(actor, dataset, asked.reason))


@router.put("/datasets/{dataset}/cap", status_code=204)
def lower_cap(dataset: Id, asked: LowerCap, actor: CurrentActor, office: TheOffice) -> None:
    """Lowers the cap; one person may."""
    office.datasets.lower_cap(actor, dataset, asked.epsilon)


@router.get("/datasets/{dataset}/raises")
def find_raises(
    dataset: Id, actor: CurrentActor, office: TheOffice, part: Cursor
) -> Listed[RaiseAnswer]:
    """Returns the proposals that wait for a second person."""
    found = office.datasets.proposals(actor, dataset)
    return listed(found, part, RaiseAnswer.model_validate, lambda one: one.id)


@once.post("/datasets/{dataset}/raises", status_code=201)
def propose_raise(
    dataset: Id, asked: RaiseAsked, actor: CurrentActor, office: TheOffice
) -> RaiseAnswer:
    """Proposes a higher cap, or the end of a freeze."""
    proposed = office.datasets.propose(actor, dataset, asked.epsilon, asked.reason)
    return RaiseAnswer.model_validate(proposed)


@once.post("/raises/{proposal}/confirmation")
def confirm_raise(proposal: Id, actor: CurrentActor, office: TheOffice) -> RaiseAnswer:
    """Makes somebody else's proposal true."""
    return RaiseAnswer.model_validate(office.datasets.confirm(actor, proposal))


@router.post("/opt-outs", status_code=204)
def opt_out(asked: OptOut, actor: CurrentActor, office: TheOffice) -> None:
    """Leaves a patient out of everything from the next charge on."""
    office.datasets.opt_out(actor, asked.pseudonym)
