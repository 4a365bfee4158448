# SPDX-License-Identifier: Apache-2.0
"""A project's rows: read together as one `Case`, moved by the table of states, shown as a view."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import final

from sqlalchemy import Connection

from consilium.adapters.office.desk import Turn
from consilium.adapters.office.ending import return_holds
from consilium.adapters.office.settings import policy_of
from consilium.adapters.office.terms import software
from consilium.adapters.office.values import ProjectView, Review, Run, SiteDecision
from consilium.adapters.store.office_shelves import (
    DECISIONS,
    PROJECTS,
    REVIEWS,
    REVISIONS,
    RUNS,
    DecisionRow,
    ProjectRow,
    ReviewRow,
    RevisionRow,
    RunRow,
)
from consilium.errors import NotFound
from consilium.governance.access import Resource, ResourceKind
from consilium.governance.contract import (
    Conditions,
    Contract,
    SignerRole,
    Verdict,
    contract_digest,
    fingerprint,
    read_contract,
    site_digest,
)
from consilium.governance.policy import refusals
from consilium.governance.projects import OVER, TURNS, Event, next_state


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Everything that this office holds of a project, at its present revision.

    Attributes:
        row: Where it stands.
        contract: Its terms.
        reviews: That stand: of the present terms, here.
        decisions: That stand, of every office, by office.
        asked: The researcher's last word.
        runs: So far.
    """

    row: ProjectRow
    contract: Contract
    reviews: tuple[ReviewRow, ...]
    decisions: dict[str, DecisionRow]
    asked: DecisionRow | None
    runs: tuple[RunRow, ...]

    def conditions(self) -> Conditions:
        """Returns the tightest of what this office's reviewers asked for."""
        yes = [one.conditions for one in self.reviews if one.verdict == Verdict.APPROVE]
        expires = [one.expires for one in yes if one.expires is not None]
        runs = [one.max_runs for one in yes if one.max_runs is not None]
        return Conditions(
            expires=min(expires, default=None),
            max_runs=min(runs, default=None),
            reviewers=max((one.reviewers for one in yes), default=1),
            note="\n".join(one.note for one in yes if one.note),
        )

    def expires(self) -> datetime:
        """Returns when nothing more is charged."""
        own = self.conditions().expires
        return self.contract.expires if own is None else min(own, self.contract.expires)

    def max_runs(self) -> int:
        """Returns how often it may be trained."""
        own = self.conditions().max_runs
        return self.contract.max_runs if own is None else min(own, self.contract.max_runs)

    def everybody_approved(self) -> bool:
        """Returns whether every site of the contract said yes to its present terms."""
        said = {office: one.signature.verdict for office, one in self.decisions.items()}
        return all(said.get(site) is Verdict.APPROVE for site in self.contract.datasets)

    def _offices(self) -> set[str]:
        return {self.row.from_office, *self.contract.datasets}

    def resource(self) -> Resource:
        """Returns what a decision about it depends on."""
        return Resource(
            kind=ResourceKind.PROJECT,
            id=self.row.id,
            author=self.row.author,
            people=self.row.people | {f"office:{one}" for one in self._offices()},
            subject=self.row.paused_by,
            state=self.row.state,
        )


def revision_name(project: str, number: int) -> str:
    """Returns the id of a revision's row."""
    return f"{project}:{number}"


def terms_for(contract: Contract, office: str) -> bytes:
    """Returns the digest that an office's word is about: its own part, where it takes part."""
    return (
        site_digest(contract, office) if office in contract.datasets else contract_digest(contract)
    )


def load(connection: Connection, project: str, office: str) -> Case:
    """Returns the project with this id, or the last one of this name.

    Raises:
        NotFound: There is none.
    """
    row = PROJECTS.peek(connection, project)
    if row is None:
        named = PROJECTS.having(connection, "name", project)
        if not named:
            raise NotFound(f"there is no project {project!r} here; expected one that is listed")
        row = named[-1]
    return case_of(connection, row, office)


