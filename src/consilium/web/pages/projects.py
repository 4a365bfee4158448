# SPDX-License-Identifier: Apache-2.0
"""Inbox, projects and every decision on one: the pages that a steward uses most."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from typing import Final

from fastapi import APIRouter, Request, Response

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import ProjectView, Review, Said
from consilium.errors import AccessDenied, ConfigError, NotFound
from consilium.governance.access import Actor
from consilium.governance.contract import Conditions, Verdict
from consilium.governance.projects import State
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.pages import decisions, reading, words
from consilium.web.pages.board import progress_of
from consilium.web.pages.parts import Link, Notice, Tone
from consilium.web.pages.research_views import ProjectLine, ProjectsView
from consilium.web.pages.showing import Answers, Posted, page, see_other, show, take, whole
from consilium.web.pages.views import ActionView, InboxView, Price, ReviewView, Running, WhatIf
from consilium.web.pages.what_if import what_if

router = APIRouter(include_in_schema=False)
_REVIEWED: Final = {State.SUBMITTED, State.UNDER_REVIEW}

# -- Lists ----------------------------------------------------------------------------


@page(router, "/inbox")
def inbox(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows what waits, what runs, what was decided."""
    lists = office.projects.inbox(actor)
    now = office.desk.clock()
    view = InboxView(
        needs_you=tuple(
            reading.request_view(one, prices(office, actor, one), now) for one in lists.needs_you
        ),
        running=tuple(_running(request, one) for one in lists.running),
        decided=tuple(reading.decided_view(one) for one in lists.decided),
        asks=_asks(office, actor),
        cli="consilium project list --state submitted",
    )
    return show(request, actor, view)


def _asks(office: Office, actor: Actor) -> tuple[Link, ...]:
    """Returns what waits besides projects: requests, higher caps, other offices."""
    requests = [one for one in office.grants.requests(actor) if one.author != actor.id]
    raises = [one for one in office.datasets.proposals(actor) if one.proposed_by != actor.id]
    return reading.asks(requests, raises, office.associations.all(actor))


def _running(request: Request, project: ProjectView) -> Running:
    promised = project.contract.guarantee
    progress = progress_of(request, project.id)
    return Running(
        id=project.id,
        project=project.name,
        project_id=project.id,
        state=reading.state_tag(project.state),
        round=progress.round if progress else 0,
        rounds=progress.rounds if progress else promised.steps if promised else 0,
        epsilon=progress.epsilon if progress else 0.0,
        granted=promised.epsilon_participant if promised else 0.0,
        delta=promised.delta if promised else 1.0,
    )


