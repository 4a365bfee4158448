# SPDX-License-Identifier: Apache-2.0
"""Grants on datasets, and requests for them."""

from dataclasses import replace
from datetime import timedelta
from typing import final

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.values import Request, RequestDraft, RequestState
from consilium.adapters.store.office_shelves import (
    DATASETS,
    GRANTS,
    GROUPS,
    PEOPLE,
    REQUESTS,
    DatasetRow,
    RequestRow,
)
from consilium.errors import ConfigError, Conflict, NotFound
from consilium.governance.access import Action, Actor, Decision, Resource, ResourceKind
from consilium.governance.grants import Grant, Wanted, any_covers

_MOST_WORDS = 4_000


@final
class Grants:
    """Who may use which dataset, for what, until when."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def give(self, actor: Actor, grant: Grant) -> Grant:
        """Keeps a grant; its id and giver are filled in.

        Raises:
            ConfigError: It has expired already.
            NotFound: There is no such dataset or holder here.
        """
        with self._desk.acting(actor) as turn:
            dataset = _dataset(turn, self._desk, grant.dataset)
            _check_holder(turn, grant.holder)
            turn.allow(
                Action.GIVE_GRANT,
                Resource(
                    kind=ResourceKind.GRANT,
                    subject=grant.holder,
                    state=dataset.card.state,
                    dataset=grant.dataset,
                ),
            )
            kept = self._keep(turn, grant)
            turn.note(_facts(kept), about=kept.id)
        return kept

    def revoke(self, actor: Actor, grant: str, reason: str) -> Grant:
        """Ends a grant.

        Raises:
            Conflict: It was ended before.
        """
        with self._desk.acting(actor) as turn:
            old = GRANTS.get(turn.connection, grant)
            turn.allow(Action.REVOKE_GRANT, Resource(kind=ResourceKind.GRANT, id=grant))
            if old.revoked is not None:
                raise Conflict(f"the grant was revoked on {old.revoked:%Y-%m-%d}")
            ended = replace(old, revoked=turn.now)
            GRANTS.put(turn.connection, grant, ended)
            turn.note({"reason": reason, "dataset": old.dataset})
        return ended

    def of_dataset(self, actor: Actor, dataset: str) -> tuple[Grant, ...]:
        """Returns all on a dataset."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_GRANTS, Resource(kind=ResourceKind.GRANT, dataset=dataset))
            return tuple(GRANTS.having(turn.connection, "dataset", dataset))

    def own(self, actor: Actor) -> tuple[Grant, ...]:
        """Returns the actor's, alone and in groups."""
        with self._desk.looking(actor) as turn:
            return tuple(_own(turn))

    def allows(self, actor: Actor, wanted: Wanted) -> Decision:
        """Returns whether the actor's grants cover this now; whose they are is not believed."""
        with self._desk.looking(actor) as turn:
            asked = replace(wanted, holders=turn.actor.groups | {turn.actor.id})
            return any_covers(_own(turn), asked, turn.now)

    # -- Requests ---------------------------------------------------------------------

    def ask(self, actor: Actor, draft: RequestDraft) -> Request:
        """Keeps a request.

        Raises:
            ConfigError: Without a reason, or out of range.
        """
        if not 0 < len(draft.reason.strip()) <= _MOST_WORDS or not 1 <= draft.days <= 3650:
            raise ConfigError("a request without a reason, or for more than ten years")
        with self._desk.acting(actor) as turn:
            _dataset(turn, self._desk, draft.dataset)
            turn.allow(Action.MAKE_REQUEST, Resource(kind=ResourceKind.REQUEST))
            row = RequestRow(
                id=self._desk.new_id(),
                author=turn.actor.id,
                author_name=turn.actor.name,
                dataset=draft.dataset,
                reason=draft.reason,
                grant_for=Grant(
                    id="",
                    dataset=draft.dataset,
                    holder=turn.actor.id,
                    purposes=draft.purposes,
                    kinds=draft.kinds,
                    epsilon_cap=draft.epsilon_cap,
                    expires=turn.now + timedelta(days=draft.days),
                    given_by="",
                ),
                days=draft.days,
                state=RequestState.PENDING,
                made=turn.now,
            )
            REQUESTS.add(turn.connection, row.id, row)
            turn.note({"dataset": draft.dataset, "reason": draft.reason}, about=row.id)
        return _request(row)

    def requests(self, actor: Actor) -> tuple[Request, ...]:
        """Returns those that the actor may see, newest first."""
        with self._desk.looking(actor) as turn:
            rows = REQUESTS.where(turn.connection)
            seen = [row for row in rows if turn.may(Action.SEE_REQUEST, _resource(row))]
        return tuple(_request(row) for row in reversed(seen))

    def decide(self, actor: Actor, request: str, *, accept: bool, answer: str) -> Request:
        """Accepts, which gives the grant, or denies.

        Raises:
            ConfigError: A denial without a reason.
        """
        if not accept and not answer.strip():
            raise ConfigError("a denial without a reason; expected one: the author reads it")
        with self._desk.acting(actor) as turn:
            row = REQUESTS.get(turn.connection, request)
            turn.allow(Action.DECIDE_REQUEST, _resource(row))
            given = None
            if accept:
                until = turn.now + timedelta(days=row.days)
                given = self._keep(turn, replace(row.grant_for, expires=until))
            decided = replace(
                row,
                state=RequestState.ACCEPTED if accept else RequestState.DENIED,
                decided=turn.now,
                decided_by=turn.actor.id,
                answer=answer,
                grant=None if given is None else given.id,
            )
            REQUESTS.put(turn.connection, request, decided)
            turn.note({"accepted": accept, "answer": answer, "grant": decided.grant or ""})
        return _request(decided)

    def withdraw(self, actor: Actor, request: str) -> Request:
        """Takes one's own request back."""
        with self._desk.acting(actor) as turn:
            row = REQUESTS.get(turn.connection, request)
            turn.allow(Action.WITHDRAW_REQUEST, _resource(row))
            gone = replace(row, state=RequestState.WITHDRAWN, decided=turn.now)
            REQUESTS.put(turn.connection, request, gone)
            turn.note()
        return _request(gone)

    def _keep(self, turn: Turn, grant: Grant) -> Grant:
        if grant.expires <= turn.now:
            raise ConfigError(f"a grant until {grant.expires:%Y-%m-%d}; expected a later day")
        kept = replace(grant, id=self._desk.new_id(), given_by=turn.actor.id, revoked=None)
        GRANTS.add(turn.connection, kept.id, kept)
        return kept


