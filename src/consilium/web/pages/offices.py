# SPDX-License-Identifier: Apache-2.0
"""The office itself: other sites, the log, the rules, how it is, the first run."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import LogFilter, LogReport, Page, Settings
from consilium.errors import AccessDenied, ConfigError, NotFound
from consilium.governance.access import Action, Actor, ResourceKind
from consilium.governance.association import Association, AssociationState
from consilium.governance.policy import PRESETS, Policy
from consilium.governance.six_words import key_words
from consilium.web import formats
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.pages import reading
from consilium.web.pages.office_views import (
    HealthLine,
    HealthView,
    SettingsView,
    SiteLine,
    SitesView,
)
from consilium.web.pages.parts import Fact, Field, Form, Kind, Link, Notice, Option, Tag, Tone
from consilium.web.pages.showing import Answers, Posted, may, page, see_other, show, take
from consilium.web.pages.views import ActionView, LogView, Task, TasksView

router = APIRouter(include_in_schema=False)
_ASSOCIATION_TAGS: Final = {
    AssociationState.ASKED: Tag("asked by us", Tone.WAIT),
    AssociationState.RECEIVED: Tag("asks us", Tone.WAIT),
    AssociationState.ACCEPTED: Tag("associated", Tone.GOOD),
    AssociationState.REFUSED: Tag("refused", Tone.STOP),
    AssociationState.REVOKED: Tag("disconnected", Tone.STOP),
}
_PRESETS: Final = {
    "strict": "Strict: federated-dp alone, two reviewers, epsilon 3 a run, 4 a dataset.",
    "standard": "Standard: private arms, one reviewer, epsilon 8 a run and a dataset.",
    "demo": "Demo: as standard, with many runs. Not for patients' data.",
}

# -- Sites ----------------------------------------------------------------------------


@page(router, "/sites")
def sites(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows other offices, and those that ask."""
    known = office.associations.all(actor)
    own = office.settings.facts()
    asking = [one for one in known if one.state is AssociationState.RECEIVED]
    others = [one for one in known if one.state is not AssociationState.RECEIVED]
    decides = may(actor, Action.DECIDE_ASSOCIATION, ResourceKind.ASSOCIATION)
    view = SitesView(
        own_name=own.name,
        own_fingerprint=tuple(key_words(own.name, own.key).split()),
        asking=tuple(_site_line(one, decides=decides) for one in asking),
        sites=tuple(_site_line(one, decides=decides) for one in others),
        actions=(),
        cli="",
    )
    return show(request, actor, view)


def _site_line(one: Association, *, decides: bool) -> SiteLine:
    steps = {
        AssociationState.RECEIVED: (("Accept", "accept"), ("Refuse", "refuse")),
        AssociationState.ASKED: (("Accept", "accept"),),
        AssociationState.ACCEPTED: (("Disconnect", "disconnect"),),
    }.get(one.state, ())
    return SiteLine(
        id=one.id,
        name=f"{one.name} ({one.kind})",
        state=_ASSOCIATION_TAGS[one.state],
        fingerprint=tuple(one.words().split()),
        since=one.since,
        reason=one.reason,
        actions=tuple(Link(text, f"/sites/{one.id}/{word}") for text, word in steps if decides),
    )


def _site_view(one: Association, step: str) -> ActionView:
    back = Link("Back", "/sites")
    words = Field(
        name="words",
        label="Type the six words that they read to you",
        hint="Call them on a number that you know. Do not copy the words from this page.",
    )
    if step == "accept":
        return ActionView(
            kind="Sites",
            title=f"Accept {one.name}",
            cli="",
            happens=("Its projects and cards can come here; every project is still decided on.",),
            form=Form(
                action=f"/sites/{one.id}/accept", submit="Accept", back=back, fields=(words,)
            ),
        )
    if step == "refuse":
        return ActionView(
            kind="Sites",
            title=f"Refuse {one.name}",
            cli="",
            form=Form(action=f"/sites/{one.id}/refuse", submit="Refuse", back=back, fields=()),
        )
    return ActionView(
        kind="Sites",
        title=f"Disconnect {one.name}",
        cli="",
        happens=("Nothing of that office is taken any more.", "Runs with it stop here."),
        stays=("It can only come back by a new request.",),
        told=("Nobody: tell them yourself",),
        form=Form(
            action=f"/sites/{one.id}/disconnect",
            submit="Disconnect",
            tone=Tone.STOP,
            back=back,
            fields=(
                Field(name="reason", label="Why?", kind=Kind.LINES),
                Field(name="confirm", label="Type its name to confirm", hint=one.name),
            ),
        ),
    )


def _association(office: Office, actor: Actor, identity: str) -> Association:
    for one in office.associations.all(actor):
        if one.id == identity:
            return one
    raise NotFound("no such office is known here; expected one of the list of sites")


@page(router, "/sites/{site}/{step}")
def ask_for_step(
    request: Request, actor: CurrentActor, office: TheOffice, site: str, step: str
) -> Response:
    """Shows the form of a step."""
    return show(request, actor, _site_view(_association(office, actor, site), step))


