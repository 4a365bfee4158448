# SPDX-License-Identifier: Apache-2.0
"""The life of a project and of a release: every state and every event, in one table each.

Each office keeps its own copy of a project in one state; what the other offices decided is a
signed decision beside it. Anything that the tables do not list raises `Conflict` and changes
nothing. The diagrams in docs/governance.md are drawn from these tables, and a test holds them.

Guarantees: nothing runs that was not approved after its last edit; an end is an end (REFUSED,
FINISHED, STOPPED, REVOKED have no way out, STOPPED and REVOKED least of all).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from consilium.errors import Conflict


class State(StrEnum):
    """Of a project, as one office sees it."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    UNDER_REVIEW = "under-review"
    NEEDS_CHANGES = "needs-changes"
    APPROVED = "approved"  # here; other offices may still be deciding
    REFUSED = "refused"
    READY = "ready"  # every required office approved
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"  # by the budget, or by a person
    REVOKED = "revoked"
    FAILED = "failed"  # can be resumed


class Event(StrEnum):
    """What happens to a project."""

    EDIT = "edit"
    SUBMIT = "submit"
    OPEN = "open"  # a reviewer begins
    ASK = "ask"
    APPROVE = "approve"  # the last approval that this office's rules ask for
    REFUSE = "refuse"
    ALL_APPROVED = "all-approved"
    APPROVAL_VOID = "approval-void"  # an office's terms changed, or it took its yes back
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"  # the last allowed run is done
    END_RUN = "end-run"  # a run is done and more are allowed
    EXHAUST = "exhaust"  # the budget pays for no further step
    STOP = "stop"
    FAIL = "fail"
    EXPIRE = "expire"
    REVOKE = "revoke"


S, E = State, Event

TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    S.DRAFT: {E.EDIT: S.DRAFT, E.SUBMIT: S.SUBMITTED, E.REVOKE: S.REVOKED},
    S.SUBMITTED: {
        E.EDIT: S.DRAFT,
        E.OPEN: S.UNDER_REVIEW,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.UNDER_REVIEW: {
        E.EDIT: S.DRAFT,
        E.ASK: S.NEEDS_CHANGES,
        E.APPROVE: S.APPROVED,
        E.REFUSE: S.REFUSED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.NEEDS_CHANGES: {
        E.EDIT: S.DRAFT,
        E.SUBMIT: S.SUBMITTED,  # an answer in words is enough
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.APPROVED: {
        E.EDIT: S.DRAFT,
        E.ASK: S.NEEDS_CHANGES,  # another office asks, or refuses
        E.ALL_APPROVED: S.READY,
        E.APPROVAL_VOID: S.SUBMITTED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.REFUSED: {},
    S.READY: {
        E.EDIT: S.DRAFT,
        E.START: S.RUNNING,
        E.APPROVAL_VOID: S.SUBMITTED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.RUNNING: {
        E.PAUSE: S.PAUSED,
        E.FINISH: S.FINISHED,
        E.END_RUN: S.READY,
        E.EXHAUST: S.STOPPED,
        E.STOP: S.STOPPED,
        E.FAIL: S.FAILED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.PAUSED: {
        E.RESUME: S.RUNNING,
        E.STOP: S.STOPPED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
    S.FINISHED: {},
    S.STOPPED: {},
    S.REVOKED: {},
    S.FAILED: {
        E.RESUME: S.RUNNING,
        E.STOP: S.STOPPED,
        E.REVOKE: S.REVOKED,
        E.EXPIRE: S.STOPPED,
    },
}


class ReleaseState(StrEnum):
    """Of something that a run wants to let out of the office."""

    HELD = "held"
    CHECKED = "checked"  # by the automatic gate
    SEEN_ONCE = "seen-once"  # one checker said yes, the other does not see it
    RELEASED = "released"
    WITHHELD = "withheld"


class ReleaseEvent(StrEnum):
    """What happens to a release."""

    GATE_PASSED = "gate-passed"
    GATE_FAILED = "gate-failed"
    PASS = "pass"  # noqa: S105 - a checker's word
    WITHHOLD = "withhold"


R, V = ReleaseState, ReleaseEvent

RELEASES: Final[Mapping[ReleaseState, Mapping[ReleaseEvent, ReleaseState]]] = {
    R.HELD: {V.GATE_PASSED: R.CHECKED, V.GATE_FAILED: R.WITHHELD, V.WITHHOLD: R.WITHHELD},
    R.CHECKED: {V.PASS: R.SEEN_ONCE, V.WITHHOLD: R.WITHHELD},
    R.SEEN_ONCE: {V.PASS: R.RELEASED, V.WITHHOLD: R.WITHHELD},
    R.RELEASED: {},
    R.WITHHELD: {},
}

OVER: Final = frozenset(state for state, ways in TRANSITIONS.items() if not ways)
SPENDS: Final = frozenset({S.RUNNING})  # states in which a charge may be made
APPROVED_ONCE: Final = frozenset({S.READY, S.RUNNING, S.PAUSED, S.FAILED})


def next_state(state: State, event: Event) -> State:
    """Returns the state after `event`.

    Raises:
        Conflict: The table lists no such step; says which steps there are.

    >>> next_state(State.READY, Event.START)
    <State.RUNNING: 'running'>
    """
    after = TRANSITIONS[state].get(event)
    if after is None:
        raise Conflict(_no_step(state, event, TRANSITIONS[state]))
    return after


def next_release_state(state: ReleaseState, event: ReleaseEvent) -> ReleaseState:
    """Returns the state of a release after `event`.

    Raises:
        Conflict: The table lists no such step.
    """
    after = RELEASES[state].get(event)
    if after is None:
        raise Conflict(_no_step(state, event, RELEASES[state]))
    return after


def _no_step(state: StrEnum, event: StrEnum, known: Mapping[Event, State] | Mapping[ReleaseEvent, ReleaseState]) -> str:  # fmt: skip  # noqa: E501
    ways = ", ".join(sorted(known)) or "nothing: this is an end"
    return f"{event} while {state}; expected {ways}: read it again, somebody may have acted before"


# -- Whose turn -----------------------------------------------------------------------


class Turn(StrEnum):
    """Who is to act next."""

    AUTHOR = "author"
    STEWARD = "steward"
    OTHERS = "other offices"
    MACHINE = "the run"
    NOBODY = "nobody"


TURNS: Final[Mapping[State, Turn]] = {
    S.DRAFT: Turn.AUTHOR,
    S.SUBMITTED: Turn.STEWARD,
    S.UNDER_REVIEW: Turn.STEWARD,
    S.NEEDS_CHANGES: Turn.AUTHOR,
    S.APPROVED: Turn.OTHERS,
    S.REFUSED: Turn.NOBODY,
    S.READY: Turn.AUTHOR,
    S.RUNNING: Turn.MACHINE,
    S.PAUSED: Turn.AUTHOR,
    S.FINISHED: Turn.NOBODY,
    S.STOPPED: Turn.NOBODY,
    S.REVOKED: Turn.NOBODY,
    S.FAILED: Turn.AUTHOR,
}


# -- For the documentation ------------------------------------------------------------


def diagram() -> str:
    """Returns the project's table as a Mermaid state diagram, one line a step."""
    return _mermaid(TRANSITIONS)


def release_diagram() -> str:
    """Returns the release's table as a Mermaid state diagram, one line a step."""
    return _mermaid(RELEASES)


def _mermaid(
    table: Mapping[State, Mapping[Event, State]]
    | Mapping[ReleaseState, Mapping[ReleaseEvent, ReleaseState]],
) -> str:
    first = next(iter(table))
    lines = ["stateDiagram-v2", f"    [*] --> {_word(first)}"]
    for state, ways in table.items():
        lines += [f"    {_word(state)} --> {_word(to)}: {event}" for event, to in ways.items()]
        if not ways:
            lines.append(f"    {_word(state)} --> [*]")
    return "\n".join(lines)


def _word(state: StrEnum) -> str:
    return state.name
