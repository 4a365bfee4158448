# SPDX-License-Identifier: Apache-2.0
"""Hosted training processes of an office."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.governance.access import Actor, Decision
from consilium.governance.hosting import Candidate, Cycle, Limits, Update


@final
class Processes:
    """Whom a hosted process admits and what it takes; the limits are `governance.hosting`'s."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def host(self, actor: Actor, limits: Limits, project: str) -> str:
        """Opens a process for an approved project; returns its id.

        Raises:
            Conflict: The name and version are hosted already.
        """
        raise NotImplementedError

    def hosted(self, actor: Actor) -> tuple[tuple[str, Limits, Cycle], ...]:
        """Returns every process with its id and where it stands."""
        raise NotImplementedError

    def join(self, actor: Actor, process: str, candidate: Candidate) -> Decision:
        """Admits a site to the cycle, or says why not."""
        raise NotImplementedError

    def hand_in(self, actor: Actor, process: str, update: Update) -> Decision:
        """Counts an update, or says why not; ends the cycle if it is over."""
        raise NotImplementedError

    def close(self, actor: Actor, process: str) -> None:
        """Ends a process."""
        raise NotImplementedError