@router.post("/sites/{site}/{step}", response_model=None)
def take_step(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Accepts, refuses or disconnects an office."""
    one = _association(office, actor, request.path_params["site"])
    step = request.path_params["step"]
    view = _site_view(one, step)

    def act() -> Response:
        if step == "disconnect":
            office.associations.revoke(actor, one.id, answers["reason"])
        elif one.state is AssociationState.ASKED:
            office.associations.confirm(actor, one.id, words=answers["words"])
        else:
            office.associations.answer(
                actor, one.id, accept=step == "accept", words=answers.get("words", "")
            )
        return see_other("/sites", done="saved")

    if answers.get("confirm") != one.name:
        answers.pop("confirm", None)
    return act() if not view.form.fields else take(request, actor, view, answers, act)


# -- Log ------------------------------------------------------------------------------


class _Which(BaseModel):
    """Which entries, as an address says it."""

    action: str = ""
    outcome: str = ""
    before: int | None = None


@page(router, "/log")
def log(
    request: Request,
    actor: CurrentActor,
    office: TheOffice,
    which: Annotated[_Which, Query()],
) -> Response:
    """Shows the log, newest first."""
    return show(request, actor, _log_view(office, actor, None, which))


def _log_view(
    office: Office,
    actor: Actor,
    report: LogReport | None,
    which: _Which,
) -> LogView:
    action, outcome = which.action, which.outcome
    wanted = LogFilter(action=action or None, outcome=outcome or None)
    entries = office.log.latest(actor, wanted, Page(beyond=which.before))
    newest = office.log.latest(actor, LogFilter(), Page(most=1))
    older = (
        f"/log?action={action}&outcome={outcome}&before={entries[-1].sequence}" if entries else ""
    )
    return LogView(
        entries=tuple(reading.log_line(one) for one in entries),
        total=newest[0].sequence if newest else 0,
        filters=_filters(action, outcome),
        checked=None if report is None else _report(report),
        witness="" if report is None else _witness(report),
        older=Link("Older entries", older) if len(entries) == Page().most else None,
        can_verify=may(actor, Action.VERIFY_LOG, ResourceKind.LOG),
        can_export=may(actor, Action.EXPORT_LOG, ResourceKind.LOG),
        cli="consilium log show",
    )


def _filters(action: str, outcome: str) -> Form:
    return Form(
        action="/log",
        method="get",
        submit="Filter",
        fields=(
            Field(
                name="action",
                label="Action",
                hint="As it stands below an entry: approve-project.",
                value=action if action.replace("-", "").isalnum() else "",
                required=False,
            ),
            Field(
                name="outcome",
                label="Outcome",
                hint="done or denied",
                value=outcome if outcome in {"done", "denied"} else "",
                required=False,
            ),
        ),
    )


def _report(report: LogReport) -> Notice:
    if report.intact:
        checked = formats.plural(report.entries, "entry").replace("entrys", "entries")
        return Notice(Tone.GOOD, "The chain is intact.", f"Checked: {checked}. {_witness(report)}")
    found = "; ".join(str(one) for one in report.findings[:5])
    return Notice(Tone.STOP, "The log was changed.", found)


def _witness(report: LogReport) -> str:
    if report.witness is None:
        return "No other office has signed it yet."
    return f"Last signed by {report.witness}, entry {report.witnessed}, {report.witnessed_at}."


@router.post("/log/verify", response_model=None)
def verify(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Checks the chain and shows what was found."""
    return show(request, actor, _log_view(office, actor, office.log.verify(actor), _Which()))


@router.get("/log/export", response_model=None)
def export(actor: CurrentActor, office: TheOffice) -> Response:
    """Hands out the whole log as JSON lines."""
    headers = {"Content-Disposition": 'attachment; filename="log.jsonl"'}
    return Response(office.log.export(actor), media_type="application/jsonl", headers=headers)


# -- Settings -------------------------------------------------------------------------


@page(router, "/settings")
def settings(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows the rules of this office."""
    present, own = office.settings.get(actor), office.settings.facts()
    edit = may(actor, Action.EDIT_SETTINGS, ResourceKind.OFFICE)
    view = SettingsView(
        facts=(
            Fact("Office", own.name, own.kind),
            Fact("Title", present.title),
            Fact("Signed out after", formats.plural(present.idle_minutes, "minute"), "of no use"),
            *_rules(present.policy),
        ),
        form=None,
        actions=(Link("Change the rules", "/settings/rules"),) if edit else (),
        cli="",
    )
    return show(request, actor, view)


def _rules(policy: Policy) -> tuple[Fact, ...]:
    private = "every project must have one" if policy.needs_guarantee else "not needed"
    return (
        Fact("Rules", policy.preset),
        Fact("Arms that may run", ", ".join(policy.arms)),
        Fact("Differential privacy", private),
        Fact("Epsilon of a run", f"at most {policy.largest_epsilon:g}"),
        Fact("Delta of a run", f"at most {formats.delta(policy.largest_delta)}"),
        Fact("Hospitals in a project", f"at least {policy.fewest_sites}"),
        Fact("Secure sum", policy.secure_sum),
        Fact("People who must approve", formats.count(policy.reviewers)),
        Fact("A project lasts", f"at most {policy.longest_days} days"),
        Fact("Runs of a project", f"at most {policy.most_runs}"),
        Fact(
            "Cap of a new dataset",
            f"epsilon {policy.dataset_cap:g} at delta {formats.delta(policy.dataset_delta)}",
        ),
    )


def _rules_view(present: Settings) -> ActionView:
    return ActionView(
        kind="Settings",
        title="Change the rules",
        cli="",
        happens=("They hold for every decision from now on; what is approved stays approved.",),
        form=Form(
            action="/settings/rules",
            submit="Change the rules",
            back=Link("Back", "/settings"),
            fields=(
                Field(
                    name="preset",
                    label="Rules",
                    kind=Kind.CHOICE,
                    value=present.policy.preset,
                    options=tuple(
                        Option(value=name, text=name.capitalize(), hint=words)
                        for name, words in _PRESETS.items()
                    ),
                ),
                Field(name="title", label="Title of these pages", value=present.title),
                Field(
                    name="idle",
                    label="Sign out after",
                    kind=Kind.NUMBER,
                    unit="minutes of no use",
                    step="1",
                    value=str(present.idle_minutes),
                ),
            ),
        ),
    )


@page(router, "/settings/rules")
def rules(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows the form by which rules change."""
    return show(request, actor, _rules_view(office.settings.get(actor)))


@router.post("/settings/rules", response_model=None)
def change_rules(
    request: Request, actor: CurrentActor, office: TheOffice, answers: Posted
) -> Response:
    """Changes the rules."""
    present = office.settings.get(actor)

    def act() -> Response:
        office.settings.change(actor, _changed(present, answers))
        return see_other("/settings", done="saved")

    return take(request, actor, _rules_view(present), answers, act)


def _changed(present: Settings, answers: Answers) -> Settings:
    preset = answers["preset"]
    policy = present.policy if preset == present.policy.preset else PRESETS.get(preset)
    if policy is None or not answers["idle"].isdecimal():
        raise ConfigError("preset or idle: expected rules and minutes of the form")
    return Settings(
        policy=policy,
        title=answers["title"],
        idle_minutes=int(answers["idle"]),
        version=present.version,
    )


# -- First run, health ----------------------------------------------------------------


@page(router, "/setup")
def setup(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Shows what is left to do in a new office."""
    datasets = [one for one in office.datasets.search(actor) if one.office == office.desk.name]
    others = office.associations.all(actor)
    people = _others(office, actor)
    steps = (
        ("Your account", "It is the owner's; no password existed before.", "/account", True),
        ("Rules", "Strict, standard or demo.", "/settings/rules", bool(datasets)),
        ("People", "A second person, so that a cap can ever be raised.", "/people/new", people),
        ("First dataset", "Where the data lie.", "/datasets/new", bool(datasets)),
        ("Other offices", "Who asks, and who is associated.", "/sites", bool(others)),
        ("Health", "Database, log, clock.", "/health", False),
    )
    view = TasksView(
        title=f"Set up {office.desk.name}",
        lead="You can leave and come back; what is done stays done.",
        tasks=tuple(
            Task(name, hint, href, Tag("done", Tone.GOOD) if done else Tag("to do"))
            for name, hint, href, done in steps
        ),
        cli="",
        done=True,
    )
    return show(request, actor, view)


def _others(office: Office, actor: Actor) -> bool:
    try:
        return len(office.people.find(actor)) > 1
    except AccessDenied:
        return False


@page(router, "/health")
def health(request: Request, actor: CurrentActor, office: TheOffice) -> Response:
    """Looks at the office now: log, clock, other offices."""
    report = office.log.verify(actor)
    others = office.associations.all(actor)
    accepted = sum(one.state is AssociationState.ACCEPTED for one in others)
    asking = sum(one.state is AssociationState.RECEIVED for one in others)
    view = HealthView(
        looked=office.desk.clock(),
        lines=(
            HealthLine(
                "Log",
                Tag("intact", Tone.GOOD) if report.intact else Tag("changed", Tone.STOP),
                _report(report).text,
                "" if report.intact else "Keep this machine as it is and call the other offices.",
            ),
            HealthLine(
                "Witness",
                Tag("signed", Tone.GOOD) if report.witness else Tag("none yet", Tone.WAIT),
                _witness(report),
                "" if report.witness else "Associate another office: it signs the log's end.",
            ),
            HealthLine(
                "Other offices",
                Tag("associated", Tone.GOOD) if accepted else Tag("alone", Tone.WAIT),
                f"{accepted} associated, {asking} asking",
            ),
        ),
        cli="consilium log verify",
    )
    return show(request, actor, view)
