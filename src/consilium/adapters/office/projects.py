# SPDX-License-Identifier: Apache-2.0
"""Projects of an office: drafted, submitted, read, reviewed, revoked. Their runs: `runs.py`."""

from collections.abc import Sequence
from typing import Final, final

from consilium.adapters.office import deliveries, reviewing
from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.project_rows import (
    Case,
    all_cases,
    case_of,
    done,
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
    PersonRow,
    ProjectRow,
)
from consilium.errors import Conflict, NotFound
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.catalogue import Dataset, DatasetState
from consilium.governance.contract import Contract, Party, Verdict, difference, read_contract
from consilium.governance.projects import TURNS, Event, State
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
            return done(turn, case, {"name": row.name}, about=row.id)

    def edit(self, actor: Actor, project: str, draft: ProjectDraft, version: int) -> ProjectView:
        """Makes a new revision; approvals whose terms changed are void.

        Raises:
            Conflict: It was changed since `version`, or can no longer be edited.
        """
        with self._desk.acting(actor) as turn:
            before = load(turn.connection, project, self._desk.name)
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
            return done(turn, case, {"revision": number, "changed": changed})

    def submit(self, actor: Actor, project: str, words: str = "") -> ProjectView:
        """Hands it to the reviewers; `words` answer what was asked."""
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.SUBMIT_PROJECT, case.resource())
            state_request(turn, self._desk, case, Verdict.APPROVE, words)
            case = move(turn, case, Event.SUBMIT, last_words=words)
            case = settle(turn, self._desk, case_of(turn.connection, case.row, self._desk.name))
            return done(turn, case, {"words": words})

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
            case = load(turn.connection, project, self._desk.name)
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
            case = load(turn.connection, project, self._desk.name)
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
            case = load(turn.connection, project, self._desk.name)
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
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.OPEN_REVIEW, case.resource())
            return done(turn, move(turn, case, Event.OPEN))

    def review(self, actor: Actor, project: str, said: Said) -> ProjectView:
        """Keeps one reviewer's verdict on exactly the terms with its digest.

        Raises:
            Conflict: The terms changed since they were read, or the reviewer has spoken.
            AccessDenied: The policy refuses the contract, or the actor may not review it.
        """
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(ACTIONS.get(said.verdict, Action.APPROVE_PROJECT), case.resource())
            case = reviewing.review(turn, self._desk, case, said)
            return done(turn, case, {"digest": said.digest, "words": said.words})

    def reviews(self, actor: Actor, project: str) -> tuple[Review, ...]:
        """Returns the reviews; while one is going on, a reviewer sees others' after their own."""
        with self._desk.looking(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
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
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.REVOKE_PROJECT, case.resource())
            if turn.actor.id == case.row.author and case.asked is not None:
                state_request(turn, self._desk, case, Verdict.REVOKE, reason)
            elif self._desk.name in case.contract.datasets:
                state_words(turn, self._desk, case, Verdict.REVOKE, reason)
            case = move(turn, case, Event.REVOKE, last_words=reason)
            return done(turn, case, {"reason": reason})

    # -- Inside -----------------------------------------------------------------------

    def _seen(self, turn: Turn) -> list[Case]:
        cases = all_cases(turn.connection, self._desk.name)
        return [case for case in cases if turn.may(Action.SEE_PROJECT, case.resource())]

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
