# SPDX-License-Identifier: Apache-2.0
"""Runs as they go, by a stream of events, and the models that come of them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import ProjectView
from consilium.adapters.run_board import RunBoard, RunProgress
from consilium.errors import AccessDenied, NotFound
from consilium.governance.access import Action, Actor, ResourceKind
from consilium.governance.decisions import decide
from consilium.governance.model_permissions import ModelVersion, Use, may_use, permissions_of
from consilium.governance.model_permits import PERMIT, encode_permit
from consilium.governance.projects import APPROVED_ONCE, State
from consilium.web import formats
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.files import file_answer
from consilium.web.model_files import model_answer
from consilium.web.pages import reading, words
from consilium.web.pages.board import board_of, progress_of
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Option, Tag, Tone
from consilium.web.pages.rendering import live_part
from consilium.web.pages.research_views import (
    LiveView,
    ModelLine,
    ModelsView,
    ModelView,
    Reference,
    RunLine,
    RunsView,
    SiteState,
    Spot,
)
from consilium.web.pages.showing import Posted, may, page, see_other, show, take
from consilium.web.pages.views import ActionView

router = APIRouter(include_in_schema=False)
_RAN: Final = (*APPROVED_ONCE - {State.READY}, State.FINISHED, State.STOPPED, State.REVOKED)
_STEPS: Final = (
    (Action.START_RUN, "Start", "start"),
    (Action.PAUSE_RUN, "Pause", "pause"),
    (Action.RESUME_RUN, "Resume", "resume"),
    (Action.STOP_RUN, "Stop", "stop"),
    (Action.REVOKE_PROJECT, "Revoke", "revoke"),
)
_SITE_TAGS: Final = {
    "done": Tag("answered", Tone.GOOD),
    "computing": Tag("computing", Tone.INFORM),
    "late": Tag("late", Tone.WAIT),
    "gone": Tag("gone", Tone.STOP),
}
_PAUSE: Final = 1.0  # seconds between two looks at a run

# -- Lists ----------------------------------------------------------------------------


@page(router, "/runs")
def runs(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Lists every run of every project that the reader may see."""
    ran = [one for one in office.projects.find(actor) if one.runs]
    view = RunsView(
        runs=tuple(_run_line(request, one) for one in ran), cli="consilium project list"
    )
    return show(request, actor, view)


def _run_line(request: Request, one: ProjectView) -> RunLine:
    progress, promised = progress_of(request, one.id), one.contract.guarantee
    return RunLine(
        id=one.id,
        project=one.name,
        state=reading.state_tag(one.state),
        started=one.runs[-1].began,
        round=progress.round if progress else None,
        rounds=promised.steps if promised else 0,
        epsilon=progress.epsilon if progress else None,
        delta=promised.delta if promised else None,
    )


# -- One run --------------------------------------------------------------------------


@page(router, "/runs/{project}")
def run(request: Request, actor: CurrentActor, office: TheOffice, project: str) -> Response:
    """Shows a run as it is now."""
    found = office.projects.get(actor, project)
    return show(request, actor, live_view(found, actor, progress_of(request, found.id)))


def live_view(found: ProjectView, actor: Actor, progress: RunProgress | None) -> LiveView:
    """Returns how a run stands; before the first word of it, what was agreed."""
    promised = found.contract.guarantee
    resource = reading.resource_of(found)
    moving = found.state in {State.READY, State.RUNNING, State.PAUSED}
    return LiveView(
        id=found.id,
        title=found.name,
        project_id=found.id,
        state=reading.state_tag(found.state),
        round=progress.round if progress else 0,
        rounds=progress.rounds if progress else promised.steps if promised else 0,
        epsilon=progress.epsilon if progress else 0.0,
        granted=promised.epsilon_participant if promised else 0.0,
        delta=promised.delta if promised else None,
        unit=promised.unit if promised else "patient",
        view="a curious participant",
        left=_left(progress),
        measure=progress.measure if progress else "Quality",
        spots=_spots(progress),
        references=_references(progress),
        sites=_sites(progress, found),
        looks=_looks(progress),
        actions=tuple(
            Link(text, f"/projects/{found.id}/{word}")
            for action, text, word in _STEPS
            if decide(actor, action, resource).allowed
        ),
        cli=f"consilium project show {found.id}",
        moving=moving,
        stream=f"/runs/{found.id}/events" if moving else "",
    )


def _left(progress: RunProgress | None) -> str:
    if progress is not None and not progress.moving:
        return "none"
    known = progress is not None and progress.moving and progress.seconds_left is not None
    if not known or progress is None or progress.seconds_left is None:
        return "not known"
    return formats.duration(progress.seconds_left)


