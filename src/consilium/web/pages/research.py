# SPDX-License-Identifier: Apache-2.0
"""What a researcher does before a run: looks for datasets, asks for a grant, writes a project."""

from collections import Counter
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import ProjectDraft, RequestDraft
from consilium.errors import AccessDenied, ConfigError, ConsiliumError, NotFound
from consilium.governance.access import Actor
from consilium.governance.catalogue import Dataset
from consilium.governance.contract import Contract, Purpose
from consilium.governance.grants import ReleaseKind
from consilium.web import formats
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.pages import budgets, words
from consilium.web.pages.datasets import facts_of
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Notice, Option, Tag, Tone
from consilium.web.pages.research_views import (
    BuilderView,
    Card,
    CatalogueView,
    SitePrice,
    TagCount,
)
from consilium.web.pages.showing import (
    Answers,
    Posted,
    missing,
    number,
    page,
    see_other,
    show,
    take,
    whole,
)
from consilium.web.pages.views import ActionView, DatasetView

router = APIRouter(include_in_schema=False)
_ARM: Final = "federated-dp"

# -- Catalogue ------------------------------------------------------------------------


@page(router, "/catalogue")
def catalogue(
    request: Request, actor: CurrentActor, office: TheOffice, q: str = "", tag: str = ""
) -> Response:
    """Shows the datasets of all sites that match every word and the tag."""
    everything = office.datasets.search(actor)
    found = office.datasets.search(actor, q, (tag,) if tag else ())
    counts = Counter(name for one in everything for name in one.tags)
    view = CatalogueView(
        search=Form(
            action="/catalogue",
            method="get",
            submit="Search",
            fields=(Field(name="q", label="Words", value=q, required=False),),
        ),
        tags=tuple(
            TagCount(name, count, _search(q, "" if name == tag else name), name == tag)
            for name, count in sorted(counts.items())
        ),
        cards=tuple(_card(office, actor, one) for one in found),
        sites=len({one.office for one in everything}),
        cli="consilium dataset list --words TEXT",
    )
    return show(request, actor, view)


def _search(words_: str, tag: str) -> str:
    asked = {name: value for name, value in (("q", words_), ("tag", tag)) if value}
    return f"/catalogue?{urlencode(asked)}" if asked else "/catalogue"


def _card(office: Office, actor: Actor, one: Dataset) -> Card:
    budget = budgets.budget_of(office, actor, one)
    return Card(
        site=one.office,
        id=one.id,
        name=one.name,
        href=f"/catalogue/{one.id}",
        description=one.description,
        size=one.size(),
        task=one.task,
        tags=one.tags,
        free=words.level(budget.free, budget.cap) if budget else "",
    )


@page(router, "/catalogue/{dataset}")
def card(request: Request, actor: CurrentActor, office: TheOffice, dataset: str) -> Response:
    """Shows one card, and where to ask for a grant."""
    one = office.datasets.get(actor, dataset)
    view = DatasetView(
        id=one.id,
        title=one.name,
        state=Tag(one.state, Tone.INFORM),
        description=one.description,
        facts=facts_of(one),
        tags=one.tags,
        budget=None,
        grants=(),
        actions=(
            Link("Ask for a grant", f"/catalogue/{one.id}/ask"),
            Link("New project with it", f"/projects/new?datasets={one.id}"),
        ),
        cli=f"consilium dataset list --words {one.name}",
    )
    return show(request, actor, view)


# -- Requests -------------------------------------------------------------------------


def _ask_view(one: Dataset) -> ActionView:
    return ActionView(
        kind=f"{one.office}, {one.name}",
        title="Ask for a grant",
        cli="",
        told=(f"The data stewards of {one.office}",),
        form=Form(
            action=f"/catalogue/{one.id}/ask",
            submit="Ask",
            back=Link("Back", f"/catalogue/{one.id}"),
            fields=(
                Field(name="reason", label="What for?", kind=Kind.LINES),
                Field(
                    name="kinds",
                    label="What would leave?",
                    kind=Kind.SEVERAL,
                    value=ReleaseKind.TRAINING,
                    options=tuple(Option(value=one, text=one) for one in ReleaseKind),
                ),
                Field(
                    name="epsilon_cap",
                    label="Most that it may cost together",
                    kind=Kind.NUMBER,
                    unit=f"epsilon per {one.unit}",
                    value="1",
                ),
                Field(
                    name="days", label="For how long?", kind=Kind.NUMBER, unit="days", value="90"
                ),
            ),
        ),
    )


