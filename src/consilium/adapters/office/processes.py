# SPDX-License-Identifier: Apache-2.0
"""Hosted training processes of an office."""

from dataclasses import replace
from typing import final

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.values import Hosted
from consilium.adapters.store.office_shelves import PROCESSES, PROJECTS, ProcessRow
from consilium.errors import AccessDenied, Conflict
from consilium.governance import hosting
from consilium.governance.access import Action, Actor, ActorKind, Decision, Resource, ResourceKind
from consilium.governance.hosting import Candidate, Cycle, Limits, ProcessState, Update
from consilium.governance.projects import APPROVED_ONCE


@final
class Processes:
    """Whom a hosted process admits and what it takes; the limits are `governance.hosting`'s."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def host(self, actor: Actor, limits: Limits, project: str) -> str:
        """Opens a process for an approved project; returns its id.

        Raises:
            Conflict: The name and version are hosted already, or the project is not approved.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.HOST_PROCESS, Resource(kind=ResourceKind.PROCESS))
            state = PROJECTS.get(turn.connection, project).state
            if state not in APPROVED_ONCE:
                raise Conflict(f"the project is {state}; expected every office's yes before it")
            called = f"{limits.name}/{limits.version}"
            if PROCESSES.having(turn.connection, "name", called):
                raise Conflict(f"{called} is hosted; expected another version")
            row = ProcessRow(id=self._desk.new_id(), project=project, limits=limits, cycle=Cycle())
            PROCESSES.add(turn.connection, row.id, row)
            turn.note({"name": limits.name, "version": limits.version}, about=row.id)
        return row.id

    def hosted(self, actor: Actor) -> tuple[Hosted, ...]:
        """Returns every process and where it stands."""
        with self._desk.looking(actor) as turn:
            resource = Resource(kind=ResourceKind.PROCESS, id=turn.actor.project or "")
            turn.allow(Action.SEE_PROCESS, resource)
            rows = PROCESSES.where(turn.connection)
        return tuple(
            Hosted(id=row.id, project=row.project, limits=row.limits, cycle=row.cycle)
            for row in rows
        )

    def join(self, actor: Actor, process: str, candidate: Candidate) -> Decision:
        """Admits a site to the cycle, or says why not."""
        with self._desk.acting(actor) as turn:
            row = self._joined(turn, process, candidate.site)
            decision = hosting.join(row.limits, row.cycle, candidate)
            if decision.allowed:
                cycle = hosting.joined(row.limits, row.cycle, candidate.site, turn.now)
                PROCESSES.put(turn.connection, process, replace(row, cycle=cycle))
            turn.note({"site": candidate.site, "reason": decision.reason})
        return decision

    def hand_in(self, actor: Actor, process: str, update: Update) -> Decision:
        """Counts an update, or says why not; ends the cycle if it is over."""
        with self._desk.acting(actor) as turn:
            row = self._joined(turn, process, update.site)
            limits, cycle = row.limits, row.cycle
            decision = hosting.receive(limits, cycle, update, turn.now)
            cycle = hosting.received(cycle, update.site) if decision.allowed else cycle
            if hosting.close(limits, cycle, turn.now).allowed:
                cycle = hosting.next_cycle(limits, cycle)
            PROCESSES.put(turn.connection, process, replace(row, cycle=cycle))
            turn.note({"site": update.site, "cycle": update.cycle, "reason": decision.reason})
        return decision

    def close(self, actor: Actor, process: str) -> None:
        """Ends a process."""
        with self._desk.acting(actor) as turn:
            row = PROCESSES.get(turn.connection, process)
            turn.allow(Action.CLOSE_PROCESS, Resource(kind=ResourceKind.PROCESS, id=process))
            ended = replace(row.cycle, state=ProcessState.ENDED)
            PROCESSES.put(turn.connection, process, replace(row, cycle=ended))
            turn.note()

    def _joined(self, turn: Turn, process: str, site: str) -> ProcessRow:
        """Returns the process, once the actor is known to be that site, or to speak for it."""
        row = PROCESSES.get(turn.connection, process)
        turn.allow(Action.JOIN_PROCESS, Resource(kind=ResourceKind.PROCESS, id=row.project))
        if site != (turn.actor.office if turn.actor.kind is ActorKind.OFFICE else turn.actor.id):
            raise AccessDenied(f"{turn.actor.name} is not site {site!r}; expected its own name")
        return row
