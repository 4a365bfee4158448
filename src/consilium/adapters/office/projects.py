# SPDX-License-Identifier: Apache-2.0
"""Projects of an office: drafted, submitted, reviewed, run, revoked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, final

from consilium.adapters.office import deliveries, reviewing
from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.ending import return_holds
from consilium.adapters.office.project_rows import (
    Case,
    all_refusals,
    case_of,
    load,
    move,
    review_view,
    revision_row,
    terms_for,
    view,
)
from consilium.adapters.office.reviewing import ACTIONS, settle, state_request, state_words
from consilium.adapters.office.terms import make_contract, run_step
from consilium.adapters.office.values import (
    Inbox,
    ProjectDraft,
    ProjectView,
    Review,
    Said,
)
from consilium.adapters.store import ledger_views
from consilium.adapters.store.ledger_views import Price
from consilium.adapters.store.office_shelves import (
    DATASETS,
    PEOPLE,
    PROJECTS,
    REVIEWS,
    RUNS,
    PersonRow,
    ProjectRow,
    RunRow,
)
from consilium.errors import AccessDenied, ConfigError, Conflict, NotFound
from consilium.governance.access import Action, Actor, ActorKind, Resource, ResourceKind
from consilium.governance.catalogue import Dataset, DatasetState
from consilium.governance.contract import Contract, Party, Verdict, difference, read_contract
from consilium.governance.projects import TRANSITIONS, TURNS, Event, State
from consilium.governance.projects import Turn as Whose

_IN_REVIEW: Final = (State.SUBMITTED, State.UNDER_REVIEW)
_LIVE: Final = (State.RUNNING, State.PAUSED)
_SHOWN: Final = 50  # decided projects in an inbox
_OUTCOMES: Final = {"exhausted": Event.EXHAUST, "failed": Event.FAIL, "stopped": Event.STOP}


@final
class Projects:
    """Contracts and their lives."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    # -- Writing ----------------------------------------------------------------------

    def preview(self, actor: Actor, draft: ProjectDraft) -> Contract:
        """Returns the contract that a draft would be; keeps nothing.

        Raises:
            ConfigError: The project file, its arm and the datasets do not fit together.
            NotFound: A dataset is not known here.
        """
        with self._desk.looking(actor) as turn:
            turn.allow(Action.DRAFT_PROJECT, Resource(kind=ResourceKind.PROJECT))
            return self._contract(turn, draft)[0]

    def draft(self, actor: Actor, draft: ProjectDraft) -> ProjectView:
        """Keeps a new project; nobody else acts on it yet."""
        with self._desk.acting(actor) as turn:
            turn.allow(Action.DRAFT_PROJECT, Resource(kind=ResourceKind.PROJECT))
            contract, people = self._contract(turn, draft)
            row = ProjectRow(
                id=self._desk.new_id(),
                name=contract.name,
                state=State.DRAFT,
                since=turn.now,
                revision=1,
                version=1,
                author=turn.actor.id,
                author_name=turn.actor.name,
                from_office=self._desk.name,
                people=people,
            )
            PROJECTS.add(turn.connection, row.id, row)
            deliveries.keep_revision(turn, row.id, 1, contract)
            case = case_of(turn.connection, row, self._desk.name)
            return self._done(turn, case, {"name": row.name}, about=row.id)

    def edit(self, actor: Actor, project: str, draft: ProjectDraft, version: int) -> ProjectView:
        """Makes a new revision; approvals whose terms changed are void.

        Raises:
            Conflict: It was changed since `version`, or can no longer be edited.
        """
        with self._desk.acting(actor) as turn:
            before = self._case(turn, project)
            turn.allow(Action.EDIT_PROJECT, before.resource())
            if before.row.version != version:
                raise Conflict(f"the project is at version {before.row.version}; read it again")
            contract, people = self._contract(turn, draft)
            number = before.row.revision + 1
            deliveries.keep_revision(turn, before.row.id, number, contract)
            changes = {"revision": number, "name": contract.name, "people": people}
            after = move(turn, before, Event.EDIT, **changes)
            case = case_of(turn.connection, after.row, self._desk.name)
            changed = difference(before.contract, contract)
            return self._done(turn, case, {"revision": number, "changed": changed})

    def submit(self, actor: Actor, project: str, words: str = "") -> ProjectView:
        """Hands it to the reviewers; `words` answer what was asked."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.SUBMIT_PROJECT, case.resource())
            state_request(turn, self._desk, case, Verdict.APPROVE, words)
            case = move(turn, case, Event.SUBMIT, last_words=words)
            case = settle(turn, self._desk, case_of(turn.connection, case.row, self._desk.name))
            return self._done(turn, case, {"words": words})

    def _contract(self, turn: Turn, draft: ProjectDraft) -> tuple[Contract, frozenset[str]]:
        cards = {site: self._card(turn, site, name) for site, name in draft.datasets.items()}
        author = PEOPLE.get(turn.connection, turn.actor.id)
        others = [self._person(turn, email) for email in draft.people]
        public = self._desk.public_key().hex()
        parties = tuple(
            Party(name=one.name, office=self._desk.name, key=one.key.hex() if one.key else public)
            for one in (author, *others)
        )
        contract = make_contract(draft, cards, parties, turn.now)
        return contract, frozenset(one.id for one in others)

    def _person(self, turn: Turn, email: str) -> PersonRow:
        found = PEOPLE.having(turn.connection, "email", email.casefold())
        if not found:
            raise NotFound(f"nobody here has the address {email!r}; expected a colleague's")
        return found[0]

    def _card(self, turn: Turn, site: str, name: str) -> Dataset:
        for row in DATASETS.having(turn.connection, "office", site):
            if row.card.name == name and row.card.state is DatasetState.REGISTERED:
                return row.card
        raise NotFound(f"no usable dataset {name!r} of {site!r} is known; expected one listed")

    # -- Reading ----------------------------------------------------------------------

    def get(self, actor: Actor, project: str) -> ProjectView:
        """Returns one, by its id or by its name."""
        with self._desk.looking(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.SEE_PROJECT, case.resource())
            return view(turn.connection, case, turn.now)

    def find(self, actor: Actor, states: Sequence[State] = ()) -> tuple[ProjectView, ...]:
        """Returns those that the actor may see, newest first."""
        with self._desk.looking(actor) as turn:
            cases = self._seen(turn)
            wanted = [case for case in cases if not states or case.row.state in states]
            return tuple(view(turn.connection, case, turn.now) for case in wanted)

    def inbox(self, actor: Actor) -> Inbox:
        """Returns what waits for the actor, what runs, what was decided."""
        with self._desk.looking(actor) as turn:
            cases = self._seen(turn)
            needs = [case for case in cases if self._needs(turn, case)]
            runs = [case for case in cases if case.row.state in _LIVE]
            rest = [case for case in cases if case not in needs and case not in runs]
            lists = [
                tuple(view(turn.connection, case, turn.now) for case in some)
                for some in (needs, runs, rest[:_SHOWN])
            ]
        return Inbox(needs_you=lists[0], running=lists[1], decided=lists[2])

    def price(self, actor: Actor, project: str, *, steps: int | None = None) -> Price | None:
        """Returns what a run would cost this office's dataset; None: nothing is promised or due.

        Args:
            actor: Who asks.
            project: Which.
            steps: After which it would stop; None: all that the contract allows.
        """
        with self._desk.looking(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.SEE_PROJECT, case.resource())
            return self._price(turn, case.contract, steps)

    def price_draft(self, actor: Actor, draft: ProjectDraft) -> Price | None:
        """Returns what a run under a draft would cost this office's dataset."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.DRAFT_PROJECT, Resource(kind=ResourceKind.PROJECT))
            return self._price(turn, self._contract(turn, draft)[0], None)

    def _price(self, turn: Turn, contract: Contract, steps: int | None) -> Price | None:
        card = deliveries.own_card(turn, self._desk, contract)
        step = None if card is None else run_step(contract, card)
        if card is None or step is None or contract.guarantee is None:
            return None
        most = contract.guarantee.steps
        return ledger_views.price(turn.connection, card.name, step, min(steps or most, most))

    def difference(self, actor: Actor, project: str, before: int, after: int) -> str:
        """Returns what changed between two revisions, one setting a line."""
        with self._desk.looking(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.SEE_PROJECT, case.resource())
            one, other = (
                read_contract(revision_row(turn, case.row.id, number).contract)
                for number in (before, after)
            )
        return difference(one, other)

    # -- Reviewing --------------------------------------------------------------------

    def open(self, actor: Actor, project: str) -> ProjectView:
        """Begins a review."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.OPEN_REVIEW, case.resource())
            return self._done(turn, move(turn, case, Event.OPEN))

    def review(self, actor: Actor, project: str, said: Said) -> ProjectView:
        """Keeps one reviewer's verdict on exactly the terms with its digest.

        Raises:
            Conflict: The terms changed since they were read, or the reviewer has spoken.
            AccessDenied: The policy refuses the contract, or the actor may not review it.
        """
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(ACTIONS.get(said.verdict, Action.APPROVE_PROJECT), case.resource())
            case = reviewing.review(turn, self._desk, case, said)
            return self._done(turn, case, {"digest": said.digest, "words": said.words})

    def reviews(self, actor: Actor, project: str) -> tuple[Review, ...]:
        """Returns the reviews; while one is going on, a reviewer sees others' after their own."""
        with self._desk.looking(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.SEE_REVIEWS, case.resource())
            now = terms_for(case.contract, self._desk.name)
            rows = REVIEWS.having(turn.connection, "project", case.row.id)
            own = any(one.reviewer == turn.actor.id and one.terms == now for one in rows)
            blind = case.row.state in _IN_REVIEW and not own
        return tuple(
            review_view(one, stands=one.terms == now)
            for one in rows
            if not (blind and one.terms == now)
        )

    def revoke(self, actor: Actor, project: str, reason: str) -> ProjectView:
        """Ends it for good; the run stops at its next step."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.REVOKE_PROJECT, case.resource())
            if turn.actor.id == case.row.author and case.asked is not None:
                state_request(turn, self._desk, case, Verdict.REVOKE, reason)
            elif self._desk.name in case.contract.datasets:
                state_words(turn, self._desk, case, Verdict.REVOKE, reason)
            case = move(turn, case, Event.REVOKE, last_words=reason)
            return self._done(turn, case, {"reason": reason})

    # -- Running ----------------------------------------------------------------------

    def start(self, actor: Actor, project: str, run: str) -> ProjectView:
        """Begins a run.

        Raises:
            AccessDenied: It has expired, or the policy refuses it now.
            Conflict: There was a run of this name, or no more is allowed.
        """
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.START_RUN, case.resource())
            return self._done(turn, begin(turn, self._desk, case, run), {"run": run})

    def pause(self, actor: Actor, project: str) -> ProjectView:
        """Holds the run at its next step."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.PAUSE_RUN, case.resource())
            return self._done(turn, move(turn, case, Event.PAUSE, paused_by=turn.actor.id))

    def resume(self, actor: Actor, project: str) -> ProjectView:
        """Lets it go on."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.RESUME_RUN, case.resource())
            return self._done(turn, move(turn, case, Event.RESUME, paused_by=None))

    def stop(self, actor: Actor, project: str, reason: str) -> ProjectView:
        """Ends the run and the project."""
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.STOP_RUN, case.resource())
            self._end_runs(turn, case, "stopped")
            case = move(turn, case, Event.STOP, last_words=reason)
            return self._done(turn, case, {"reason": reason})

    def report(self, actor: Actor, project: str, run: str, outcome: str) -> ProjectView:
        """Says what became of a run: finished, exhausted, failed or stopped.

        Raises:
            ConfigError: The outcome is none of these.
        """
        if outcome != "finished" and outcome not in _OUTCOMES:
            raise ConfigError(f"outcome {outcome!r}; expected finished, {', '.join(_OUTCOMES)}")
        with self._desk.acting(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.REPORT_RUN, case.resource())
            last = len(case.runs) >= case.max_runs()
            event = _OUTCOMES.get(outcome, Event.FINISH if last else Event.END_RUN)
            if outcome != "failed":
                self._end_runs(turn, case, outcome)
            case = move(turn, case, event)
            return self._done(turn, case, {"run": run, "outcome": outcome})

    def _end_runs(self, turn: Turn, case: Case, outcome: str) -> None:
        return_holds(turn, case.row.id, f"the run is {outcome}")
        for row in case.runs:
            if row.ended is None:
                RUNS.put(turn.connection, row.name, replace(row, ended=turn.now, outcome=outcome))

    def expire(self) -> int:
        """Stops every project whose time is over; returns how many. Run it now and then."""
        stopped = 0
        for name in self._expired():
            service = Actor(
                id="clock", name="the clock", office=self._desk.name, kind=ActorKind.SERVICE,
                project=name,
            )  # fmt: skip
            with self._desk.acting(service) as turn:
                case = self._case(turn, name)
                turn.allow(Action.REPORT_RUN, case.resource())
                self._end_runs(turn, case, "expired")
                turn.note({"expired": case.expires().isoformat()})
                move(turn, case, Event.EXPIRE, last_words="its time is over")
                stopped += 1
        return stopped

    def _expired(self) -> list[str]:
        with self._desk.database.reading() as connection:
            now, office = self._desk.clock(), self._desk.name
            cases = [case_of(connection, row, office) for row in PROJECTS.where(connection)]
        return [
            case.row.id
            for case in cases
            if now >= case.expires() and Event.EXPIRE in TRANSITIONS[case.row.state]
        ]

    # -- Other offices ----------------------------------------------------------------

    def export(self, actor: Actor, project: str) -> bytes:
        """Returns contract and signed words as one file for other offices.

        Raises:
            Conflict: It is a draft.
        """
        with self._desk.looking(actor) as turn:
            case = self._case(turn, project)
            turn.allow(Action.EXPORT_PROJECT, case.resource())
            return deliveries.delivery(case)

    def exports(self, actor: Actor) -> tuple[bytes, ...]:
        """Returns the files of all projects that the actor may carry, drafts left out."""
        with self._desk.looking(actor) as turn:
            cases = self._cases(turn)
            return tuple(
                deliveries.delivery(case)
                for case in cases
                if case.asked is not None and turn.may(Action.EXPORT_PROJECT, case.resource())
            )

    def take(self, actor: Actor, message: bytes) -> ProjectView:
        """Takes such a file, of a new project, a new revision or a decision.

        Raises:
            DataError: It is damaged, or its terms are not what its arm does.
            AccessDenied: A signature is forged.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.DELIVER_PROJECT, Resource(kind=ResourceKind.PROJECT))
            before = PROJECTS.peek(turn.connection, deliveries.read_delivery(message)[0].project)
            said = before and case_of(turn.connection, before, self._desk.name).decisions
            case = deliveries.take(turn, self._desk, message)
            if (before, said) == (case.row, case.decisions):
                turn.dismiss()
                return view(turn.connection, case, turn.now)
            facts = {"name": case.row.name, "revision": case.row.revision}
            return self._done(turn, case, facts, about=case.row.id)

    # -- Inside -----------------------------------------------------------------------

    def _case(self, turn: Turn, project: str) -> Case:
        return load(turn.connection, project, self._desk.name)

    def _cases(self, turn: Turn) -> list[Case]:
        rows = PROJECTS.where(turn.connection)
        return [case_of(turn.connection, row, self._desk.name) for row in reversed(rows)]

    def _seen(self, turn: Turn) -> list[Case]:
        return [case for case in self._cases(turn) if turn.may(Action.SEE_PROJECT, case.resource())]

    def _needs(self, turn: Turn, case: Case) -> bool:
        if case.row.state in _IN_REVIEW:
            spoken = any(one.reviewer == turn.actor.id for one in case.reviews)
            return not spoken and turn.may(Action.APPROVE_PROJECT, case.resource())
        return TURNS[case.row.state] is Whose.AUTHOR and case.row.author == turn.actor.id

    def _done(
        self,
        turn: Turn,
        case: Case,
        facts: dict[str, object] | None = None,
        *,
        about: str | None = None,
    ) -> ProjectView:
        said = {"state": str(case.row.state), "project": case.row.name, **(facts or {})}
        turn.note(said, about=about)
        fresh = case_of(turn.connection, case.row, self._desk.name)
        return view(turn.connection, fresh, turn.now)


def begin(turn: Turn, desk: Desk, case: Case, run: str) -> Case:
    """Returns the project with a run begun; the caller has decided that it may.

    Raises:
        AccessDenied: It has expired, or the policy refuses it now.
        Conflict: There was a run of this name, or no more is allowed.
    """
    reasons = all_refusals(turn.connection, case.contract, turn.now)
    if turn.now >= case.expires():
        reasons = (*reasons, f"it expired on {case.expires():%Y-%m-%d}")
    if reasons:
        raise AccessDenied(f"project {case.row.name!r} may not run: {'; '.join(reasons)}")
    if len(case.runs) >= case.max_runs():
        raise Conflict(f"{len(case.runs)} runs; the contract allows {case.max_runs()}")
    RUNS.add(turn.connection, run, RunRow(project=case.row.id, name=run, began=turn.now))
    return case_of(turn.connection, move(turn, case, Event.START).row, desk.name)
