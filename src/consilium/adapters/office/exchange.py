# SPDX-License-Identifier: Apache-2.0
"""Projects as files between offices: contract and signed words, given out and taken in."""

from typing import final

from consilium.adapters.office import deliveries
from consilium.adapters.office.desk import Desk
from consilium.adapters.office.project_rows import all_cases, case_of, done, load, view
from consilium.adapters.office.values import ProjectView
from consilium.adapters.store.office_shelves import PROJECTS
from consilium.governance.access import Action, Actor, Resource, ResourceKind


@final
class Exchange:
    """What one office tells another of its projects."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def export(self, actor: Actor, project: str) -> bytes:
        """Returns contract and signed words as one file for other offices.

        Raises:
            Conflict: It is a draft.
        """
        with self._desk.looking(actor) as turn:
            case = load(turn.connection, project, self._desk.name)
            turn.allow(Action.EXPORT_PROJECT, case.resource())
            return deliveries.delivery(case)

    def export_all(self, actor: Actor) -> tuple[bytes, ...]:
        """Returns the files of all projects that the actor may carry, drafts left out."""
        with self._desk.looking(actor) as turn:
            cases = all_cases(turn.connection, self._desk.name)
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
            return done(turn, case, facts, about=case.row.id)
