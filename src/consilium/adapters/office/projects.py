# SPDX-License-Identifier: Apache-2.0
"""Projects of an office: drafted, submitted, reviewed, run, revoked."""

from collections.abc import Sequence
from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import Inbox, Price, ProjectDraft, ProjectView, Review, Said
from consilium.governance.access import Actor
from consilium.governance.contract import Contract
from consilium.governance.projects import State


@final
class Projects:
    """Contracts and their lives."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def draft(self, actor: Actor, draft: ProjectDraft) -> ProjectView:
        """Keeps a new project; nobody else acts on it yet."""
        raise NotImplementedError

    def edit(self, actor: Actor, project: str, draft: ProjectDraft, version: int) -> ProjectView:
        """Makes a new revision; approvals whose terms changed are void."""
        raise NotImplementedError

    def submit(self, actor: Actor, project: str) -> ProjectView:
        """Hands it to the reviewers."""
        raise NotImplementedError

    def get(self, actor: Actor, project: str) -> ProjectView:
        """Returns one, by its id or by its name."""
        raise NotImplementedError

    def find(self, actor: Actor, states: Sequence[State] = ()) -> tuple[ProjectView, ...]:
        """Returns those that the actor may see, newest first."""
        raise NotImplementedError

    def inbox(self, actor: Actor) -> Inbox:
        """Returns what waits for the actor, what runs, what was decided."""
        raise NotImplementedError

    def preview(self, actor: Actor, draft: ProjectDraft) -> Contract:
        """Returns the contract that a draft would be; keeps nothing."""
        raise NotImplementedError

    def price(self, actor: Actor, project: str) -> Price | None:
        """Returns what a run would cost this office's dataset; None: it takes no part."""
        raise NotImplementedError

    def open(self, actor: Actor, project: str) -> ProjectView:
        """Begins a review."""
        raise NotImplementedError

    def review(self, actor: Actor, project: str, said: Said) -> ProjectView:
        """Keeps one reviewer's verdict on exactly the terms with its digest.

        Raises:
            Conflict: The terms changed since they were read.
        """
        raise NotImplementedError

    def reviews(self, actor: Actor, project: str) -> tuple[Review, ...]:
        """Returns the reviews; a reviewer sees others' after their own."""
        raise NotImplementedError

    def revoke(self, actor: Actor, project: str, reason: str) -> ProjectView:
        """Ends it for good; the run stops at its next step."""
        raise NotImplementedError

    def start(self, actor: Actor, project: str, run: str) -> ProjectView:
        """Begins a run."""
        raise NotImplementedError

    def pause(self, actor: Actor, project: str) -> ProjectView:
        """Holds the run at its next step."""
        raise NotImplementedError

    def resume(self, actor: Actor, project: str) -> ProjectView:
        """Lets it go on."""
        raise NotImplementedError

    def stop(self, actor: Actor, project: str, reason: str) -> ProjectView:
        """Ends the run and the project."""
        raise NotImplementedError

    def report(self, actor: Actor, project: str, run: str, outcome: str) -> ProjectView:
        """Says what became of a run: finished, exhausted, failed."""
        raise NotImplementedError

    def difference(self, actor: Actor, project: str, before: int, after: int) -> str:
        """Returns what changed between two revisions, one setting a line."""
        raise NotImplementedError

    def export(self, actor: Actor, project: str) -> bytes:
        """Returns contract, signatures and decisions as one file for other offices."""
        raise NotImplementedError

    def take(self, actor: Actor, message: bytes) -> ProjectView:
        """Takes such a file, of a new project, a new revision or a decision.

        Raises:
            DataError: It is damaged, or its terms are not what its arm does.
            AccessDenied: A signature is forged.
        """
        raise NotImplementedError
