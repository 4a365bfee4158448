# SPDX-License-Identifier: Apache-2.0
"""A small project on the bundled digits, its parties in memory, and disks that are full."""

import errno
import os
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consilium import wire
from consilium.adapters.coordinator_runner import CoordinatorRunner, Hooks, RoundReport
from consilium.adapters.dataset import Dataset, make_ready, public_facts, read_dataset
from consilium.adapters.processes import recorded_source
from consilium.adapters.randomness import Source
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.adapters.stage import Run
from consilium.errors import RemoteProtocolError
from consilium.federation.arms import ARMS
from consilium.federation.ledger import Charge, Receipt, charge_digest, check_room
from consilium.federation.progress import Progress, Validation, begin
from consilium.federation.project import Project, parse_project
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup, make_setup
from consilium.learning.parameters import Vector, flatten

PROJECT = """
name = "digits-test"
[data]
source = "digits"
privacy_unit = "record"
[sites]
count = 4
[model]
name = "logistic"
[learning_rate]
initial = 0.05
[training]
rounds = 4
local_batch = 64
evaluate_every = 2
[dp]
noise_multiplier = 1.0
delta = 1e-4
expected_batch = 200
"""


def make_project(changes: Mapping[str, str] | None = None) -> Project:
    """Returns the test project with some settings replaced."""
    return parse_project(PROJECT, changes)


def make_run(folder: Path, arm: str, changes: Mapping[str, str] | None = None) -> Run:
    """Returns a run of the test project, two sites at a time."""
    return Run(project=make_project(changes), arm=arm, seed=0, folder=folder, threads=2)


def same_seeds(sites: int = 4) -> list[Source]:
    """Returns what makes a run's randomness the same every time."""
    return [recorded_source(bytes([site]) * 32) for site in range(sites)]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return read_dataset(make_project().data, None)


# -- Archives -------------------------------------------------------------------------


def made_up_arrays() -> dict[str, NDArray[np.generic]]:
    """Returns 40, 12 and 12 grey images of 8 px, two of each patient, of two classes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {"classes": np.array(["well", "ill"])}
    for split, count in {"train": 40, "val": 12, "test": 12}.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 2
        arrays[f"{split}_groups"] = np.array([f"{split}-{i // 2}" for i in range(count)])
    return arrays


# -- Parties in memory ----------------------------------------------------------------


@dataclass
class MemoryLedger:
    """A ledger without a file."""

    allowed: int | None = None
    charges: list[Charge] = field(default_factory=list[Charge])

    def append(self, charge: Charge) -> Receipt:
        if self.allowed is not None:
            check_room(made=len(self.charges), allowed=self.allowed)
        self.charges.append(charge)
        return Receipt(charge=charge_digest(charge), sequence=len(self.charges))

    def last_round(self, terms: bytes) -> int:
        return max((made.round for made in self.charges if made.terms == terms), default=0)

    def count(self) -> int:
        return len(self.charges)


@dataclass(frozen=True, kw_only=True)
class Parties:
    """Everybody in one run, and what they left behind."""

    setup: Setup
    coordinator: CoordinatorRunner
    sites: list[SiteRunner]
    ledgers: list[MemoryLedger]
    parts: list[SiteParts]
    saved: list[Progress]
    reports: list[RoundReport]


def gather(project: Project, arm: str, dataset: Dataset) -> Parties:
    """Returns the parties of a new run, with fixed keys and randomness."""
    ready = make_ready(project, dataset, federated=ARMS[arm].federated, seed=0)
    keys = [wire.digest("test identity", site) for site in range(len(ready.parts))]
    public = [Ed25519PrivateKey.from_private_bytes(key).public_key() for key in keys]
    identities = [key.public_bytes_raw() for key in public]
    setup = make_setup(project, arm, public_facts(ready), identities, 0)
    ledgers = [MemoryLedger(setup.steps_allowed) for _ in keys]
    sources = same_seeds(len(keys))
    parts = [
        SiteParts(
            terms=setup.for_site(site, keys[site]),
            trainee=ready.trainee(site),
            ledger=ledgers[site],
            source=sources[site],
        )
        for site in range(len(keys))
    ]
    saved: list[Progress] = []
    reports: list[RoundReport] = []
    hooks = Hooks(look=_no_look, save=saved.append, on_round=reports.append)
    first = begin(setup.agenda, flatten(ready.trained))
    return Parties(
        setup=setup,
        coordinator=CoordinatorRunner(setup.for_coordinator(), first, hooks),
        sites=[SiteRunner(part) for part in parts],
        ledgers=ledgers,
        parts=parts,
        saved=saved,
        reports=reports,
    )


def _no_look(round_: int, _weights: Vector) -> Validation:
    return Validation(round=round_, loss=1.0, auc=None, accuracy=0.5)


@dataclass
class Mortal:
    """A site that is lost after some messages."""

    site: SiteRunner
    messages: int

    def start(self) -> list[bytes]:
        return self.site.start()

    def handle(self, data: bytes) -> list[bytes]:
        self.messages -= 1
        if self.messages < 0:
            raise RemoteProtocolError("the process ended", 0)
        return self.site.handle(data)


# -- Observers ------------------------------------------------------------------------


@dataclass
class At:
    """An observer that does something when a round is done."""

    round: int
    act: Callable[[], None]

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """Does nothing."""

    def round_done(self, report: RoundReport) -> None:
        if report.progress.round == self.round:
            self.act()

    def ends(self, result: RunResult) -> None:
        """Does nothing."""


@dataclass
class Note:
    """An observer that writes everything down."""

    began: list[Progress] = field(default_factory=list[Progress])
    rounds: list[int] = field(default_factory=list[int])
    ended: list[RunResult] = field(default_factory=list[RunResult])

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:  # noqa: ARG002
        self.began.append(progress)

    def round_done(self, report: RoundReport) -> None:
        self.rounds.append(report.progress.round)

    def ends(self, result: RunResult) -> None:
        self.ended.append(result)


def interrupt() -> None:
    """Does what Ctrl-C does."""
    raise KeyboardInterrupt


# -- Processes ------------------------------------------------------------------------


def site_processes() -> list[psutil.Process]:
    """Returns the sites that this process started and that still run, by site."""
    children = psutil.Process().children()
    return [
        child
        for child in sorted(children, key=lambda one: (one.create_time(), one.pid))
        if "consilium.adapters.processes" in child.cmdline()
    ]


@pytest.fixture(scope="session")
def fork_server() -> ForkServerContext:
    """Starts processes that have everything loaded and nothing computed, on one thread."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["consilium.adapters.training"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        first = context.Process(target=int)
        first.start()
    first.join()
    return context


# -- Full disks -----------------------------------------------------------------------


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets no file of this process grow beyond `size` bytes; a write is cut there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


Full = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def full_after(monkeypatch: pytest.MonkeyPatch) -> Full:
    """Makes the disk full after some syncs."""

    @contextmanager
    def after(syncs: int) -> Iterator[None]:
        remaining = iter(range(syncs))
        real = os.fsync

        def fsync(handle: int) -> None:
            if next(remaining, None) is None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            yield

    return after
