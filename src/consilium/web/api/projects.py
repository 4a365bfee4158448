# SPDX-License-Identifier: Apache-2.0
"""Projects: written, priced, reviewed, run, paused, stopped, revoked; terms, differences."""

from datetime import datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, Field, JsonValue

from consilium.adapters.office.values import ProjectDraft, ProjectView, Said
from consilium.governance.contract import (
    Conditions,
    Contract,
    Purpose,
    Verdict,
    contract_bytes,
)
from consilium.governance.projects import State
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.datasets import PriceAnswer
from consilium.web.api.files import FILE, file_answer
from consilium.web.api.once import spending
from consilium.web.api.people import Why
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Editing,
    Id,
    Line,
    Listed,
    Prose,
    Reason,
    listed,
    tagged,
)

router = APIRouter(tags=["projects"])
once = spending()


class PurposeAsked(Asked):
    """What for: plain words, an ethics reference, codes of the Data Use Ontology."""

    text: Reason
    ethics: Annotated[str, Field(max_length=400)] = ""
    codes: Annotated[tuple[Line, ...], Field(max_length=20)] = ()


class ProjectAsked(Asked):
    """A project file, one arm of it, and what for."""

    toml: Annotated[str, Field(min_length=1, max_length=200_000, pattern=r"^[^\x00]+$")]
    arm: Annotated[Line, Field(max_length=40)]
    datasets: Annotated[dict[Line, Line], Field(min_length=1, max_length=1000)]
    purpose: PurposeAsked
    days: Annotated[int, Field(ge=1, le=3650)] = 90
    max_runs: Annotated[int, Field(ge=1, le=10_000)] = 1
    people: Annotated[tuple[Line, ...], Field(max_length=100)] = ()

    def draft(self) -> ProjectDraft:
        """Returns it as the office takes it."""
        purpose = Purpose(
            text=self.purpose.text, ethics=self.purpose.ethics, codes=tuple(self.purpose.codes)
        )
        return ProjectDraft(
            toml=self.toml,
            arm=self.arm,
            datasets=self.datasets,
            purpose=purpose,
            days=self.days,
            max_runs=self.max_runs,
            people=tuple(self.people),
        )


class ConditionsAsked(Asked):
    """What a yes adds: tighter than the contract, or nothing."""

    expires: AwareDatetime | None = None
    max_runs: Annotated[int, Field(ge=1, le=10_000)] | None = None
    reviewers: Annotated[int, Field(ge=1, le=5)] = 1
    note: Prose = ""


class ReviewAsked(Asked):
    """A verdict on exactly the terms with this digest."""

    verdict: Verdict
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    words: Prose = ""
    conditions: ConditionsAsked = ConditionsAsked()


class RunAsked(Asked):
    """The name of a run."""

    run: Id


class Answered(Asked):
    """The author's answer to a question, or nothing."""

    words: Prose = ""


class ConditionsAnswer(Answer):
    """What the approvals of this office add."""

    expires: datetime | None
    max_runs: int | None
    reviewers: int
    note: str


class SiteDecisionAnswer(Answer):
    """What another office said; its signature was checked."""

    site: str
    verdict: str | None
    person: str
    words: str
    time: datetime | None


class RunAnswer(Answer):
    """One training under a project."""

    name: str
    began: datetime
    ended: datetime | None
    outcome: str


class ProjectSummary(Answer):
    """A project in a list."""

    id: str
    name: str
    revision: int
    version: int
    state: str
    turn: str
    since: datetime
    author: str
    author_name: str
    from_office: str
    digest: str
    words: str
    expires: datetime


class ProjectAnswer(ProjectSummary):
    """A project as this office sees it, with every term."""

    contract: dict[str, JsonValue]
    refusals: list[str]
    conditions: ConditionsAnswer
    max_runs: int
    runs: list[RunAnswer]
    decisions: list[SiteDecisionAnswer]
    last_words: str
    paused_by: str | None


class ReviewAnswer(Answer):
    """What one reviewer of this office said."""

    reviewer: str
    reviewer_name: str
    verdict: str
    words: str
    conditions: ConditionsAnswer
    time: datetime
    stands: bool


class DifferenceAnswer(Answer):
    """What changed between two revisions, one setting a line."""

    before: int
    after: int
    lines: list[str]


class TermsAnswer(Answer):
    """The contract that a draft would be."""

    contract: dict[str, JsonValue]


@router.get("/projects")
def find_projects(
    actor: CurrentActor,
    office: TheOffice,
    part: Cursor,
    state: State | None = None,
) -> Listed[ProjectSummary]:
    """Returns the projects that the caller may see."""
    found = office.projects.find(actor, () if state is None else (state,))
    return listed(found, part, ProjectSummary.model_validate, lambda one: one.id)