def _own(turn: Turn) -> list[Grant]:
    holders = sorted(turn.actor.groups | {turn.actor.id})
    return [one for holder in holders for one in GRANTS.having(turn.connection, "holder", holder)]


def _dataset(turn: Turn, desk: Desk, dataset: str) -> DatasetRow:
    row = DATASETS.get(turn.connection, dataset)
    if row.card.office != desk.name:
        raise NotFound(f"dataset {row.card.name!r} is of {row.card.office}; ask there for a grant")
    return row


def _check_holder(turn: Turn, holder: str) -> None:
    if PEOPLE.peek(turn.connection, holder) is None:
        GROUPS.get(turn.connection, holder)


def _resource(row: RequestRow) -> Resource:
    return Resource(
        kind=ResourceKind.REQUEST,
        id=row.id,
        author=row.author,
        state=row.state,
        dataset=row.dataset,
    )


def _facts(grant: Grant) -> dict[str, object]:
    return {
        "dataset": grant.dataset,
        "holder": grant.holder,
        "kinds": sorted(grant.kinds),
        "epsilon_cap": grant.epsilon_cap,
        "expires": grant.expires.isoformat(),
    }


def _request(row: RequestRow) -> Request:
    wanted = row.grant_for
    return Request(
        id=row.id,
        draft=RequestDraft(
            dataset=row.dataset,
            reason=row.reason,
            purposes=wanted.purposes,
            kinds=wanted.kinds,
            epsilon_cap=wanted.epsilon_cap,
            days=row.days,
        ),
        author=row.author,
        author_name=row.author_name,
        state=RequestState(row.state),
        made=row.made,
        decided=row.decided,
        decided_by=row.decided_by,
        answer=row.answer,
        grant=row.grant,
    )