@page(router, "/projects")
def projects(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Lists the projects that the reader may see."""
    view = ProjectsView(
        projects=tuple(
            ProjectLine(
                id=one.id,
                name=one.name,
                state=reading.state_tag(one.state),
                turn=reading.turn_words(one),
                changed=one.since,
                sites=tuple(sorted(one.contract.datasets)),
            )
            for one in office.projects.find(actor)
        ),
        actions=(Link("New project", "/projects/new"),),
        cli="consilium project list",
    )
    return show(request, actor, view)


# -- Review ---------------------------------------------------------------------------


def prices(office: Office, actor: Actor, project: ProjectView) -> tuple[Price, ...]:
    """Returns the price on this office's dataset; nothing where it takes no part."""
    price = _price(office, actor, project, None)
    return () if price is None else (price,)


def _price(office: Office, actor: Actor, project: ProjectView, steps: int | None) -> Price | None:
    bound, promised = project.contract.datasets.get(office.desk.name), project.contract.guarantee
    if bound is None or promised is None:
        return None
    try:
        price = office.projects.price(actor, project.id, steps=steps)
    except (AccessDenied, NotFound):
        return None
    return None if price is None else reading.price_view(price, bound.dataset, promised.unit)


def _what_if(
    office: Office, actor: Actor, project: ProjectView, asked: str | None
) -> WhatIf | None:
    whole_price = _price(office, actor, project, None)
    if whole_price is None:
        return None
    return what_if(
        project.contract,
        whole_price,
        asked,
        lambda steps: _price(office, actor, project, steps),
    )


@page(router, "/projects/{project}")
def project(request: Request, actor: CurrentActor, office: TheOffice, project: str) -> Response:
    """Shows a project in the order in which it is judged."""
    found = office.projects.get(actor, project)
    return show(request, actor, _review(request, actor, office, found))


def _review(request: Request, actor: Actor, office: Office, found: ProjectView) -> ReviewView:
    contract, priced = found.contract, prices(office, actor, found)
    asked = request.query_params.get("allow")
    deciding = bool(priced) and found.state in _REVIEWED
    return ReviewView(
        id=found.id,
        title=found.name,
        state=reading.state_tag(found.state),
        turn=reading.turn_words(found),
        author=reading.author_line(found),
        submitted=found.since,
        purpose=contract.purpose.text,
        ethics=contract.purpose.ethics,
        data_use=contract.purpose.codes,
        leaves=reading.what_leaves(contract),
        stays=reading.what_stays(contract),
        prices=priced,
        what_if=_what_if(office, actor, found, asked) if deciding else None,
        meaning=_meaning(found, priced),
        people=reading.people_of(contract),
        parameters=reading.parameters(contract),
        fingerprint=tuple(found.words.split()),
        digest=found.digest,
        difference=_difference(office, actor, found),
        conditions=reading.conditions(found, office.desk.clock()),
        signatures=reading.signatures(found.decisions, _reviews(office, actor, found)),
        questions=(),
        actions=reading.project_actions(found, actor),
        cli=f"consilium project show {found.id}",
        notice=_refused_by_rules(found),
    )


def _meaning(found: ProjectView, priced: tuple[Price, ...]) -> str:
    promised = found.contract.guarantee
    if promised is None:
        return ""
    if priced:
        worst = max(priced, key=lambda one: one.after)
        return words.meaning(worst.after, worst.delta, worst.unit)
    return words.meaning(promised.epsilon_participant, promised.delta, promised.unit)


def _refused_by_rules(found: ProjectView) -> Notice | None:
    if not found.refusals or found.state not in _REVIEWED:
        return None
    return Notice(Tone.STOP, "The rules of this office do not allow it.", "; ".join(found.refusals))


def _difference(office: Office, actor: Actor, found: ProjectView) -> str:
    if found.revision < 2:
        return ""
    try:
        return office.projects.difference(actor, found.id, found.revision - 1, found.revision)
    except NotFound:
        return ""


def _reviews(office: Office, actor: Actor, found: ProjectView) -> tuple[Review, ...]:
    try:
        return office.projects.reviews(actor, found.id)
    except AccessDenied:
        return ()


# -- Decisions ------------------------------------------------------------------------


def _views(office: Office, actor: Actor, found: ProjectView) -> Mapping[str, ActionView]:
    return {
        "approve": decisions.approve_view(found, prices(office, actor, found)),
        "ask": decisions.ask_view(found),
        "refuse": decisions.refuse_view(found),
        "revoke": decisions.revoke_view(found),
        "stop": decisions.stop_view(found),
        "submit": decisions.plain_view(
            found, "submit", "Submit", "Every hospital whose data it uses decides on it."
        ),
        "start": decisions.plain_view(
            found, "start", "Start", "The price is reserved at every hospital, and spent by step."
        ),
        "pause": decisions.plain_view(found, "pause", "Pause", "It holds at its next step."),
        "resume": decisions.plain_view(found, "resume", "Resume", "It goes on where it was."),
    }


@page(router, "/projects/{project}/{step}")
def ask_for_step(
    request: Request, actor: CurrentActor, office: TheOffice, project: str, step: str
) -> Response:
    """Shows the form of a step: what it asks, what will happen, what cannot be undone."""
    found = office.projects.get(actor, project)
    return show(request, actor, _view_of(_views(office, actor, found), step))


@router.post("/projects/{project}/{step}", response_model=None)
def take_step(
    request: Request,
    actor: CurrentActor,
    office: TheOffice,
    answers: Posted,
) -> Response:
    """Takes a step, and goes back to the project."""
    found = office.projects.get(actor, request.path_params["project"])
    step = request.path_params["step"]
    view = _view_of(_views(office, actor, found), step)

    def act() -> Response:
        _ACTS[step](office, actor, found, answers, request.query_params.get("of", ""))
        return see_other(f"/projects/{found.id}", done=_DONE[step])

    if not view.form.fields:
        return act()
    return take(request, actor, view, answers, act)


def _view_of(known: Mapping[str, ActionView], step: str) -> ActionView:
    if step not in known:
        raise NotFound(f"no step {step!r} of a project; expected one of {', '.join(known)}")
    return known[step]


Act = Callable[[Office, Actor, ProjectView, Answers, str], object]


def _approve(
    office: Office, actor: Actor, found: ProjectView, answers: Answers, digest: str
) -> object:
    first = found.words.split()[0]
    if answers["word"].casefold() != first:
        raise ConfigError(f"word: expected {first}; compare all six with another hospital")
    day = answers.get("expires", "")
    conditions = Conditions(
        expires=_end_of(day) if day else None,
        max_runs=whole(answers, "max_runs", 0) or None,
        reviewers=whole(answers, "reviewers", 1),
        note=answers.get("note", ""),
    )
    said = Said(verdict=Verdict.APPROVE, digest=digest, conditions=conditions)
    return _say(office, actor, found, said)


def _say(office: Office, actor: Actor, found: ProjectView, said: Said) -> object:
    if found.state is State.SUBMITTED:
        office.projects.open(actor, found.id)
    return office.projects.review(actor, found.id, said)


def _end_of(day: str) -> datetime:
    try:
        return datetime.combine(datetime.fromisoformat(day).date(), time.max, UTC)
    except ValueError:
        raise ConfigError(
            f"expires: {day[:20]!r} is no day; expected one like 2027-03-31"
        ) from None


def _ask(office: Office, actor: Actor, found: ProjectView, answers: Answers, _: str) -> object:
    said = Said(verdict=Verdict.ASK, digest=found.digest, words=answers["words"])
    return _say(office, actor, found, said)


def _refuse(office: Office, actor: Actor, found: ProjectView, answers: Answers, _: str) -> object:
    known = decisions.REASONS.get(answers["reason"])
    if known is None or not (known or answers.get("words")):
        raise ConfigError("words: expected a reason in your own words")
    reason = " ".join(part for part in (known, answers.get("words", "")) if part)
    said = Said(verdict=Verdict.REFUSE, digest=found.digest, words=reason)
    return _say(office, actor, found, said)


def _revoke(office: Office, actor: Actor, found: ProjectView, answers: Answers, _: str) -> object:
    if answers["confirm"] != found.name:
        raise ConfigError(f"confirm: expected the name as it stands here, {found.name}")
    return office.projects.revoke(actor, found.id, answers["words"])


_ACTS: Final[Mapping[str, Act]] = {
    "approve": _approve,
    "ask": _ask,
    "refuse": _refuse,
    "revoke": _revoke,
    "stop": lambda office, actor, found, answers, _: office.runs.stop(
        actor, found.id, answers["words"]
    ),
    "submit": lambda office, actor, found, _, __: office.projects.submit(actor, found.id),
    "start": lambda office, actor, found, _, __: office.runs.start(
        actor, found.id, f"run-{len(found.runs) + 1}"
    ),
    "pause": lambda office, actor, found, _, __: office.runs.pause(actor, found.id),
    "resume": lambda office, actor, found, _, __: office.runs.resume(actor, found.id),
}
_DONE: Final = {
    "approve": "approved",
    "ask": "asked",
    "refuse": "refused",
    "revoke": "revoked",
    "stop": "stopped",
    "submit": "submitted",
    "start": "started",
    "pause": "paused",
    "resume": "resumed",
}
