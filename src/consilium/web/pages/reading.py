# SPDX-License-Identifier: Apache-2.0
"""From an office's values to views: nothing is decided, priced or added up here.

What may be shown was decided by the service that returned a value; which buttons stand on a page
follows `decide`, and pressing one asks the service again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from consilium.adapters.office.values import (
    ProjectView,
    Raise,
    Request,
    RequestState,
    Review,
    SiteDecision,
)
from consilium.adapters.store.ledger_views import Price
from consilium.federation.arms import ARMS
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.association import Association, AssociationState
from consilium.governance.audit_log import Entry
from consilium.governance.contract import Contract, Guarantee, Verdict
from consilium.governance.decisions import decide
from consilium.governance.projects import State, Turn
from consilium.web import formats
from consilium.web.pages import views, words
from consilium.web.pages.log_words import sentence
from consilium.web.pages.parts import Fact, Link, Tag, Tone

_TONES: Final[Mapping[State, Tone]] = {
    State.DRAFT: Tone.QUIET,
    State.SUBMITTED: Tone.WAIT,
    State.UNDER_REVIEW: Tone.WAIT,
    State.NEEDS_CHANGES: Tone.WAIT,
    State.APPROVED: Tone.GOOD,
    State.REFUSED: Tone.STOP,
    State.READY: Tone.GOOD,
    State.RUNNING: Tone.GOOD,
    State.PAUSED: Tone.WAIT,
    State.FINISHED: Tone.INFORM,
    State.STOPPED: Tone.STOP,
    State.REVOKED: Tone.STOP,
    State.FAILED: Tone.STOP,
}
_TURNS: Final[Mapping[Turn, str]] = {
    Turn.AUTHOR: "It is the author's turn",
    Turn.STEWARD: "It waits for a decision of this office",
    Turn.OTHERS: "The other offices are deciding",
    Turn.MACHINE: "The run is under way",
    Turn.NOBODY: "Nobody needs to do anything",
}
_DECIDING: Final = (
    (Action.APPROVE_PROJECT, "Approve", "approve"),
    (Action.ASK_ABOUT_PROJECT, "Ask a question", "ask"),
    (Action.REFUSE_PROJECT, "Refuse", "refuse"),
    (Action.SUBMIT_PROJECT, "Submit", "submit"),
    (Action.START_RUN, "Start the run", "start"),
    (Action.REVOKE_PROJECT, "Revoke", "revoke"),
)

# -- Projects -------------------------------------------------------------------------


def state_tag(state: State) -> Tag:
    """Returns the state of a project as a tag."""
    return Tag(state.replace("-", " "), _TONES[state])


def resource_of(project: ProjectView) -> Resource:
    """Returns what decisions on a project depend on."""
    return Resource(
        kind=ResourceKind.PROJECT,
        id=project.id,
        author=project.author,
        state=project.state,
        subject=project.paused_by,
    )


def project_actions(project: ProjectView, actor: Actor) -> tuple[Link, ...]:
    """Returns what the actor may do with a project now."""
    resource = resource_of(project)
    return tuple(
        Link(text, f"/projects/{project.id}/{word}")
        for action, text, word in _DECIDING
        if decide(actor, action, resource).allowed
    )


def what_leaves(contract: Contract) -> tuple[str, ...]:
    """Returns everything that leaves a hospital under a contract, as a literal list.

    Guarantees: an arm without noise is said to be one; nothing is left out that its protocol
    sends.
    """
    arm = ARMS.get(contract.arm)
    if arm is None or contract.kind != "training":
        return (f"what the kind {contract.kind!r} of release sends; read the parameters",)
    if not arm.federated:
        return ("all records: they would be brought together in one place",)
    steps = contract.guarantee.steps if contract.guarantee else _rounds(contract)
    noisy = "noisy" if arm.private else "noiseless"
    masked = "masked" if _sums_securely(contract) else "unmasked"
    runs = "" if contract.max_runs == 1 else f" in each of up to {contract.max_runs} runs"
    made = "sums of clipped gradients" if arm.private else "sums of changes of the model"
    return (
        f"{formats.plural(steps, f'{noisy}, {masked} vector')}{runs}, one a round: {made}",
        "encrypted shares of one-time mask keys, one set a round; they hold no data",
        "one signed public key a run",
        "the number of training records, once",
    )


def what_stays(contract: Contract) -> tuple[str, ...]:
    """Returns what never leaves under a contract; nothing where that would be untrue."""
    arm = ARMS.get(contract.arm)
    if arm is None or not arm.federated:
        return ()
    return (
        "Images, rows and labels",
        "Names and other identifiers of patients",
        "Which patients were drawn in a round, and how many",
        "The gradient of any single patient",
        "Secret keys, and this hospital's ledger",
    )


def _sums_securely(contract: Contract) -> bool:
    sites = contract.project.get("sites")
    return isinstance(sites, dict) and sites.get("secure_sum", "on") == "on"


def _rounds(contract: Contract) -> int:
    training = contract.project.get("training")
    rounds = training.get("rounds") if isinstance(training, dict) else None
    return rounds if isinstance(rounds, int) else 1


def parameters(contract: Contract) -> tuple[Fact, ...]:
    """Returns the arm, the guarantee and every setting, in the order of the project file."""
    arm = ARMS.get(contract.arm)
    first = Fact("Arm", contract.arm, arm.sentence if arm else "unknown to this version")
    promised = contract.guarantee
    return (
        first,
        *(_promised(promised) if promised else (Fact("Guarantee", "none: nothing is promised"),)),
        *(Fact(name, value) for name, value in _settings(contract.project, "")),
        *(Fact(f"Version of {name}", version) for name, version in contract.software.items()),
    )


def _promised(promised: Guarantee) -> tuple[Fact, ...]:
    at = f"at delta {formats.delta(promised.delta)} per {promised.unit}, {promised.accountant}"
    return (
        Fact("Epsilon against outsiders", formats.epsilon(promised.epsilon), at),
        Fact("Epsilon against curious sites", formats.epsilon(promised.epsilon_participant), at),
        Fact("Neighbouring relation", promised.neighbouring_relation),
        Fact("Most steps of a run", formats.count(promised.steps)),
    )


def _settings(table: Mapping[str, object], under: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _settings(value, f"{under}{name}.")
        elif value is not None:
            found.append((f"{under}{name}", _in_words(value)))
    return found


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value) or "none"
    return str(value)


def price_view(price: Price, dataset: str, unit: str) -> views.Price:
    """Returns a price as pages show it."""
    return views.Price(
        dataset=dataset,
        patients=price.patients,
        unit=unit,
        delta=price.delta,
        alone=price.alone,
        before=price.before,
        after=price.after,
        cap=price.cap,
        fits=price.fits,
        left_out=price.exhausted,
    )


def checks(project: ProjectView) -> tuple[views.Check, ...]:
    """Returns the review card: what holds, what the policy refuses, what to look at."""
    contract = project.contract
    arm = ARMS.get(contract.arm)
    private = contract.guarantee is not None and arm is not None and arm.private
    sites = formats.words(len(contract.datasets), "hospital")
    return (
        views.Check(passed=True, text="No foreign code runs here"),
        views.Check(
            passed=private,
            text="Differential privacy is on" if private else "Differential privacy is off",
        ),
        views.Check(
            passed=_sums_securely(contract),
            text=f"Secure sum over {sites}"
            if _sums_securely(contract)
            else "The secure sum is off: the coordinator would see this hospital's update",
        ),
        *(
            views.Check(passed=False, text=f"Against the rules here: {one}")
            for one in project.refusals
        ),
    )


def request_view(
    project: ProjectView, prices: tuple[views.Price, ...], now: datetime
) -> views.Request:
    """Returns a waiting project for the inbox."""
    contract = project.contract
    names = ", ".join(sorted({one.dataset for one in contract.datasets.values()}))
    steps = contract.guarantee.steps if contract.guarantee else _rounds(contract)
    return views.Request(
        id=project.id,
        name=project.name,
        author=author_line(project),
        since=project.since,
        waiting=words.since(project.since, now),
        wants=f"Wants {names} for {contract.kind}: {formats.plural(steps, 'round')} of "
        f"{contract.arm}.",
        prices=prices,
        checks=checks(project),
    )


def decided_view(project: ProjectView) -> views.Decided:
    """Returns a decided project for the inbox."""
    return views.Decided(
        id=project.id,
        name=project.name,
        state=state_tag(project.state),
        by=project.author_name,
        when=project.since,
        reason=project.last_words,
    )


def asks(
    requests: Iterable[Request], raises: Iterable[Raise], offices: Iterable[Association]
) -> tuple[Link, ...]:
    """Returns what waits besides projects."""
    grants = (
        Link(
            f"{one.author_name} asks for a grant: {_short(one.draft.reason)}", f"/requests/{one.id}"
        )
        for one in requests
        if one.state is RequestState.PENDING
    )
    caps = (
        Link(
            f"{one.proposed_by_name} proposes "
            + ("to unfreeze a dataset" if one.epsilon is None else f"a cap of {one.epsilon:g}")
            + f": {_short(one.reason)}",
            f"/datasets/{one.dataset}/raises/{one.id}",
        )
        for one in raises
    )
    others = (
        Link(f"{one.name} asks to be associated", "/sites")
        for one in offices
        if one.state is AssociationState.RECEIVED
    )
    return (*grants, *caps, *others)


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def conditions(project: ProjectView, now: datetime) -> tuple[Fact, ...]:
    """Returns the limits that hold here: the contract's, or this office's where tighter."""
    note = project.conditions.note
    return (
        Fact(
            "Ends",
            f"{project.expires:%Y-%m-%d}",
            words.expires(project.expires.date(), now.date()),
        ),
        Fact("Runs", f"at most {project.max_runs}", f"{len(project.runs)} so far"),
        Fact("Reviewers", formats.words(project.conditions.reviewers, "person")),
        *((Fact("Note", note),) if note else ()),
    )


def signatures(
    decisions: Sequence[SiteDecision], reviews: Sequence[Review]
) -> tuple[views.Decided, ...]:
    """Returns what offices and reviewers said, and who has not answered."""
    offices = (
        views.Decided(
            id=one.site,
            name=one.site,
            state=verdict_tag(one.verdict),
            by=one.person or "nobody yet",
            when=one.time,
            reason=one.words,
        )
        for one in decisions
    )
    people = (
        views.Decided(
            id=one.reviewer,
            name=one.reviewer_name,
            state=verdict_tag(one.verdict) if one.stands else Tag("void: it was edited"),
            by="a reviewer here",
            when=one.time,
            reason=one.words,
        )
        for one in reviews
    )
    return (*offices, *people)


def verdict_tag(verdict: Verdict | None) -> Tag:
    """Returns a verdict as a tag."""
    if verdict is None:
        return Tag("not yet", Tone.WAIT)
    return {
        Verdict.APPROVE: Tag("approved", Tone.GOOD),
        Verdict.ASK: Tag("asked", Tone.WAIT),
        Verdict.REFUSE: Tag("refused", Tone.STOP),
        Verdict.REVOKE: Tag("revoked", Tone.STOP),
    }[verdict]


def turn_words(project: ProjectView) -> str:
    """Returns whose turn it is, in a sentence without its stop."""
    return _TURNS[project.turn]


def people_of(contract: Contract) -> tuple[views.Person, ...]:
    """Returns who is named, and the beginning of each one's key."""
    return tuple(
        views.Person(
            name=one.name,
            role="author" if place == 0 else "may use the results",
            organisation=one.office,
            key=f"ed25519 {one.key[:16]}",
        )
        for place, one in enumerate(contract.people)
    )


def author_line(project: ProjectView) -> str:
    """Returns who wrote a project, and where; another office's delivery names it already."""
    if project.author_name.endswith(f"({project.from_office})"):
        return project.author_name
    return f"{project.author_name}, {project.from_office}"


# -- Log ------------------------------------------------------------------------------


def log_line(entry: Entry) -> views.LogLine:
    """Returns an entry for people."""
    return views.LogLine(
        sequence=entry.sequence,
        when=entry.time,
        sentence=sentence(entry),
        action=entry.action,
        link=entry.link.hex(),
    )