@once.post("/projects", status_code=201)
def draft_project(
    asked: ProjectAsked, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Keeps a new project; nobody else acts on it before it is submitted."""
    return _shown(response, office.projects.draft(actor, asked.draft()))


@router.post("/projects/terms")
def preview_terms(asked: ProjectAsked, actor: CurrentActor, office: TheOffice) -> TermsAnswer:
    """Returns the contract that a draft would be; keeps nothing."""
    return TermsAnswer(contract=_terms(office.projects.preview(actor, asked.draft())))


@router.get("/projects/{project}")
def get_project(
    project: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Returns one project with every term."""
    return _shown(response, office.projects.get(actor, project))


@router.put("/projects/{project}")
def edit_project(
    project: Id,
    asked: ProjectAsked,
    edit: Editing,
) -> ProjectAnswer:
    """Makes a new revision; approvals whose terms changed are void."""
    now = edit.office.projects.get(edit.actor, project)
    edit.check(_answer(now))
    return _shown(
        edit.response, edit.office.projects.edit(edit.actor, project, asked.draft(), now.version)
    )


@router.get("/projects/{project}/difference")
def get_difference(
    project: Id,
    before: Annotated[int, Field(ge=1, le=1_000_000)],
    after: Annotated[int, Field(ge=1, le=1_000_000)],
    actor: CurrentActor,
    office: TheOffice,
) -> DifferenceAnswer:
    """Returns what changed between two revisions."""
    text = office.projects.difference(actor, project, before, after)
    return DifferenceAnswer(before=before, after=after, lines=text.splitlines())


@once.post("/projects/{project}/submission")
def submit_project(
    project: Id, asked: Answered, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Hands it to the reviewers; `words` answer what they asked."""
    return _shown(response, office.projects.submit(actor, project, asked.words))


@router.get("/projects/{project}/price")
def get_price(
    project: Id,
    actor: CurrentActor,
    office: TheOffice,
    steps: Annotated[int | None, Query(ge=1, le=10_000_000)] = None,
) -> PriceAnswer | None:
    """Returns what a run that stops after `steps` would cost here; null: nothing is due here."""
    price = office.projects.price(actor, project, steps=steps)
    return None if price is None else PriceAnswer.model_validate(price)


@router.post("/projects/price")
def price_draft(asked: ProjectAsked, actor: CurrentActor, office: TheOffice) -> PriceAnswer | None:
    """Returns what a run under a draft would cost this office's dataset; keeps nothing."""
    price = office.projects.price_draft(actor, asked.draft())
    return None if price is None else PriceAnswer.model_validate(price)


# -- Reviews --------------------------------------------------------------------------


@router.get("/projects/{project}/reviews")
def find_reviews(project: Id, actor: CurrentActor, office: TheOffice) -> list[ReviewAnswer]:
    """Returns this office's reviews; a reviewer sees others' after their own."""
    found = office.projects.reviews(actor, project)
    return [ReviewAnswer.model_validate(one) for one in found]


@router.post("/projects/{project}/opening")
def open_review(
    project: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Begins a review."""
    return _shown(response, office.projects.open(actor, project))


@once.post("/projects/{project}/reviews", status_code=201)
def review_project(
    project: Id,
    asked: ReviewAsked,
    actor: CurrentActor,
    office: TheOffice,
    response: Response,
) -> ProjectAnswer:
    """Approves, which reserves its price; asks; or refuses."""
    said = Said(
        verdict=asked.verdict,
        digest=asked.digest,
        words=asked.words,
        conditions=Conditions(
            expires=asked.conditions.expires,
            max_runs=asked.conditions.max_runs,
            reviewers=asked.conditions.reviewers,
            note=asked.conditions.note,
        ),
    )
    return _shown(response, office.projects.review(actor, project, said))


@router.post("/projects/{project}/revocation")
def revoke_project(
    project: Id, asked: Why, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Ends it for good; its run stops at its next step. What was released cannot be recalled."""
    return _shown(response, office.projects.revoke(actor, project, asked.reason))


# -- Runs -----------------------------------------------------------------------------


@once.post("/projects/{project}/runs", status_code=201)
def start_run(
    project: Id, asked: RunAsked, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Begins a run."""
    return _shown(response, office.runs.start(actor, project, asked.run))


@router.post("/projects/{project}/pause")
def pause_run(
    project: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Holds the run at its next step."""
    return _shown(response, office.runs.pause(actor, project))


@router.post("/projects/{project}/resumption")
def resume_run(
    project: Id, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Lets the run go on."""
    return _shown(response, office.runs.resume(actor, project))


@router.post("/projects/{project}/stop")
def stop_run(
    project: Id, asked: Why, actor: CurrentActor, office: TheOffice, response: Response
) -> ProjectAnswer:
    """Ends the run and the project."""
    return _shown(response, office.runs.stop(actor, project, asked.reason))


@router.get("/projects/{project}/file", response_class=Response, responses=FILE)
def export_project(project: Id, actor: CurrentActor, office: TheOffice) -> Response:
    """Returns contract, signatures and decisions as one file for other offices."""
    return file_answer(office.exchange.export(actor, project), f"{project}.consilium")


def _shown(response: Response, view: ProjectView) -> ProjectAnswer:
    return tagged(response, _answer(view))


def _answer(view: ProjectView) -> ProjectAnswer:
    fields = {
        name: getattr(view, name) for name in ProjectAnswer.model_fields if name != "contract"
    }
    return ProjectAnswer.model_validate(fields | {"contract": _terms(view.contract)})


def _terms(contract: Contract) -> dict[str, JsonValue]:
    terms: dict[str, JsonValue] = msgspec.json.decode(contract_bytes(contract))
    return terms