def _spots(progress: RunProgress | None) -> tuple[Spot, ...]:
    looks = progress.looks if progress else ()
    return tuple(Spot(one.round, one.epsilon, one.quality) for one in looks)


def _references(progress: RunProgress | None) -> tuple[Reference, ...]:
    levels = progress.references if progress else ()
    return tuple(Reference(arm=one.arm, quality=one.quality, source=one.source) for one in levels)


def _looks(progress: RunProgress | None) -> str:
    if progress is None or not progress.public_looks:
        return ""
    return "The validation records are public: looking at them costs nothing."


def _sites(progress: RunProgress | None, found: ProjectView) -> tuple[SiteState, ...]:
    if progress is None:
        return tuple(
            SiteState(name=name, state=Tag("not begun"), step="", seconds=None, spent=0.0, cap=None)
            for name in sorted(found.contract.datasets)
        )
    return tuple(
        SiteState(
            name=one.name,
            state=_SITE_TAGS.get(one.state, Tag(one.state)),
            step=one.step,
            seconds=one.seconds,
            spent=one.spent,
            cap=None,
        )
        for one in progress.sites
    )


@router.get("/runs/{project}/events", response_model=None)
def events(request: Request, actor: CurrentActor, office: TheOffice, project: str) -> Response:
    """Streams the part of the page that changes, each time it does.

    The reader's right is looked at before each event: who loses it loses the stream.
    """
    found = office.projects.get(actor, project)
    stream = _stream(office, actor, found.id, board_of(request))
    return StreamingResponse(stream, media_type="text/event-stream")


async def _stream(
    office: Office, actor: Actor, project: str, board: RunBoard
) -> AsyncIterator[str]:
    seen = 0
    yield "retry: 2000\n\n"
    while True:
        now = await run_in_threadpool(_still, office, actor, project)
        word = board.after(project, seen, 0.0)
        if now is not None and word is not None:
            seen, progress = word
            yield _event("part", live_part(live_view(now, actor, progress)))
        if now is None or not live_view(now, actor, None).moving:
            break
        yield ": still here\n\n"
        await asyncio.sleep(_PAUSE)
    yield _event("end", "the run has ended")


def _still(office: Office, actor: Actor, project: str) -> ProjectView | None:
    try:
        return office.projects.get(actor, project)
    except (AccessDenied, NotFound):
        return None


def _event(name: str, text: str) -> str:
    data = "".join(f"data: {line}\n" for line in text.splitlines())
    return f"event: {name}\n{data}\n"


# -- Models ---------------------------------------------------------------------------


