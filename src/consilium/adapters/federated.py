# SPDX-License-Identifier: Apache-2.0
"""The coordinator of one run among real sites: enrolment, rounds, result; any engine's lines.

A run's folder holds `roll.bin` (who takes part), the checkpoint, and at the end the model and
the result. A run that is asked for again goes on from there: with the same roll, from the
last checkpoint, after the last round that any site's ledger shows. A site that is away then
does not hold it up, as long as the threshold answers. Two coordinators on one folder by mistake:
the second is refused.
"""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Protocol, final

from consilium import wire
from consilium.adapters.checkpoints import NAME, load_progress
from consilium.adapters.concurrent import run_concurrent
from consilium.adapters.coordinator_runner import CoordinatorRunner, resumed
from consilium.adapters.dataset import Dataset, make_ready, read_dataset
from consilium.adapters.disks import disk_in_words
from consilium.adapters.holding import hold
from consilium.adapters.measures import Traffic
from consilium.adapters.metering import Meter, Unmetered
from consilium.adapters.stage import (
    Observer,
    Played,
    Run,
    Stage,
    finished_before,
    leave_behind,
    make_hooks,
)
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, ConsiliumError, RemoteProtocolError, RoundAborted
from consilium.federation.enrolment import (
    ENROLMENT,
    LARGEST,
    ROLL,
    STANDING,
    Call,
    Enrolled,
    Enrolment,
    Roll,
    Standing,
    check_roll,
    make_roll,
)
from consilium.federation.progress import Progress, begin
from consilium.federation.results import RunResult, SiteShare
from consilium.federation.setup import make_setup
from consilium.learning.parameters import dimension, flatten

ROLL_FILE: Final = "roll.bin"
logger: Final = logging.getLogger("consilium.adapters")


class Line(Protocol):
    """A way to one site. Calls block; what the site refuses or leaves unanswered raises."""

    name: str

    def enrol(self) -> list[bytes]:
        """Returns the site's enrolment and standing."""
        ...

    def standing(self) -> list[bytes]:
        """Returns the site's standing, without waiting for a site that is away."""
        ...

    def join(self, roll: bytes) -> list[bytes]:
        """Returns the site's first messages of a new session."""
        ...

    def handle(self, data: bytes) -> list[bytes]:
        """Returns the site's answers; `NotJoined` is raised for a process without a session."""
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What surrounds a run and is not the project's.

    Attributes:
        quorum_seconds: How long a phase waits for sites that are missing.
        stopped: Says whether somebody ended the run from outside.
        observer: Who watches.
        meter: Who counts.
    """

    quorum_seconds: float
    stopped: Callable[[], bool]
    observer: Observer
    meter: Meter = field(default_factory=Unmetered)


def conduct(call: Call, run: Run, lines: Sequence[Line], conditions: Conditions) -> RunResult:
    """Returns the result of a run among the sites at the ends of `lines`.

    Args:
        call: What the sites are asked.
        run: The same, with the coordinator's folders; it goes on from what is in its folder.
        lines: One to each site of the federation.
        conditions: Time-outs and who watches.

    Raises:
        RoundAborted: Too few sites enrol or answer.
        ConfigError: Another process conducts this run.
        DataError: A disk is full or broken; what was finished before is whole.
        ConsiliumError: What the parties refuse.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with disk_in_words(), hold(run.folder, "run"):
        return finished_before(run) or _conduct(call, run, lines, conditions)


def _conduct(call: Call, run: Run, lines: Sequence[Line], conditions: Conditions) -> RunResult:
    present = _enrol_all(lines)
    roll = _roll(call, run, {name: said for name, (said, _) in present.items()})
    stage, enrolled = _stage(call, run, roll)
    last = max((standing.last_round for _, standing in present.values()), default=0)
    played = _play(stage, _ends(lines, roll), last, conditions)
    charges = _charges(lines, enrolled, played.finished.progress.attempts)
    shares = _shares(enrolled, charges, played.traffic)
    result = leave_behind(stage, played, shares, played.finished.progress.attempts)
    conditions.observer.ends(result)
    return result


# -- Enrolment ------------------------------------------------------------------------


def _enrol_all(lines: Sequence[Line]) -> dict[str, tuple[Enrolment, Standing]]:
    """Returns what the sites that answer say; those that do not are logged."""
    with ThreadPoolExecutor(max_workers=max(1, len(lines))) as pool:
        said = pool.map(_enrol, lines)
    return {line.name: one for line, one in zip(lines, said, strict=True) if one is not None}


def _enrol(line: Line) -> tuple[Enrolment, Standing] | None:
    try:
        first, second = line.enrol()
        enrolment = wire.decode(first, ENROLMENT, limit=LARGEST)
        standing = wire.decode(second, STANDING, limit=LARGEST)
    except (ConsiliumError, ValueError) as error:
        logger.warning("site does not enrol: %s", error, extra={"site": line.name})
        return None
    if enrolment.name != line.name:
        logger.warning("site enrols under another name", extra={"site": line.name})
        return None
    return enrolment, standing


