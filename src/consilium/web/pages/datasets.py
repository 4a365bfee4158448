# SPDX-License-Identifier: Apache-2.0
"""Datasets of this office: registered, shown with their budget, capped, frozen, granted."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, time
from typing import Final

from fastapi import APIRouter, Request, Response

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import NewDataset
from consilium.errors import AccessDenied, ConfigError, NotFound
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.catalogue import Dataset, DatasetState
from consilium.governance.decisions import decide
from consilium.governance.grants import Grant, ReleaseKind
from consilium.web import formats
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.pages import budgets, dataset_forms
from consilium.web.pages.parts import Fact, Link, Tag, Tone
from consilium.web.pages.showing import (
    Answers,
    Posted,
    may,
    number,
    page,
    see_other,
    show,
    take,
)
from consilium.web.pages.views import (
    ActionView,
    DatasetLine,
    DatasetsView,
    DatasetView,
    GrantLine,
)

router = APIRouter(include_in_schema=False)
_TAGS: Final = {
    DatasetState.REGISTERED: Tag("open", Tone.GOOD),
    DatasetState.FROZEN: Tag("frozen", Tone.INFORM),
    DatasetState.WITHDRAWN: Tag("withdrawn", Tone.STOP),
}
_STEPS: Final = (
    (Action.LOWER_CAP, "Lower the cap", "cap"),
    (Action.PROPOSE_RAISE, "Raise the cap", "raise"),
    (Action.FREEZE_DATASET, "Freeze", "freeze"),
    (Action.GIVE_GRANT, "Make a grant", "grant"),
    (Action.WITHDRAW_DATASET, "Withdraw", "withdraw"),
)

# -- Lists ----------------------------------------------------------------------------


@page(router, "/datasets")
def datasets(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Lists this office's datasets with what is spent of each."""
    own = [one for one in office.datasets.search(actor) if one.office == office.desk.name]
    register = may(actor, Action.REGISTER_DATASET, ResourceKind.DATASET)
    view = DatasetsView(
        datasets=tuple(_line(office, actor, one) for one in own),
        actions=(Link("Register a dataset", "/datasets/new"),) if register else (),
        cli="consilium dataset list",
    )
    return show(request, actor, view)


def _line(office: Office, actor: Actor, one: Dataset) -> DatasetLine:
    budget = budgets.budget_of(office, actor, one)
    return DatasetLine(
        id=one.id,
        name=one.name,
        size=one.size(),
        unit=one.unit,
        delta=budget.delta if budget else None,
        used=budget.used if budget else None,
        cap=budget.cap if budget else None,
        state=_TAGS[one.state],
        tags=one.tags,
    )


