# SPDX-License-Identifier: Apache-2.0
"""Grants on datasets, and requests for them."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import Request, RequestDraft
from consilium.governance.access import Actor, Decision
from consilium.governance.grants import Grant, Wanted


@final
class Grants:
    """Who may use which dataset, for what, until when."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def give(self, actor: Actor, grant: Grant) -> Grant:
        """Keeps a grant; its id and giver are filled in."""
        raise NotImplementedError

    def revoke(self, actor: Actor, grant: str, reason: str) -> Grant:
        """Ends a grant."""
        raise NotImplementedError

    def of_dataset(self, actor: Actor, dataset: str) -> tuple[Grant, ...]:
        """Returns all on a dataset."""
        raise NotImplementedError

    def own(self, actor: Actor) -> tuple[Grant, ...]:
        """Returns the actor's, alone and in groups."""
        raise NotImplementedError

    def allows(self, actor: Actor, wanted: Wanted) -> Decision:
        """Returns whether the actor's grants cover this now."""
        raise NotImplementedError

    def ask(self, actor: Actor, draft: RequestDraft) -> Request:
        """Keeps a request."""
        raise NotImplementedError

    def requests(self, actor: Actor) -> tuple[Request, ...]:
        """Returns those that the actor may see, newest first."""
        raise NotImplementedError

    def decide(self, actor: Actor, request: str, *, accept: bool, answer: str) -> Request:
        """Accepts, which gives the grant, or denies."""
        raise NotImplementedError

    def withdraw(self, actor: Actor, request: str) -> Request:
        """Takes one's own request back."""
        raise NotImplementedError
