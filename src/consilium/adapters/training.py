# SPDX-License-Identifier: Apache-2.0
"""One run of one arm on one machine: data, engine, ledgers, checkpoints, result.

A run lives in its own folder: `ledger/` (one file a site), `checkpoint.safetensors`, and at
the end `model.safetensors` and `result.json`. Killed at any moment, it goes on from the last
checkpoint; rounds that were charged and lost stay charged.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consilium.adapters.checkpoints import NAME, load_progress
from consilium.adapters.coordinator_runner import CoordinatorRunner, resumed
from consilium.adapters.dataset import Dataset, make_ready, public_facts
from consilium.adapters.embedded import Site, run_embedded
from consilium.adapters.ledger_file import FileLedger, count_charges, last_charged
from consilium.adapters.measures import share_of_sites
from consilium.adapters.metering import Unmetered
from consilium.adapters.processes import Launch, launched, recorded_source
from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.adapters.stage import (
    Observer,
    Played,
    Run,
    Stage,
    finished_before,
    leave_behind,
    make_hooks,
)
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.federation.progress import Progress, begin
from consilium.federation.results import RunResult
from consilium.federation.setup import make_setup
from consilium.learning.parameters import flatten


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Local:
    """A stage whose sites are on this machine."""

    stage: Stage
    identities: tuple[Ed25519PrivateKey, ...] = field(repr=False)

    def ledger(self, site: int) -> Path:
        return self.stage.run.folder / "ledger" / f"site-{site + 1}.jsonl"

    def charges(self) -> list[int]:
        return [count_charges(self.ledger(k)) for k in range(self.stage.setup.sites)]

    def last_charged(self) -> int:
        """Returns a round that no site has paid for a later one than."""
        setup = self.stage.setup
        paths = [self.ledger(k) for k in range(setup.sites)]
        return max(*self.charges(), *(last_charged(path, setup.terms) for path in paths))


def train_arm(
    run: Run, dataset: Dataset, observer: Observer, sources: Sequence[Source] | None = None
) -> RunResult:
    """Returns the result of one run, and leaves its folder behind.

    Args:
        run: What is to be run.
        dataset: Of the project.
        observer: Who watches.
        sources: Each gives the seed of one site's recorded randomness, the same in this process
            and in many; None is the operating system's. Tests only.

    Raises:
        ConfigError: The folder is not empty, or belongs to another project, arm or seed.
        ConsiliumError: What the parties refuse.
        OSError: The disk is full or broken; what was finished before stays whole.
    """
    if run.resume and (before := finished_before(run)) is not None:
        return before
    if not run.resume and run.folder.exists() and any(run.folder.iterdir()):
        raise ConfigError(
            f"folder {run.folder.name} already holds a run; expected an empty one: choose another "
            "--out, or go on with --resume"
        )
    local = _prepare(run, dataset)
    (run.folder / "ledger").mkdir(parents=True, exist_ok=True)
    played = _play(local, observer, sources)
    charges = local.charges()
    shares = share_of_sites(local.stage.ready, charges, played.traffic)
    result = leave_behind(local.stage, played, shares, max(charges))
    observer.ends(result)
    return result


# -- Before ---------------------------------------------------------------------------


def _prepare(run: Run, dataset: Dataset) -> _Local:
    own = run.project.for_arm(run.arm)
    ready = make_ready(
        own,
        dataset,
        federated=ARMS[run.arm].federated,
        seed=run.seed,
        folder=run.data_folder,
    )
    identities = tuple(Ed25519PrivateKey.generate() for _ in ready.parts)
    facts = public_facts(ready)
    public = [identity.public_key().public_bytes_raw() for identity in identities]
    setup = make_setup(run.project, run.arm, facts, public, run.seed)
    stage = Stage(run=run, dataset=dataset, ready=ready, setup=setup)
    return _Local(stage=stage, identities=identities)


def _first_progress(local: _Local) -> Progress:
    stage = local.stage
    checkpoint, setup = stage.run.folder / NAME, stage.setup
    if not checkpoint.exists():
        progress = begin(setup.agenda, flatten(stage.ready.trained))
    else:
        progress = load_progress(checkpoint, terms=setup.terms, seed=stage.run.seed)
        _check_progress(local, progress)
    return resumed(progress, local.last_charged())


def _check_progress(local: _Local, progress: Progress) -> None:
    """Refuses a checkpoint whose rounds nobody paid for."""
    stage, setup = local.stage, local.stage.setup
    charged, members = (
        sum(local.charges()),
        setup.sites if setup.job is None else setup.job.threshold,
    )
    if charged < progress.round * members:
        raise DataError(
            f"the ledgers of {stage.run.folder.name} hold {charged} charges; expected at least "
            f"{progress.round * members}, for {progress.round} rounds: restore the ledgers"
        )


# -- During ---------------------------------------------------------------------------


def _play(local: _Local, observer: Observer, sources: Sequence[Source] | None) -> Played:
    began, stage = time.monotonic(), local.stage
    progress = _first_progress(local)
    observer.begins(stage.setup, stage.run.seed, progress)
    hooks = make_hooks(stage, observer, Unmetered())
    coordinator = CoordinatorRunner(stage.setup.for_coordinator(), progress, hooks)
    with _sites(local, sources) as sites:
        finished = run_embedded(coordinator, sites, threads=stage.run.threads)
    return Played(
        finished=finished,
        traffic=coordinator.traffic(),
        first_attempt=progress.attempts + 1,
        seconds=time.monotonic() - began,
    )


@contextmanager
def _sites(local: _Local, sources: Sequence[Source] | None) -> Iterator[Sequence[Site]]:
    numbers = range(local.stage.setup.sites)
    if local.stage.run.processes:
        with launched([_launch(local, k, sources) for k in numbers]) as sites:
            yield sites
        return
    with ExitStack() as stack:
        yield [_site(local, k, sources, stack) for k in numbers]


def _site(
    local: _Local, site: int, sources: Sequence[Source] | None, stack: ExitStack
) -> SiteRunner:
    stage = local.stage
    ledger = FileLedger(local.ledger(site), allowed=stage.setup.steps_allowed)
    stack.callback(ledger.close)
    parts = SiteParts(
        terms=stage.setup.for_site(site, local.identities[site].private_bytes_raw()),
        trainee=stage.ready.trainee(site),
        ledger=ledger,
        source=operating_system if sources is None else recorded_source(sources[site]()),
    )
    return SiteRunner(parts)


def _launch(local: _Local, site: int, sources: Sequence[Source] | None) -> Launch:
    run = local.stage.run
    return Launch(
        project=run.project.resolved(),
        arm=run.arm,
        seed=run.seed,
        site=site,
        data_folder=None if run.data_folder is None else str(run.data_folder),
        ledger=str(local.ledger(site)),
        identity=local.identities[site].private_bytes_raw(),
        identities=tuple(i.public_key().public_bytes_raw() for i in local.identities),
        recorded=None if sources is None else sources[site](),
    )