def _roll(call: Call, run: Run, present: dict[str, Enrolment]) -> Roll:
    """Returns the roll of the run: that of before, or of the sites that are here."""
    path = run.folder / ROLL_FILE
    if not path.exists():
        roll = make_roll(list(present.values()))
        _check_complete(call, roll)
        check_roll(call, roll)
        write_whole(path, wire.encode(roll))
        return roll
    roll = wire.decode(path.read_bytes(), ROLL, limit=LARGEST)
    for one in roll.enrolments:
        if present.get(one.name, one) != one:
            raise ConfigError(
                f"site {one.name} states other facts than when run {run.folder.name} began; "
                "expected the same records and key: begin a new run"
            )
    return roll


def _check_complete(call: Call, roll: Roll) -> None:
    expected = call.project.for_arm(call.arm).sites.count
    names = ", ".join(one.name for one in roll.enrolments) or "nobody"
    if len(roll.enrolments) < expected:
        raise RoundAborted(
            f"{len(roll.enrolments)} sites enrolled ({names}); expected {expected}: see the "
            "coordinator's log for what the others said, start them, or set sites.count"
        )


def _stage(call: Call, run: Run, roll: Roll) -> tuple[Stage, Enrolled]:
    own, enrolled = call.project.for_arm(call.arm), check_roll(call, roll)
    dataset = read_dataset(own.data, run.data_folder)
    ready = make_ready(own, dataset, federated=False, seed=call.seed, folder=run.data_folder)
    _check_like(enrolled, dataset, dimension(ready.trained))
    setup = make_setup(call.project, call.arm, enrolled.facts, enrolled.identities, call.seed)
    return Stage(run=run, dataset=dataset, ready=ready, setup=setup), enrolled


def _check_like(enrolled: Enrolled, dataset: Dataset, weights: int) -> None:
    site = enrolled.sites[0]
    if (site.dimension, site.classes) != (weights, dataset.splits.classes):
        raise ConfigError(
            f"the coordinator's validation records give {weights} weights and classes "
            f"{', '.join(dataset.splits.classes)}; expected the sites' {site.dimension} and "
            f"{', '.join(site.classes)}: give it records of the same kind"
        )


# -- Rounds ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _End:
    """A site that has enrolled, as the driver sees it."""

    name: str
    line: Line | None  # None: it is away
    roll: bytes = field(repr=False)

    def start(self) -> list[bytes]:
        return self._present().join(self.roll)

    def handle(self, data: bytes) -> list[bytes]:
        return self._present().handle(data)

    def _present(self) -> Line:
        if self.line is None:
            raise RemoteProtocolError(f"site {self.name} is away")
        return self.line


def _ends(lines: Sequence[Line], roll: Roll) -> list[_End]:
    by_name, data = {line.name: line for line in lines}, wire.encode(roll)
    return [_End(one.name, by_name.get(one.name), data) for one in roll.enrolments]


def _play(stage: Stage, sites: Sequence[_End], last_round: int, conditions: Conditions) -> Played:
    began = time.monotonic()
    progress = resumed(_first_progress(stage), last_round)
    conditions.observer.begins(stage.setup, stage.run.seed, progress)
    hooks = make_hooks(stage, conditions.observer, conditions.meter)
    coordinator = CoordinatorRunner(stage.setup.for_coordinator(), progress, hooks)
    finished = run_concurrent(
        coordinator,
        sites,
        quorum_seconds=conditions.quorum_seconds,
        stopped=conditions.stopped,
    )
    return Played(
        finished=finished,
        traffic=coordinator.traffic(),
        first_attempt=progress.attempts + 1,
        seconds=time.monotonic() - began,
    )


def _first_progress(stage: Stage) -> Progress:
    checkpoint = stage.run.folder / NAME
    if not checkpoint.exists():
        return begin(stage.setup.agenda, flatten(stage.ready.trained))
    return load_progress(checkpoint, terms=stage.setup.terms, seed=stage.run.seed)


# -- After ----------------------------------------------------------------------------


def _charges(lines: Sequence[Line], enrolled: Enrolled, attempts: int) -> list[int]:
    """Returns what each ledger shows; of a site that is away, the most that it can show."""
    with ThreadPoolExecutor(max_workers=max(1, len(lines))) as pool:
        said = dict(zip([line.name for line in lines], pool.map(_standing, lines), strict=True))
    standings = [said.get(site.name) for site in enrolled.sites]
    return [attempts if one is None else one.charges for one in standings]


def _standing(line: Line) -> Standing | None:
    try:
        (data,) = line.standing()
        return wire.decode(data, STANDING, limit=LARGEST)
    except (ConsiliumError, ValueError) as error:
        logger.warning("site does not say what it paid: %s", error, extra={"site": line.name})
        return None


def _shares(enrolled: Enrolled, charges: Sequence[int], traffic: Traffic) -> tuple[SiteShare, ...]:
    return tuple(
        SiteShare(
            name=site.name,
            patients=site.patients,
            records=site.records,
            class_counts=(),
            charges=charged,
            bytes_up=sum(seen.up for (_, k), seen in traffic.items() if k == number),
            bytes_down=sum(seen.down for (_, k), seen in traffic.items() if k == number),
        )
        for number, (site, charged) in enumerate(zip(enrolled.sites, charges, strict=True))
    )