@page(router, "/models")
def models(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Lists models and what may be done with each."""
    view = ModelsView(
        models=tuple(_model_line(one) for one in office.models.versions(actor)),
        cli="consilium model list",
    )
    return show(request, actor, view)


_USES: Final = {
    Use.DOWNLOAD: ("Download", "downloaded"),
    Use.DEVICE: ("Give it to a phone's page", "on phones"),
    Use.REMOTE_INFERENCE: ("Ask it, in the clear", "asked"),
    Use.ENCRYPTED_INFERENCE: ("Ask it, encrypted", "asked, encrypted"),
}


def _model_line(one: ModelVersion) -> ModelLine:
    allowed = tuple(
        Tag(text, Tone.GOOD) for use, (_, text) in _USES.items() if may_use(one, use).allowed
    )
    return ModelLine(
        id=one.id,
        name=one.name,
        version=str(one.version),
        created=one.published,
        epsilon=one.epsilon,
        delta=one.delta,
        tags=allowed or (Tag("kept in the office"),),
    )


def _model(office: Office, actor: Actor, identity: str) -> ModelVersion:
    for one in office.models.versions(actor):
        if one.id == identity:
            return one
    raise NotFound("no such model; expected one of the list")


@page(router, "/models/{model}")
def model(request: Request, actor: CurrentActor, office: TheOffice, model: str) -> Response:
    """Shows one model: lineage, promise, permissions."""
    one = _model(office, actor, model)
    versions = office.models.versions(actor, one.name)
    edit = may(actor, Action.EDIT_MODEL, ResourceKind.MODEL)
    view = ModelView(
        id=one.id,
        title=one.name,
        version=str(one.version),
        state=Tag("withdrawn", Tone.STOP) if one.withdrawn else Tag("published", Tone.GOOD),
        lineage=_lineage(office, actor, one),
        quality=(),
        statement=None,
        promise=_promise(one),
        meaning=_meaning(one),
        permissions=tuple(
            Fact(text, "yes" if may_use(one, use).allowed else "no", may_use(one, use).reason)
            for use, (text, _) in _USES.items()
        ),
        downloads=_downloads(one),
        versions=tuple(Link(f"Version {each.version}", f"/models/{each.id}") for each in versions),
        actions=(Link("Change what may be done", f"/models/{one.id}/permit"),) if edit else (),
        verify="",
        cli=f"consilium model release {one.name} --version {one.version} --out FOLDER",
    )
    return show(request, actor, view)


def _downloads(one: ModelVersion) -> tuple[Link, ...]:
    allowed = [use for use in Use if may_use(one, use).allowed]
    weights = Link("Weights, safetensors", f"/models/{one.id}/file")
    permit = Link("Permit, signed by the office", f"/models/{one.id}/signed-permit")
    return (*([weights] if Use.DOWNLOAD in allowed else []), *([permit] if allowed else []))


def _lineage(office: Office, actor: Actor, one: ModelVersion) -> tuple[Fact, ...]:
    own = (
        Fact("Run", one.run),
        Fact("SHA-256 of the weights", one.digest),
        Fact("Published", f"{one.published:%Y-%m-%d %H:%M} UTC"),
    )
    found = _still(office, actor, one.project)
    if found is None:
        return (Fact("Project", one.project), *own)
    return (
        Fact("Project", found.name, found.words),
        Fact("Purpose", found.contract.purpose.text),
        Fact("Sites", ", ".join(sorted(found.contract.datasets))),
        Fact("Arm", found.contract.arm),
        *own,
    )


def _promise(one: ModelVersion) -> tuple[Fact, ...]:
    return (
        Fact("Epsilon", formats.epsilon(one.epsilon), "in the worst view, per patient"),
        Fact("Delta", formats.delta(one.delta)),
    )


def _meaning(one: ModelVersion) -> str:
    if one.epsilon is None or one.delta is None:
        return "It carries no guarantee: nothing bounds what it reveals about a patient."
    return words.meaning(one.epsilon, one.delta, "patient")


@router.get("/models/{model}/file", response_model=None)
def model_file(request: Request, actor: CurrentActor, office: TheOffice, model: str) -> Response:
    """Hands out the weights where that is allowed; logged either way."""
    one = _model(office, actor, model)
    allowed = office.models.use(actor, one.name, str(one.version), Use.DOWNLOAD)
    return model_answer(request, allowed)


@router.get("/models/{model}/signed-permit", response_model=None)
def permit_file(actor: CurrentActor, office: TheOffice, model: str) -> Response:
    """Hands out the office's signed word on a version, to lie beside the weights; logged."""
    one = _model(office, actor, model)
    permit = office.models.statement(actor, one.name, str(one.version))
    return file_answer(encode_permit(permit), PERMIT)


def _permit_view(one: ModelVersion) -> ActionView:
    return ActionView(
        kind=f"Model {one.name}, version {one.version}",
        title="What may be done with it",
        cli=f"consilium model permit {one.name} --version {one.version} --permission USE",
        stays=("A model that was downloaded cannot be called back.",),
        form=Form(
            action=f"/models/{one.id}/permit",
            submit="Set it",
            back=Link("Back", f"/models/{one.id}"),
            fields=(
                Field(
                    name="uses",
                    label="Allow",
                    kind=Kind.CHOICE,
                    options=(
                        Option(value="nothing", text="Nothing: it stays in the office"),
                        Option(value="download", text="Download, and asking it"),
                        Option(
                            value="device",
                            text="A page on phones, and asking it encrypted",
                            hint="Everybody who opens the page holds the weights.",
                        ),
                        Option(value="remote", text="Asking it, not downloading"),
                        Option(
                            value="encrypted",
                            text="Asking it encrypted, and nothing else",
                            hint="No operator sees the image, nobody holds the weights.",
                        ),
                    ),
                ),
            ),
        ),
    )


_CHOICES: Final[dict[str, tuple[str, ...]]] = {  # of the form: words of a permission
    "nothing": (),
    "download": ("download", "remote-inference"),
    "device": ("device",),
    "remote": ("remote-inference",),
    "encrypted": ("encrypted-only",),
}


@page(router, "/models/{model}/permit")
def permissions(request: Request, actor: CurrentActor, office: TheOffice, model: str) -> Response:
    """Shows the form of a model's permissions."""
    return show(request, actor, _permit_view(_model(office, actor, model)))


@router.post("/models/{model}/permit", response_model=None)
def permit(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Sets what may be done with a model."""
    one = _model(office, actor, request.path_params["model"])

    def act() -> Response:
        if answers["uses"] not in _CHOICES:
            raise NotFound("no such use; expected one of the form")
        office.models.permit(actor, one.id, permissions_of(_CHOICES[answers["uses"]]))
        return see_other(f"/models/{one.id}", done="saved")

    return take(request, actor, _permit_view(one), answers, act)
