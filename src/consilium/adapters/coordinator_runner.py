# SPDX-License-Identifier: Apache-2.0
"""Drives the coordinator's state machine: bytes in, bytes out; evaluates, saves and counts.

Every engine uses this one driver. It has no rule of its own; what a site sent against the
rules is logged by kind and site, and changes nothing. A new session within a run is what a
crash right after `Save` and a resume would be, without the crash.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, final

from consilium import wire
from consilium.adapters.metering import Meter, Phase, Unmetered
from consilium.errors import ProtocolError, RemoteProtocolError
from consilium.federation.coordinator import (
    Agreeing,
    Command,
    CoordinatorTerms,
    Deadline,
    Event,
    Finished,
    Gathering,
    Look,
    Looked,
    Preparing,
    Received,
    Save,
    State,
    Tell,
    start,
    step,
)
from consilium.federation.messages import FROM_SITE, PrekeysWanted, RoundStart
from consilium.federation.progress import Progress, Validation
from consilium.federation.traffic import SiteTraffic, largest_to_coordinator
from consilium.learning.parameters import Vector
from consilium.secagg.messages import CiphertextTable, Hello, Roster, Survivors

_BEGINS: Final[Mapping[type, Phase]] = {
    Roster: "agreeing",
    CiphertextTable: "agreeing",
    PrekeysWanted: "agreeing",
    RoundStart: "computing",
    Survivors: "opening",
}  # what the sites do once they have such a message
logger: Final = logging.getLogger("consilium.adapters")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """What one round cost and where training stands after it."""

    progress: Progress
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What the driver calls: the effects of a run.

    Attributes:
        look: Evaluates weights on the validation records: (round, weights) -> Validation.
        save: Makes a progress durable.
        on_round: Is told of every finished round.
        meter: Is told of messages and phases.
    """

    look: Callable[[int, Vector], Validation]
    save: Callable[[Progress], None]
    on_round: Callable[[RoundReport], None]
    meter: Meter = field(default_factory=Unmetered)


@final
class CoordinatorRunner:
    """The coordinator in one run. Not thread-safe: one call at a time.

    Attributes:
        sessions: How many sessions have begun; after each beginning every site must be started.
    """

    def __init__(self, terms: CoordinatorTerms, progress: Progress, hooks: Hooks) -> None:
        self._terms, self._hooks = terms, hooks
        self._renew, self.sessions = False, 0
        self._begin(progress)
        self._since = time.monotonic()
        words = terms.work.width() * 4
        self._limit = largest_to_coordinator(terms.job, words)
        self._traffic: dict[tuple[int, int], SiteTraffic] = defaultdict(lambda: SiteTraffic(0, 0))
        self._attempt = progress.attempts
        self._reported = progress.round

    @property
    def finished(self) -> Finished | None:
        """The end of the run, once it is there."""
        return self._state if isinstance(self._state, Finished) else None

    def traffic(self) -> dict[tuple[int, int], SiteTraffic]:
        """Returns the bytes of every (attempt, site) so far.

        What is said before the first round counts as the attempt before it, 0 in a new run.
        """
        return dict(self._traffic)

    def handle(self, site: int, data: bytes) -> list[tuple[int, bytes]]:
        """Returns the messages, by site, that follow from one message of `site`."""
        self._traffic[self._attempt, site] += SiteTraffic(len(data), 0)
        try:
            message = wire.decode(data, FROM_SITE, limit=self._limit)
            if message.site != site:
                raise RemoteProtocolError(f"message of site {message.site} on its channel", site)
            self._hooks.meter.passed("in", type(message).__name__, len(data))
            if isinstance(message, Hello) and not isinstance(self._state, Gathering):
                self.renew()  # too late for this session, in time for the next
            return list(self._run(Received(message)))
        except ProtocolError as error:
            logger.warning("message refused", extra={"site": site, "why": str(error)})
            return []

    def deadline(self) -> list[tuple[int, bytes]]:
        """Returns the messages that follow when nobody has anything more to say."""
        return list(self._run(Deadline()))

    def renew(self) -> None:
        """Begins a new session after this round, so that a site that lost its keys has new ones.

        Each session tries a round at least, so sites that come and go cannot stop a run.
        """
        self._renew = True
        if isinstance(self._state, Gathering | Agreeing | Preparing):
            self._renew_after(self._state.progress)

    def _begin(self, progress: Progress) -> None:
        self._state: State = start(self._terms, progress)
        self._renew, self._begun_after = False, progress.attempts
        self.sessions += 1

    def _renew_after(self, progress: Progress) -> bool:
        due = self._renew and progress.attempts > self._begun_after and self.finished is None
        if due:
            self._begin(progress)
        return due

    def _run(self, event: Event) -> Iterator[tuple[int, bytes]]:
        self._state, commands = step(self._state, event)
        for command in commands:
            yield from self._obey(command)
            if isinstance(command, Save) and self._renew_after(command.progress):
                return

    def _obey(self, command: Command) -> Iterator[tuple[int, bytes]]:
        match command:
            case Tell(sites, message):
                if isinstance(message, RoundStart):
                    self._attempt = message.plan.round
                data = wire.encode(message)
                if type(message) in _BEGINS:
                    self._hooks.meter.enters(_BEGINS[type(message)])
                for site in sites:
                    self._hooks.meter.passed("out", type(message).__name__, len(data))
                    self._traffic[self._attempt, site] += SiteTraffic(0, len(data))
                    yield site, data
            case Look(round_, weights):
                self._hooks.meter.enters("looking")
                yield from self._run(Looked(self._hooks.look(round_, weights)))
            case Save(progress):
                self._hooks.meter.enters("saving")
                self._save(progress)

    def _save(self, progress: Progress) -> None:
        self._hooks.save(progress)
        now = time.monotonic()
        if progress.round > self._reported:
            self._hooks.on_round(RoundReport(progress=progress, seconds=now - self._since))
        self._since, self._reported = now, progress.round


def resumed(progress: Progress, charged: int) -> Progress:
    """Returns `progress` after round `charged`, the last that any site has paid for.

    Sites answer no round twice, so the next one must have a number that none has seen.
    """
    return replace(progress, attempts=max(progress.attempts, charged))