@page(router, "/datasets/new")
def new_dataset(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows the form by which a dataset is registered."""
    policy = office.settings.get(actor).policy
    return show(request, actor, dataset_forms.register_view(policy.dataset_cap))


@router.post("/datasets/new", response_model=None)
def register(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Registers a dataset."""
    view = dataset_forms.register_view(office.settings.get(actor).policy.dataset_cap)

    def act() -> Response:
        made = office.datasets.register(
            actor,
            NewDataset(
                name=answers["name"],
                folder=answers["folder"],
                description=answers["description"],
                tags=tuple(part.strip() for part in answers.get("tags", "").split(",") if part),
                cap=number(answers, "cap") if answers.get("cap") else None,
            ),
        )
        return see_other(f"/datasets/{made.id}", done="registered")

    return take(request, actor, view, answers, act)


# -- One dataset ----------------------------------------------------------------------


@page(router, "/datasets/{dataset}")
def dataset(request: Request, actor: CurrentActor, office: TheOffice, dataset: str) -> Response:
    """Shows what a dataset is, its budget, and who may use it."""
    one = office.datasets.get(actor, dataset)
    view = DatasetView(
        id=one.id,
        title=one.name,
        state=_TAGS[one.state],
        description=one.description,
        facts=facts_of(one),
        tags=one.tags,
        budget=budgets.budget_of(office, actor, one),
        grants=_grants(office, actor, one),
        actions=_actions(actor, one, office),
        cli=f"consilium ledger show {one.name}",
    )
    return show(request, actor, view)


def facts_of(one: Dataset) -> tuple[Fact, ...]:
    """Returns what a card says, as a list."""
    noise = f"with noise, at the price of epsilon {formats.epsilon(one.count_epsilon)}"
    return (
        Fact("Held by", one.office),
        Fact("Size", one.size(), f"about {formats.count(one.noisy_patients)}, {noise}"),
        Fact("Task", one.task),
        Fact("Privacy unit", one.unit),
        Fact("Classes", ", ".join(one.classes) or "none"),
        *((Fact("Columns", ", ".join(one.features)),) if one.features else ()),
        Fact("Shape of a record", " x ".join(str(side) for side in one.shape) or "a row"),
        Fact("Registered", f"{one.registered:%Y-%m-%d}"),
        Fact("Fingerprint", one.fingerprint),
    )


def _actions(actor: Actor, one: Dataset, office: Office) -> tuple[Link, ...]:
    if one.office != office.desk.name:
        return ()
    resource = Resource(kind=ResourceKind.DATASET, id=one.id, dataset=one.id, state=one.state)
    return tuple(
        Link("Unfreeze" if word == "raise" and frozen(one) else text, f"/datasets/{one.id}/{word}")
        for action, text, word in _STEPS
        if decide(actor, action, resource).allowed and not (word == "freeze" and frozen(one))
    )


def frozen(one: Dataset) -> bool:
    """Returns whether nothing new is charged to it."""
    return one.state is DatasetState.FROZEN


def _grants(office: Office, actor: Actor, one: Dataset) -> tuple[GrantLine, ...]:
    try:
        grants = office.grants.of_dataset(actor, one.id)
        names = _names(office, actor)
    except AccessDenied:
        return ()
    return tuple(_grant_line(grant, names, office.desk.clock()) for grant in grants)


def _names(office: Office, actor: Actor) -> dict[str, str]:
    people = {one.id: one.name for one in office.people.find(actor)}
    return people | {one.id: f"Group {one.name}" for one in office.roles.groups(actor)}


def _grant_line(grant: Grant, names: Mapping[str, str], now: datetime) -> GrantLine:
    ended = Tag("expired") if grant.expires <= now else Tag("in force", Tone.GOOD)
    return GrantLine(
        id=grant.id,
        who=names.get(grant.holder, grant.holder),
        what=", ".join(sorted(grant.kinds)),
        purpose=", ".join(sorted(grant.purposes)) or "any approved purpose",
        epsilon=grant.epsilon_cap,
        until=grant.expires.date(),
        state=Tag("revoked", Tone.STOP) if grant.revoked else ended,
    )


# -- Steps ----------------------------------------------------------------------------


def _views(office: Office, actor: Actor, one: Dataset) -> Mapping[str, Callable[[], ActionView]]:
    return {
        "cap": lambda: dataset_forms.cap_view(one),
        "raise": lambda: dataset_forms.raise_view(one, unfreeze=frozen(one)),
        "freeze": lambda: dataset_forms.freeze_view(one),
        "withdraw": lambda: dataset_forms.withdraw_view(one),
        "grant": lambda: dataset_forms.grant_view(one, _names(office, actor)),
    }


@page(router, "/datasets/{dataset}/{step}")
def ask_for_step(
    request: Request, actor: CurrentActor, office: TheOffice, dataset: str, step: str
) -> Response:
    """Shows the form of a step."""
    return show(request, actor, _view_of(office, actor, dataset, step))


def _view_of(office: Office, actor: Actor, dataset: str, step: str) -> ActionView:
    known = _views(office, actor, office.datasets.get(actor, dataset))
    if step not in known:
        raise NotFound(f"no step {step!r} of a dataset; expected one of {', '.join(known)}")
    return known[step]()


@router.post("/datasets/{dataset}/{step}", response_model=None)
def take_step(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Takes a step, and goes back to the dataset."""
    dataset, step = request.path_params["dataset"], request.path_params["step"]
    view = _view_of(office, actor, dataset, step)
    one = office.datasets.get(actor, dataset)

    def act() -> Response:
        _ACTS[step](office, actor, one, answers)
        return see_other(f"/datasets/{one.id}", done=_DONE[step])

    return take(request, actor, view, answers, act)


Act = Callable[[Office, Actor, Dataset, Answers], object]


def _propose(office: Office, actor: Actor, one: Dataset, answers: Answers) -> object:
    epsilon = None if frozen(one) else number(answers, "epsilon")
    return office.datasets.propose(actor, one.id, epsilon, answers["reason"])


def _withdraw(office: Office, actor: Actor, one: Dataset, answers: Answers) -> object:
    if answers["confirm"] != one.name:
        raise ConfigError(f"confirm: expected the name as it stands here, {one.name}")
    return office.datasets.withdraw(actor, one.id, answers["reason"])


def _give(office: Office, actor: Actor, one: Dataset, answers: Answers) -> object:
    day = answers["until"]
    try:
        until = datetime.combine(datetime.fromisoformat(day).date(), time.max, UTC)
    except ValueError:
        raise ConfigError(f"until: {day[:20]!r} is no day; expected one like 2027-03-31") from None
    purposes = frozenset(part.strip() for part in answers.get("purposes", "").split(",") if part)
    grant = Grant(
        id="",
        dataset=one.id,
        holder=answers["holder"],
        purposes=purposes,
        kinds=frozenset(ReleaseKind(kind) for kind in answers["kinds"].split(",")),
        epsilon_cap=number(answers, "epsilon_cap"),
        expires=until,
        given_by=actor.id,
    )
    return office.grants.give(actor, grant)


_ACTS: Final[Mapping[str, Act]] = {
    "cap": lambda office, actor, one, answers: office.datasets.lower_cap(
        actor, one.id, number(answers, "epsilon")
    ),
    "raise": _propose,
    "freeze": lambda office, actor, one, answers: office.datasets.freeze(
        actor, one.id, answers["reason"]
    ),
    "withdraw": _withdraw,
    "grant": _give,
}
_DONE: Final = {
    "cap": "saved",
    "raise": "proposed",
    "freeze": "frozen",
    "withdraw": "revoked",
    "grant": "saved",
}


# -- The second person ----------------------------------------------------------------


@page(router, "/datasets/{dataset}/raises/{proposal}")
def raise_of(
    request: Request, actor: CurrentActor, office: TheOffice, dataset: str, proposal: str
) -> Response:
    """Shows a proposal to the second person."""
    return show(request, actor, _confirm_view(office, actor, dataset, proposal))


def _confirm_view(office: Office, actor: Actor, dataset: str, proposal: str) -> ActionView:
    one = office.datasets.get(actor, dataset)
    for found in office.datasets.proposals(actor, dataset):
        if found.id == proposal:
            return dataset_forms.confirm_view(one, found)
    raise NotFound("no such proposal waits; expected one from the inbox")


@router.post("/datasets/{dataset}/raises/{proposal}", response_model=None)
def confirm(request: Request, actor: CurrentActor, office: TheOffice, answers: Posted) -> Response:
    """Makes another person's proposal true."""
    dataset, proposal = request.path_params["dataset"], request.path_params["proposal"]
    view = _confirm_view(office, actor, dataset, proposal)

    def act() -> Response:
        office.datasets.confirm(actor, proposal)
        return see_other(f"/datasets/{dataset}", done="saved")

    return take(request, actor, view, answers, act)