def case_of(connection: Connection, row: ProjectRow, office: str) -> Case:
    """Returns everything about a project."""
    revision = REVISIONS.get(connection, revision_name(row.id, row.revision))
    contract = read_contract(revision.contract)
    own = terms_for(contract, office)
    said = DECISIONS.having(connection, "project", row.id)
    return Case(
        row=row,
        contract=contract,
        reviews=tuple(
            one for one in REVIEWS.having(connection, "project", row.id) if one.terms == own
        ),
        decisions={
            one.signature.office: one
            for one in said
            if one.signature.role is SignerRole.STEWARD
            and one.signature.office in contract.datasets
            and one.terms == site_digest(contract, one.signature.office)
        },
        asked=next((one for one in said if one.signature.role is SignerRole.RESEARCHER), None),
        runs=tuple(RUNS.having(connection, "project", row.id)),
    )


def all_cases(connection: Connection, office: str) -> list[Case]:
    """Returns every project, newest first."""
    return [case_of(connection, row, office) for row in reversed(PROJECTS.where(connection))]


def revision_row(turn: Turn, project: str, number: int) -> RevisionRow:
    """Returns one version of a contract."""
    return REVISIONS.get(turn.connection, revision_name(project, number))


def move(turn: Turn, case: Case, event: Event, **changes: object) -> Case:
    """Returns the project after `event`, written down.

    Raises:
        Conflict: The table lists no such step.
    """
    state = next_state(case.row.state, event)
    row = replace(case.row, state=state, since=turn.now, version=case.row.version + 1)
    row = replace(row, **changes)  # type: ignore[arg-type]  # names of its own fields
    PROJECTS.put(turn.connection, row.id, row)
    if state in OVER:
        return_holds(turn, row.id, row.last_words)
    return replace(case, row=row)


def done(
    turn: Turn,
    case: Case,
    facts: dict[str, object] | None = None,
    *,
    about: str | None = None,
) -> ProjectView:
    """Notes what was done, in the log, and returns the project as it is now."""
    said = {"state": str(case.row.state), "project": case.row.name, **(facts or {})}
    turn.note(said, about=about)
    return view(turn.connection, case_of(turn.connection, case.row, turn.office), turn.now)


def view(connection: Connection, case: Case, now: datetime) -> ProjectView:
    """Returns a project for people and programs."""
    row, contract = case.row, case.contract
    return ProjectView(
        id=row.id,
        name=row.name,
        revision=row.revision,
        version=row.version,
        state=row.state,
        turn=TURNS[row.state],
        since=row.since,
        author=row.author,
        author_name=row.author_name,
        from_office=row.from_office,
        contract=contract,
        digest=contract_digest(contract).hex(),
        words=fingerprint(contract),
        refusals=all_refusals(connection, contract, now),
        conditions=case.conditions(),
        expires=case.expires(),
        max_runs=case.max_runs(),
        runs=tuple(_run(one) for one in case.runs),
        decisions=tuple(_decision(case, site) for site in sorted(contract.datasets)),
        last_words=row.last_words,
        paused_by=row.paused_by,
    )


def all_refusals(connection: Connection, contract: Contract, now: datetime) -> tuple[str, ...]:
    """Returns why this office would not run `contract`, whoever approved it."""
    reasons = refusals(policy_of(connection), contract, now)
    wanted, found = contract.software.get("consilium", "none"), software()["consilium"]
    if wanted != found:
        return (*reasons, f"it was made for consilium {wanted}; {found} runs here")
    return reasons


def review_view(row: ReviewRow, *, stands: bool) -> Review:
    """Returns a review for people."""
    return Review(
        reviewer=row.reviewer,
        reviewer_name=row.reviewer_name,
        verdict=Verdict(row.verdict),
        words=row.words,
        conditions=row.conditions,
        time=row.time,
        stands=stands,
    )


def _run(row: RunRow) -> Run:
    return Run(name=row.name, began=row.began, ended=row.ended, outcome=row.outcome)


def _decision(case: Case, site: str) -> SiteDecision:
    found = case.decisions.get(site)
    if found is None:
        return SiteDecision(site=site, verdict=None, person="", words="", time=None)
    said = found.signature
    return SiteDecision(
        site=site, verdict=said.verdict, person=said.person, words=said.words, time=said.time
    )
