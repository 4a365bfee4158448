# SPDX-License-Identifier: Apache-2.0
"""How a page is served: its frame, its JSON twin, its forms, its errors.

Every page is registered twice by `page`: as HTML, and with `.json` behind its address, from the
same view. A form is answered with a redirect, or with the same page and the reason beside the
field. What a notice says after a redirect comes from a fixed list, never from the address.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Final, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import HTMLResponse, RedirectResponse

from consilium.errors import (
    BudgetExceeded,
    ConfigError,
    Conflict,
    ConsiliumError,
    DataError,
    NotFound,
    ProtocolError,
)
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.decisions import decide
from consilium.web.access import maybe_actor, office_of
from consilium.web.pages.parts import Frame, Link, Notice, Tone
from consilium.web.pages.rendering import to_html, to_json
from consilium.web.pages.views import ActionView, ErrorView
from consilium.web.problems import Problem

DONE: Final[Mapping[str, Notice]] = {
    "approved": Notice(Tone.GOOD, "You approved it.", "It runs once every hospital has."),
    "asked": Notice(Tone.GOOD, "Your question was sent.", "It comes back with an answer."),
    "refused": Notice(Tone.GOOD, "You refused it.", "The author sees your reason."),
    "revoked": Notice(
        Tone.STOP,
        "It is revoked.",
        "This hospital stops at its next step. What was released before stays spent.",
    ),
    "submitted": Notice(Tone.GOOD, "It was submitted.", "Every hospital decides for itself."),
    "started": Notice(Tone.GOOD, "The run begins."),
    "paused": Notice(Tone.WAIT, "The run is paused at its next step."),
    "resumed": Notice(Tone.GOOD, "The run goes on."),
    "stopped": Notice(Tone.STOP, "The run is stopped for good."),
    "saved": Notice(Tone.GOOD, "It is saved."),
    "registered": Notice(Tone.GOOD, "The dataset is registered.", "Nobody may use it yet."),
    "frozen": Notice(Tone.WAIT, "The dataset is frozen.", "Nothing new is charged to it."),
    "proposed": Notice(Tone.GOOD, "It is proposed.", "A second person has to confirm it."),
    "signed-out": Notice(Tone.GOOD, "You are signed out."),
}
_MENU: Final = (
    ("Inbox", "/inbox", Action.SEE_REVIEWS, ResourceKind.PROJECT),
    ("Datasets", "/datasets", Action.SEE_BUDGET, ResourceKind.DATASET),
    ("Catalogue", "/catalogue", Action.MAKE_REQUEST, ResourceKind.REQUEST),
    ("Projects", "/projects", Action.DRAFT_PROJECT, ResourceKind.PROJECT),
    ("Runs", "/runs", Action.DRAFT_PROJECT, ResourceKind.PROJECT),
    ("Models", "/models", Action.SEE_MODEL, ResourceKind.MODEL),
    ("Log", "/log", Action.SEE_LOG, ResourceKind.LOG),
    ("People", "/people", Action.SEE_PEOPLE, ResourceKind.PERSON),
    ("Sites", "/sites", Action.REVOKE_ASSOCIATION, ResourceKind.ASSOCIATION),
    ("Health", "/health", Action.DECIDE_ASSOCIATION, ResourceKind.OFFICE),
    ("Settings", "/settings", Action.EDIT_SETTINGS, ResourceKind.OFFICE),
)
_BESIDE: Final = (ConfigError, DataError, Conflict, BudgetExceeded, ProtocolError)

Builder: TypeAlias = Callable[..., Response]
Answers: TypeAlias = dict[str, str]


# -- Pages ----------------------------------------------------------------------------


def page(router: APIRouter, path: str) -> Callable[[Builder], Builder]:
    """Registers a page and its JSON twin; the twin first, as `{name}` would take its ending."""

    def register(build: Builder) -> Builder:
        router.add_api_route(f"{path}.json", build, methods=["GET"], response_model=None)
        router.add_api_route(path, build, methods=["GET"], response_model=None)
        return build

    return register


def show(request: Request, actor: Actor | None, view: object, status: int = 200) -> Response:
    """Returns a view as the page or as the JSON that was asked for."""
    if request.url.path.endswith(".json"):
        return Response(to_json(view), status, media_type="application/json")
    return HTMLResponse(to_html(view, frame_of(request, actor)), status)


def frame_of(request: Request, actor: Actor | None) -> Frame:
    """Returns what stands around a page for this reader."""
    office = office_of(request)
    return Frame(
        office=office.desk.name,
        user="" if actor is None else actor.name,
        roles="" if actor is None else ", ".join(sorted(actor.roles)),
        here=request.url.path,
        menu=() if actor is None else menu_of(actor),
        notice=DONE.get(request.query_params.get("done", "")),
    )


def menu_of(actor: Actor) -> tuple[Link, ...]:
    """Returns where the actor may go: an entry for each thing that they may do somewhere."""
    return tuple(
        Link(text, href)
        for text, href, action, kind in _MENU
        if decide(actor, action, Resource(kind=kind)).allowed
    )


def may(actor: Actor, action: Action, kind: ResourceKind, state: str | None = None) -> bool:
    """Returns whether the actor may do this to something in this state that is not their own."""
    return decide(actor, action, Resource(kind=kind, state=state)).allowed


def see_other(path: str, *, done: str = "") -> Response:
    """Returns where to go after a form was taken."""
    if done and done not in DONE:
        raise ValueError(f"{done=} has no notice; expected one of {', '.join(DONE)}")
    return RedirectResponse(f"{path}?done={done}" if done else path, 303)


# -- Forms ----------------------------------------------------------------------------


async def posted(request: Request) -> Answers:
    """Returns a form's answers; several of one name are joined by commas, files are left out."""
    form = await request.form()
    answers: Answers = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            answers[name] = f"{answers[name]},{value}" if name in answers else value.strip()
    return answers


