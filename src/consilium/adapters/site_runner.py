# SPDX-License-Identifier: Apache-2.0
"""Drives a site's state machine: bytes in, bytes out; computes, pays and fetches randomness.

Every engine uses this one driver at its sites. It has no rule of its own.
"""

from dataclasses import dataclass
from typing import Final, final

from consilium import wire
from consilium.adapters.randomness import Source, operating_system
from consilium.federation.contribution import Trainee, contribute
from consilium.federation.ledger import Ledger
from consilium.federation.messages import FROM_COORDINATOR
from consilium.federation.site import (
    Charged,
    Command,
    Compute,
    Computed,
    Event,
    Outside,
    Pay,
    Received,
    SiteTerms,
    Start,
    State,
    Tell,
    step,
)
from consilium.federation.traffic import largest_to_site

_MOST_SITES: Final = 10_000  # where no secure sum says how many there are


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParts:
    """What a site brings to a run: its terms, its records, its ledger, its randomness."""

    terms: SiteTerms
    trainee: Trainee
    ledger: Ledger
    source: Source = operating_system


@final
class SiteRunner:
    """One site in one session. Not thread-safe: one call at a time."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts
        self._state: State = Outside(parts.terms)
        sites = _MOST_SITES if parts.terms.job is None else len(parts.terms.job.identities)
        self._limit = largest_to_site(parts.terms.job, sites, parts.terms.dimension)

    def start(self) -> list[bytes]:
        """Returns the site's first messages."""
        return self._run(Start(self._parts.source()))

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers to one message of the coordinator.

        Raises:
            ProtocolError: The message breaks a rule; the site's state is as before.
            BudgetExceeded: The answer is not paid for; nothing leaves.
        """
        message = wire.decode(data, FROM_COORDINATOR, limit=self._limit)
        return self._run(Received(message, self._parts.source()))

    def _run(self, event: Event) -> list[bytes]:
        self._state, commands = step(self._state, event)
        said: list[bytes] = []
        for command in commands:
            said += self._obey(command)
        return said

    def _obey(self, command: Command) -> list[bytes]:
        match command:
            case Tell(message):
                return [wire.encode(message)]
            case Compute(assignment):
                secret = self._parts.source()
                vector = contribute(self._parts.trainee, self._parts.terms.work, assignment, secret)
                return self._run(Computed(assignment.round, vector))
            case Pay(charge):
                receipt = self._parts.ledger.append(charge)
                return self._run(Charged(charge.round, receipt, self._parts.source()))
