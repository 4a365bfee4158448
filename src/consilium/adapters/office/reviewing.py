# SPDX-License-Identifier: Apache-2.0
"""What offices say of a project, and what follows from it: signed words, counted yeses.

Guarantees: a yes is for the digest that the reviewer read; a contract against the policy cannot
be approved, by anybody; a yes counts as long as its terms stand, whatever else is edited.
"""

from datetime import datetime

from sqlalchemy import Connection

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.project_rows import Case, all_refusals, case_of, move, terms_for
from consilium.adapters.office.settings import policy_of
from consilium.adapters.office.values import UNCONDITIONAL, Said
from consilium.adapters.store.office_shelves import DECISIONS, REVIEWS, DecisionRow, ReviewRow
from consilium.errors import AccessDenied, ConfigError, Conflict
from consilium.governance.access import Action
from consilium.governance.contract import (
    Conditions,
    Contract,
    Signature,
    SignerRole,
    Verdict,
    contract_digest,
    sign,
)
from consilium.governance.projects import Event, State

ACTIONS = {
    Verdict.APPROVE: Action.APPROVE_PROJECT,
    Verdict.ASK: Action.ASK_ABOUT_PROJECT,
    Verdict.REFUSE: Action.REFUSE_PROJECT,
}
_EVENTS = {Verdict.ASK: Event.ASK, Verdict.REFUSE: Event.REFUSE}


def review(turn: Turn, desk: Desk, case: Case, said: Said) -> Case:
    """Returns the project after one reviewer's word; the caller has decided that they may.

    Raises:
        Conflict: The terms are not those that were read, or the reviewer has spoken.
        AccessDenied: The policy refuses the contract.
        ConfigError: Words are missing, or conditions are wider than the contract.
    """
    _check_said(turn, case, said)
    row = ReviewRow(
        id=desk.new_id(),
        project=case.row.id,
        revision=case.row.revision,
        terms=terms_for(case.contract, desk.name),
        reviewer=turn.actor.id,
        reviewer_name=turn.actor.name,
        verdict=str(said.verdict),
        words=said.words,
        conditions=said.conditions,
        time=turn.now,
    )
    if case.row.state is State.SUBMITTED:
        case = move(turn, case, Event.OPEN)
    REVIEWS.add(turn.connection, row.id, row)
    case = case_of(turn.connection, case.row, desk.name)
    event = _EVENTS.get(said.verdict)
    if event is None:
        return settle(turn, desk, case)
    state_words(turn, desk, case, said.verdict, said.words)
    return move(turn, case, event, last_words=said.words)


def _check_said(turn: Turn, case: Case, said: Said) -> None:
    digest = contract_digest(case.contract).hex()
    if said.digest != digest:
        raise Conflict(
            f"the terms are {digest[:12]} now; you read {said.digest[:12]}: read the difference"
        )
    if any(one.reviewer == turn.actor.id for one in case.reviews):
        raise Conflict(f"{turn.actor.name} has spoken on these terms; expected another reviewer")
    if said.verdict is Verdict.REVOKE:
        raise ConfigError("a review approves, asks or refuses; to take a yes back, revoke")
    if said.verdict is not Verdict.APPROVE and not said.words.strip():
        raise ConfigError(f"{said.verdict} without words; expected a question or a reason")
    if said.verdict is Verdict.APPROVE:
        _check_approvable(turn.connection, case.contract, turn.now)
        _check_conditions(case.contract, said.conditions, turn.now)


def _check_approvable(connection: Connection, contract: Contract, now: datetime) -> None:
    reasons = all_refusals(connection, contract, now)
    if reasons:
        raise AccessDenied(
            f"contract {contract.name!r} is against this office's policy: {'; '.join(reasons)}; "
            "expected a contract within it: nobody can approve this one"
        )


def _check_conditions(contract: Contract, asked: Conditions, now: datetime) -> None:
    if asked.expires is not None and not now < asked.expires <= contract.expires:
        raise ConfigError(f"a condition until {asked.expires}; expected before {contract.expires}")
    if asked.max_runs is not None and asked.max_runs > contract.max_runs:
        raise ConfigError(f"{asked.max_runs} runs; the contract has {contract.max_runs}")


def settle(turn: Turn, desk: Desk, case: Case) -> Case:
    """Returns the project after everything that follows by itself: enough yeses, everybody's."""
    if case.row.state in (State.SUBMITTED, State.UNDER_REVIEW) and _enough(turn, desk, case):
        if case.row.state is State.SUBMITTED:
            case = move(turn, case, Event.OPEN)
        case = move(turn, case, Event.APPROVE)
        if desk.name in case.contract.datasets:
            state_words(turn, desk, case, Verdict.APPROVE, case.conditions().note)
            case = case_of(turn.connection, case.row, desk.name)
    if case.row.state is State.APPROVED and case.everybody_approved():
        case = move(turn, case, Event.ALL_APPROVED)
    return case


def _enough(turn: Turn, desk: Desk, case: Case) -> bool:
    """Returns whether this office's own yeses suffice; one without data there needs none."""
    if all_refusals(turn.connection, case.contract, turn.now):
        return False
    if desk.name not in case.contract.datasets:
        return True
    yes = {one.reviewer for one in case.reviews if one.verdict == Verdict.APPROVE}
    needed = max(policy_of(turn.connection).reviewers, case.conditions().reviewers)
    return len(yes) >= needed


def state_words(turn: Turn, desk: Desk, case: Case, verdict: Verdict, words: str) -> None:
    """Writes this site's word on the project down, signed with the office's key."""
    conditions = case.conditions() if verdict is Verdict.APPROVE else UNCONDITIONAL
    claim = Signature(
        role=SignerRole.STEWARD,
        office=desk.name,
        person=turn.actor.name,
        verdict=verdict,
        words=words,
        conditions=conditions,
        time=turn.now,
    )
    keep_statement(turn, case, sign(case.contract, claim, desk.key))


def state_request(turn: Turn, desk: Desk, case: Case, verdict: Verdict, words: str) -> None:
    """Writes the researcher's word down, signed with the key of the office that knows them."""
    claim = Signature(
        role=SignerRole.RESEARCHER,
        office=desk.name,
        person=turn.actor.name,
        verdict=verdict,
        words=words,
        time=turn.now,
    )
    keep_statement(turn, case, sign(case.contract, claim, desk.key))


def keep_statement(turn: Turn, case: Case, said: Signature) -> None:
    """Writes a checked word down; it takes the place of the one before, of the same office."""
    name = f"{case.row.id}:{said.role}:{said.office}"
    terms = (
        contract_digest(case.contract)
        if said.role is SignerRole.RESEARCHER
        else terms_for(case.contract, said.office)
    )
    row = DecisionRow(project=case.row.id, terms=terms, signature=said)
    if DECISIONS.peek(turn.connection, name) is None:
        DECISIONS.add(turn.connection, name, row)
    else:
        DECISIONS.put(turn.connection, name, row)
