# SPDX-License-Identifier: Apache-2.0
"""The tables of states: every state meets every event; the diagrams in the docs are theirs."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import Conflict
from consilium.governance.association import (
    ASSOCIATIONS,
    AssociationEvent,
    AssociationState,
    next_association_state,
)
from consilium.governance.projects import (
    OVER,
    RELEASES,
    SPENDS,
    TRANSITIONS,
    TURNS,
    Event,
    ReleaseEvent,
    ReleaseState,
    State,
    diagram,
    next_release_state,
    next_state,
    release_diagram,
)

PAGE = (Path(__file__).parents[2] / "docs/governance.md").read_text()


@pytest.mark.parametrize(("state", "event"), [*product(State, Event)])
def test_every_state_meets_every_event(state: State, event: Event) -> None:
    expected = TRANSITIONS[state].get(event)

    if expected is None:
        with pytest.raises(Conflict, match=f"{event} while {state}"):
            next_state(state, event)
    else:
        assert next_state(state, event) is expected


@pytest.mark.parametrize(("state", "event"), [*product(ReleaseState, ReleaseEvent)])
def test_every_release_state_meets_every_event(state: ReleaseState, event: ReleaseEvent) -> None:
    if event in RELEASES[state]:
        assert next_release_state(state, event) is RELEASES[state][event]
    else:
        with pytest.raises(Conflict):
            next_release_state(state, event)


@pytest.mark.parametrize(("state", "event"), [*product(AssociationState, AssociationEvent)])
def test_every_association_meets_every_event(
    state: AssociationState, event: AssociationEvent
) -> None:
    if event in ASSOCIATIONS[state]:
        assert next_association_state(state, event) is ASSOCIATIONS[state][event]
    else:
        with pytest.raises(Conflict):
            next_association_state(state, event)


@given(st.lists(st.sampled_from(Event), max_size=40))
def test_nothing_runs_that_was_not_approved_after_its_last_edit(events: list[Event]) -> None:
    state, approved = State.DRAFT, False
    for event in events:
        try:
            state = next_state(state, event)
        except Conflict:
            continue
        if event in (Event.EDIT, Event.APPROVAL_VOID):
            approved = False
        approved = approved or event is Event.ALL_APPROVED

        assert state not in SPENDS or approved


@given(st.sampled_from(sorted(OVER)), st.sampled_from(Event))
def test_an_end_is_an_end(state: State, event: Event) -> None:
    with pytest.raises(Conflict):
        next_state(state, event)


def test_everything_that_lives_can_be_revoked() -> None:
    assert all(Event.REVOKE in TRANSITIONS[state] for state in set(State) - OVER)


def test_every_state_is_somebodys_turn() -> None:
    assert set(TURNS) == set(State)


def test_a_release_takes_the_gate_and_two_people() -> None:
    state = ReleaseState.HELD
    for event in (ReleaseEvent.GATE_PASSED, ReleaseEvent.PASS, ReleaseEvent.PASS):
        state = next_release_state(state, event)

    assert state is ReleaseState.RELEASED


@pytest.mark.parametrize("drawn", [diagram(), release_diagram()])
def test_the_documents_show_the_tables(drawn: str) -> None:
    assert drawn in PAGE