@page(router, "/catalogue/{dataset}/ask")
def ask(request: Request, actor: CurrentActor, office: TheOffice, dataset: str) -> Response:
    """Shows the form of a request."""
    return show(request, actor, _ask_view(office.datasets.get(actor, dataset)))


@router.post("/catalogue/{dataset}/ask", response_model=None)
def asked(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Sends a request."""
    one = office.datasets.get(actor, request.path_params["dataset"])

    def act() -> Response:
        draft = RequestDraft(
            dataset=one.id,
            reason=answers["reason"],
            kinds=frozenset(ReleaseKind(kind) for kind in answers["kinds"].split(",")),
            epsilon_cap=number(answers, "epsilon_cap"),
            days=whole(answers, "days", 90),
        )
        office.grants.ask(actor, draft)
        return see_other(f"/catalogue/{one.id}", done="asked")

    return take(request, actor, _ask_view(one), answers, act)


def _request_view(office: Office, actor: Actor, identity: str) -> ActionView:
    for one in office.grants.requests(actor):
        if one.id == identity:
            break
    else:
        raise NotFound("no such request; expected one from the inbox")
    dataset, draft = office.datasets.get(actor, one.draft.dataset), one.draft
    return ActionView(
        kind=f"Request for {dataset.name}",
        title=f"{one.author_name} asks for a grant",
        cli="",
        facts=(
            Fact("Reason", draft.reason),
            Fact("Purposes", ", ".join(sorted(draft.purposes)) or "any approved purpose"),
            Fact("What may leave", ", ".join(sorted(draft.kinds))),
            Fact("Cap", f"epsilon {draft.epsilon_cap:g} per {dataset.unit} for all together"),
            Fact("For", formats.plural(draft.days, "day")),
            Fact("State", one.state, one.answer),
        ),
        form=Form(
            action=f"/requests/{one.id}",
            submit="Decide",
            back=Link("Back to the inbox", "/inbox"),
            fields=(
                Field(
                    name="decision",
                    label="Your decision",
                    kind=Kind.CHOICE,
                    options=(
                        Option(value="accept", text="Accept: make this grant"),
                        Option(value="deny", text="Deny"),
                    ),
                ),
                Field(name="answer", label="Your answer", kind=Kind.LINES, required=False),
            ),
        ),
    )


@page(router, "/requests/{identity}")
def request_(request: Request, actor: CurrentActor, office: TheOffice, identity: str) -> Response:
    """Shows a request to who decides on it."""
    return show(request, actor, _request_view(office, actor, identity))


@router.post("/requests/{identity}", response_model=None)
def decide_request(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Accepts or denies a request."""
    identity = request.path_params["identity"]

    def act() -> Response:
        accept = answers["decision"] == "accept"
        office.grants.decide(actor, identity, accept=accept, answer=answers.get("answer", ""))
        return see_other("/inbox", done="saved")

    return take(request, actor, _request_view(office, actor, identity), answers, act)


# -- Project builder ------------------------------------------------------------------


def _builder_form(office: Office, actor: Actor, chosen: str = "") -> Form:
    return Form(
        action="/projects/new",
        submit="Work out the price",
        back=Link("Projects", "/projects"),
        fields=(
            Field(name="purpose", label="What for, in plain words?", kind=Kind.LINES),
            Field(name="ethics", label="Ethics reference", required=False),
            Field(
                name="codes",
                label="Data use codes",
                hint="Of the Data Use Ontology, separated by commas.",
                required=False,
            ),
            Field(
                name="datasets",
                label="On whose data?",
                kind=Kind.SEVERAL,
                value=chosen,
                options=tuple(
                    Option(value=one.id, text=f"{one.office}: {one.name}", hint=one.size())
                    for one in office.datasets.search(actor)
                )
                or (Option(value="", text="No dataset is known here yet"),),
            ),
            Field(
                name="toml",
                label="Project file",
                kind=Kind.LINES,
                hint="Model, rounds and the guarantee. docs/project-file.md says what may stand "
                "there; a recipe is a good start.",
            ),
            Field(name="arm", label="Arm", value=_ARM),
            Field(name="days", label="Ends after", kind=Kind.NUMBER, unit="days", value="90"),
            Field(name="max_runs", label="Runs", kind=Kind.NUMBER, step="1", value="1"),
            Field(
                name="step",
                label="And then?",
                kind=Kind.CHOICE,
                value="price",
                options=(
                    Option(value="price", text="Only show me the price"),
                    Option(value="keep", text="Keep it as a draft"),
                ),
            ),
        ),
    )


@page(router, "/projects/new")
def builder(
    request: Request, actor: CurrentActor, office: TheOffice, datasets: str = ""
) -> Response:
    """Shows an empty project."""
    form = _builder_form(office, actor, datasets)
    return show(request, actor, _builder(form))


def _builder(
    form: Form,
    prices: tuple[SitePrice, ...] = (),
    total: tuple[Fact, ...] = (),
    problem: Notice | None = None,
) -> BuilderView:
    return BuilderView(
        form=form,
        prices=prices,
        total=total,
        problem=problem,
        cli="consilium project submit PROJECT.toml",
    )


@router.post("/projects/new", response_model=None)
def build(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Shows the price at each site, or keeps the draft."""
    form = _builder_form(office, actor)
    errors = missing(ActionView(title="", form=form, cli=""), answers)
    if errors:
        return show(request, actor, _builder(form.with_answers(answers, errors)), 422)
    form = form.with_answers(answers, {})
    try:
        draft = _draft(office, actor, answers)
        if answers["step"] == "keep":
            kept = office.projects.draft(actor, draft)
            return see_other(f"/projects/{kept.id}", done="saved")
        contract = office.projects.preview(actor, draft)
    except AccessDenied:
        raise
    except ConsiliumError as error:
        problem = Notice(Tone.STOP, "This project cannot be made as it is.", str(error))
        return show(request, actor, _builder(form, problem=problem), 422)
    return show(request, actor, _builder(form, *_priced(office, actor, contract)))


def _draft(office: Office, actor: Actor, answers: Answers) -> ProjectDraft:
    chosen = [office.datasets.get(actor, one) for one in answers["datasets"].split(",")]
    if len({one.office for one in chosen}) < len(chosen):
        raise ConfigError("datasets: two of one site were chosen; expected one of each")
    codes = tuple(part.strip() for part in answers.get("codes", "").split(",") if part.strip())
    return ProjectDraft(
        toml=answers["toml"],
        arm=answers["arm"],
        datasets={one.office: one.name for one in chosen},
        purpose=Purpose(text=answers["purpose"], ethics=answers.get("ethics", ""), codes=codes),
        days=whole(answers, "days", 90),
        max_runs=whole(answers, "max_runs", 1),
    )


def _priced(
    office: Office, actor: Actor, contract: Contract
) -> tuple[tuple[SitePrice, ...], tuple[Fact, ...]]:
    """Returns what a run costs each site: what every budget would pay, composed by its owner."""
    promised = contract.guarantee
    if promised is None:
        return (), (Fact("Guarantee", "none: no hospital with the usual rules allows it"),)
    del office, actor
    prices = tuple(
        SitePrice(
            site=site,
            dataset=bound.dataset,
            epsilon=promised.epsilon_participant,
            delta=promised.delta,
            unit=promised.unit,
        )
        for site, bound in sorted(contract.datasets.items())
    )
    runs = formats.plural(contract.max_runs, "run")
    return prices, (
        Fact("Steps of a run", formats.count(promised.steps)),
        Fact("Runs", runs, "each has its own price"),
        Fact("Epsilon against outsiders", formats.epsilon(promised.epsilon)),
    )