Posted = Annotated[Answers, Depends(posted)]


def missing(view: ActionView, answers: Answers) -> dict[str, str]:
    """Returns an error for each question that needs an answer and has none."""
    return {
        field.name: f"{field.label}: an answer is missing"
        for field in view.form.fields
        if field.required and not answers.get(field.name)
    }


def again(
    request: Request,
    actor: Actor | None,
    view: ActionView,
    answers: Answers,
    errors: Mapping[str, str],
) -> Response:
    """Returns the form as it was sent, with what is wrong beside its field."""
    form = view.form.with_answers(answers, errors)
    return show(request, actor, replace(view, form=form), 422)


def take(
    request: Request,
    actor: Actor | None,
    view: ActionView,
    answers: Answers,
    act: Callable[[], Response],
) -> Response:
    """Does what a form asks for; what is missing or refused comes back beside its field.

    A refusal that names no field of the form stands beside the first one.

    Raises:
        AccessDenied: The actor may not; that is a page of its own.
        NotFound: There is no such thing; likewise.
    """
    errors = missing(view, answers)
    if errors:
        return again(request, actor, view, answers, errors)
    try:
        return act()
    except NotFound:
        raise
    except _BESIDE as error:
        return again(request, actor, view, answers, {_field_of(view, error): str(error)})


def _field_of(view: ActionView, error: ConsiliumError) -> str:
    names = [field.name for field in view.form.fields]
    return next((name for name in names if str(error).startswith(f"{name}:")), names[0])


def number(answers: Answers, name: str) -> float:
    """Returns an answer as a number.

    Raises:
        ConfigError: It is none.
    """
    text = answers.get(name, "").replace(",", ".")
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{name}: {text[:20]!r} is not a number; expected one like 1.5") from None


def whole(answers: Answers, name: str, default: int) -> int:
    """Returns an answer as a whole number; `default` where there is none.

    Raises:
        ConfigError: It is none.
    """
    text = answers.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise ConfigError(f"{name}: {text[:20]!r} is not a whole number; expected one like 30")
    return int(text)


# -- Errors ---------------------------------------------------------------------------


def problem_page(request: Request, problem: Problem) -> Response:
    """Returns an error as a page: what happened, what to do, who can help."""
    view = ErrorView(
        title=problem.title,
        status=problem.status,
        happened=problem.why,
        advice=problem.do,
        who=problem.who,
    )
    try:
        actor = maybe_actor(request)
    except (ConsiliumError, AttributeError):
        actor = None
    return show(request, actor, view, problem.status)
