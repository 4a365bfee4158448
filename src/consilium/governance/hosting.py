# SPDX-License-Identifier: Apache-2.0
"""A hosted training process: whom it admits, which updates it takes, when a cycle ends.

    join(limits, cycle, candidate)   receive(limits, cycle, update)   close(limits, cycle, now)

Each says yes or no with its reason, and changes nothing; what changes is made by `joined`,
`received` and `next_cycle`. Guarantees: every limit is enforced in exactly one of the three. Not
here: privacy (a hosted process runs an approved contract), identity, transport.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import final

from consilium.errors import ConfigError
from consilium.governance.access import Decision


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a process asks for.

    Attributes:
        name: Of the process.
        version: Of it; a name and version are hosted once.
        fewest_sites: A cycle begins with.
        most_sites: A cycle admits.
        cycle_seconds: After which a cycle ends.
        cycles: Until the process ends.
        fewest_updates: A cycle needs to count.
        most_updates: After which a cycle ends.
        least_upload: Megabits a second that a site must have.
        least_download: Likewise.
        largest_update: Bytes.
        rest_cycles: That a site sits out after one that it took part in.
    """

    name: str
    version: str
    fewest_sites: int = 3
    most_sites: int = 100
    cycle_seconds: float = 3600.0
    cycles: int = 1
    fewest_updates: int = 3
    most_updates: int = 100
    least_upload: float = 0.0
    least_download: float = 0.0
    largest_update: int = 1 << 30
    rest_cycles: int = 0

    def __post_init__(self) -> None:
        if not self.name or not self.version:
            raise ConfigError("a hosted process needs a name and a version")
        if not 1 <= self.fewest_sites <= self.most_sites:
            raise ConfigError(f"{self.fewest_sites=}, {self.most_sites=}; expected 1 <= fewest")
        if not 1 <= self.fewest_updates <= self.most_updates <= self.most_sites:
            raise ConfigError(
                f"{self.fewest_updates=}, {self.most_updates=}; expected 1 <= fewest <= most <= "
                f"{self.most_sites=}"
            )
        if not (self.cycle_seconds > 0 and self.cycles >= 1 and self.largest_update >= 1):
            raise ConfigError(f"{self.cycle_seconds=}, {self.cycles=}; expected above 0")
        if min(self.least_upload, self.least_download, self.rest_cycles) < 0:
            raise ConfigError("a speed or a rest below 0; expected 0 or more")


class ProcessState(StrEnum):
    """Whether a process goes on."""

    OPEN = "open"
    ENDED = "ended"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """Where a process stands.

    Attributes:
        number: Of the cycle, from 1.
        began: UTC; None until the fewest sites are there.
        sites: That were admitted.
        updates: Sites whose update was taken.
        last_part: Number of the cycle that each site last took part in.
        state: Of the process.
    """

    number: int = 1
    began: datetime | None = None
    sites: frozenset[str] = frozenset()
    updates: frozenset[str] = frozenset()
    last_part: dict[str, int] = field(default_factory=dict)
    state: ProcessState = ProcessState.OPEN


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A site that wants to take part; speeds in megabits a second, as measured."""

    site: str
    upload: float
    download: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a site hands in."""

    site: str
    cycle: int
    size: int


def join(limits: Limits, cycle: Cycle, candidate: Candidate) -> Decision:
    """Returns whether `candidate` is admitted to this cycle."""
    last = cycle.last_part.get(candidate.site, -limits.rest_cycles)
    return _first(
        (cycle.state is ProcessState.ENDED, "the process has ended"),
        (candidate.site in cycle.sites, "the site takes part already"),
        (len(cycle.sites) >= limits.most_sites, f"the cycle has its {limits.most_sites} sites"),
        (
            not candidate.upload >= limits.least_upload,
            f"upload {candidate.upload:g} Mbit/s; at least {limits.least_upload:g} needed",
        ),
        (
            not candidate.download >= limits.least_download,
            f"download {candidate.download:g} Mbit/s; at least {limits.least_download:g} needed",
        ),
        (
            cycle.number <= last + limits.rest_cycles,
            f"the site rests until cycle {last + limits.rest_cycles + 1}",
        ),
    )


def receive(limits: Limits, cycle: Cycle, update: Update, now: datetime) -> Decision:
    """Returns whether `update` is taken."""
    over = cycle.began is not None and now >= _end(limits, cycle.began)
    return _first(
        (cycle.state is ProcessState.ENDED, "the process has ended"),
        (update.cycle != cycle.number, f"for cycle {update.cycle}; it is {cycle.number}"),
        (update.site not in cycle.sites, "the site was not admitted to this cycle"),
        (cycle.began is None, f"the cycle waits for {limits.fewest_sites} sites"),
        (over, f"the cycle ended after {limits.cycle_seconds:g} s"),
        (update.site in cycle.updates, "the site has handed in its update"),
        (
            len(cycle.updates) >= limits.most_updates,
            f"the cycle has its {limits.most_updates} updates",
        ),
        (
            update.size > limits.largest_update,
            f"{update.size} bytes; at most {limits.largest_update}",
        ),
    )


def close(limits: Limits, cycle: Cycle, now: datetime) -> Decision:
    """Returns whether this cycle is over; with too few updates it is repeated, not counted."""
    if cycle.began is None:
        return Decision(False, f"the cycle waits for {limits.fewest_sites} sites")
    if len(cycle.updates) >= min(limits.most_updates, len(cycle.sites)):
        return Decision(True, "every update is in")
    if now >= _end(limits, cycle.began):
        return Decision(True, f"{limits.cycle_seconds:g} s are over")
    return Decision(False, f"{len(cycle.updates)} updates so far")


def _first(*reasons: tuple[bool, str]) -> Decision:
    for refused, why in reasons:
        if refused:
            return Decision(False, why)
    return Decision(True, "within the limits")


def _end(limits: Limits, began: datetime) -> datetime:
    return began + timedelta(seconds=limits.cycle_seconds)


# -- Changes --------------------------------------------------------------------------


def joined(limits: Limits, cycle: Cycle, site: str, now: datetime) -> Cycle:
    """Returns the cycle with `site` in it; it begins with the fewest sites."""
    sites = cycle.sites | {site}
    began = cycle.began or (now if len(sites) >= limits.fewest_sites else None)
    return replace(cycle, sites=sites, began=began)


def received(cycle: Cycle, site: str) -> Cycle:
    """Returns the cycle with the update of `site`."""
    return replace(cycle, updates=cycle.updates | {site})


def next_cycle(limits: Limits, cycle: Cycle) -> Cycle:
    """Returns what follows a cycle that is over."""
    part = cycle.last_part | dict.fromkeys(cycle.updates, cycle.number)
    counts = len(cycle.updates) >= limits.fewest_updates
    number = cycle.number + 1 if counts else cycle.number
    if number > limits.cycles:
        return replace(cycle, state=ProcessState.ENDED, last_part=part)
    return Cycle(number=number, last_part=part if counts else cycle.last_part)
