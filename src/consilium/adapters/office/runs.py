# SPDX-License-Identifier: Apache-2.0
"""Runs of a project: begun, held, ended, reported, and stopped when their time is over."""

from dataclasses import replace
from typing import Final, final

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.ending import return_holds
from consilium.adapters.office.project_rows import Case, all_refusals, case_of, done, load, move
from consilium.adapters.office.values import ProjectView
from consilium.adapters.store.office_shelves import PROJECTS, RUNS, RunRow
from consilium.errors import AccessDenied, ConfigError, Conflict
from consilium.governance.access import Action, Actor, ActorKind
from consilium.governance.projects import TRANSITIONS, Event

_OUTCOMES: Final = {"exhausted": Event.EXHAUST, "failed": Event.FAIL, "stopped": Event.STOP}


@final
class Runs:
    """What becomes of an approved project."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def start(self, actor: Actor, project: str, run: str) -> ProjectView:
        """Begins a run.

        Raises:
            AccessDenied: It has expired, or the policy refuses it now.
            Conflict: There was a run of this name, or no more is allowed.
        """
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.START_RUN, case.resource())
            return done(turn, begin(turn, self._desk, case, run), {"run": run})

    def pause(self, actor: Actor, project: str) -> ProjectView:
        """Holds the run at its next step."""
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.PAUSE_RUN, case.resource())
            return done(turn, move(turn, case, Event.PAUSE, paused_by=turn.actor.id))

    def resume(self, actor: Actor, project: str) -> ProjectView:
        """Lets it go on."""
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.RESUME_RUN, case.resource())
            return done(turn, move(turn, case, Event.RESUME, paused_by=None))

    def stop(self, actor: Actor, project: str, reason: str) -> ProjectView:
        """Ends the run and the project."""
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.STOP_RUN, case.resource())
            self._end_runs(turn, case, "stopped")
            case = move(turn, case, Event.STOP, last_words=reason)
            return done(turn, case, {"reason": reason})

    def report(self, actor: Actor, project: str, run: str, outcome: str) -> ProjectView:
        """Says what became of a run: finished, exhausted, failed or stopped.

        Raises:
            ConfigError: The outcome is none of these.
        """
        if outcome != "finished" and outcome not in _OUTCOMES:
            raise ConfigError(f"outcome {outcome!r}; expected finished, {', '.join(_OUTCOMES)}")
        with self._desk.acting(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.REPORT_RUN, case.resource())
            last = len(case.runs) >= case.max_runs()
            event = _OUTCOMES.get(outcome, Event.FINISH if last else Event.END_RUN)
            if outcome != "failed":
                self._end_runs(turn, case, outcome)
            case = move(turn, case, event)
            return done(turn, case, {"run": run, "outcome": outcome})

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
                case = load(turn.connection, name, self._desk.name)
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
