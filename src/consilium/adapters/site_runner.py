# SPDX-License-Identifier: Apache-2.0
"""Drives a site's state machine: bytes in, bytes out; computes, pays and fetches randomness.

Every engine uses this one driver at its sites. It has no rule of its own. Masks of long vectors
are expanded on other threads while the model computes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from consilium import wire
from consilium.adapters.masking import MaskExpander
from consilium.adapters.metering import Meter, Unmetered
from consilium.adapters.randomness import Source, encapsulate, operating_system
from consilium.dp.noise import Ring
from consilium.errors import ConsiliumError
from consilium.federation.contribution import Assignment, Summing, Trainee, contribute
from consilium.federation.ledger import Ledger
from consilium.federation.messages import FROM_COORDINATOR
from consilium.federation.site import (
    Charged,
    Command,
    Compute,
    Computed,
    Event,
    Expand,
    Failed,
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
from consilium.secagg.kem import Encapsulator

_MOST_SITES: Final = 10_000  # where no secure sum says how many there are


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteParts:
    """What a site brings to a run: its terms, its records, its ledger, its randomness.

    `mask_threads` expand the masks of long vectors while the model computes; `summing` adds up
    the patients drawn, where that is not done in this process; `present` leaves out, before each
    round, who takes no part in it.
    """

    terms: SiteTerms
    trainee: Trainee
    ledger: Ledger
    source: Source = operating_system
    encapsulator: Encapsulator = encapsulate
    mask_threads: int = 1
    meter: Meter = field(default_factory=Unmetered)
    summing: Summing | None = None
    present: Callable[[Trainee], Trainee] | None = None


@final
class SiteRunner:
    """One site in one session. Not thread-safe: one call at a time."""

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts
        self._masks = MaskExpander(parts.mask_threads)
        self._state: State = Outside(parts.terms)
        sites = _MOST_SITES if parts.terms.job is None else len(parts.terms.job.identities)
        self._limit = largest_to_site(parts.terms.job, sites, parts.terms.dimension)

    def start(self) -> list[bytes]:
        """Returns the site's first messages."""
        done = self._parts.ledger.last_round(self._parts.terms.terms)
        return self._run(Start(self._parts.source(), done))

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers to one message of the coordinator.

        Raises:
            ProtocolError: The message breaks a rule; the site's state is as before.
            BudgetExceeded: The answer is not paid for; nothing leaves.
        """
        message = wire.decode(data, FROM_COORDINATOR, limit=self._limit)
        parts = self._parts
        parts.meter.passed("in", type(message).__name__, len(data))
        return self._run(Received(message, parts.source(), parts.encapsulator))

    def _run(self, event: Event) -> list[bytes]:
        self._parts.meter.enters("sealing")
        self._state, commands = step(self._state, event)
        said: list[bytes] = []
        for command in commands:
            said += self._obey(command)
        self._parts.meter.enters("waiting")
        return said

    def _obey(self, command: Command) -> list[bytes]:
        match command:
            case Tell(message):
                data = wire.encode(message)
                self._parts.meter.passed("out", type(message).__name__, len(data))
                return [data]
            case Expand(keys, job):
                self._masks.begin(keys, job)
                return []
            case Compute(assignment):
                self._parts.meter.enters("computing")
                return self._run(Computed(assignment.round, self._contribution(assignment)))
            case Pay(charge):
                self._parts.meter.enters("paying")
                receipt = self._parts.ledger.append(charge)
                self._parts.meter.charged(charge.round, receipt.sequence)
                mask = self._masks.take()
                return self._run(Charged(charge.round, receipt, self._parts.source(), mask))

    def _contribution(self, assignment: Assignment) -> Ring:
        """Returns the vector of a round; where there is none, the session goes on without."""
        parts = self._parts
        try:
            trainee = parts.trainee if parts.present is None else parts.present(parts.trainee)
            return contribute(trainee, parts.terms.work, assignment, parts.source(), parts.summing)
        except ConsiliumError:
            self._run(Failed(assignment.round))
            raise
