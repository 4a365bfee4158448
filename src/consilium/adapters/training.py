# SPDX-License-Identifier: Apache-2.0
"""One run of one arm on one machine: data, engine, ledgers, checkpoints, result.

A run lives in its own folder: `ledger/` (one file a site), `checkpoint.safetensors`, and at
the end `model.safetensors` and `result.json`. Killed at any moment, it goes on from the last
checkpoint; rounds that were charged and lost stay charged.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol, final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.torch import save as save_tensors

from consilium.adapters.checkpoints import NAME, load_progress, save_progress, write_whole
from consilium.adapters.coordinator_runner import (
    CoordinatorRunner,
    Hooks,
    RoundReport,
    resumed,
)
from consilium.adapters.dataset import Dataset, Ready, make_ready, public_facts
from consilium.adapters.embedded import Site, run_embedded
from consilium.adapters.ledger_file import FileLedger, count_charges, last_charged
from consilium.adapters.measures import measure_traffic, share_of_sites
from consilium.adapters.processes import Launch, launched, recorded_source
from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.dp.plan import View
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.federation.coordinator import Finished
from consilium.federation.progress import Progress, Validation, begin, final_weights
from consilium.federation.project import Project
from consilium.federation.results import Point, RunResult
from consilium.federation.setup import Setup, make_setup
from consilium.federation.statement import make_statement, round_up
from consilium.federation.traffic import SiteTraffic
from consilium.learning.looks import look
from consilium.learning.metrics import Metrics, evaluate
from consilium.learning.parameters import Vector, assign, dimension, flatten
from consilium.learning.schedules import learning_rate
from consilium.learning.training import predict

RESULT: Final = "result.json"
MODEL: Final = "model.safetensors"
_BOOTSTRAP_SEED: Final = 20_26
_PACKAGES: Final = ("consilium", "torch", "numpy", "dp-accounting", "cryptography")


class Observer(Protocol):
    """Who watches a run; nothing it does changes the run."""

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """A run starts, or goes on from `progress`."""
        ...

    def round_done(self, report: RoundReport) -> None:
        """A round ended."""
        ...

    def ends(self, result: RunResult) -> None:
        """The run is over."""
        ...


@final
class NobodyWatches:
    """The observer of runs that nobody watches."""

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:
        """Does nothing."""

    def round_done(self, report: RoundReport) -> None:
        """Does nothing."""

    def ends(self, result: RunResult) -> None:
        """Does nothing."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is to be run.

    Attributes:
        project: As written.
        arm: Which arm.
        seed: Of the experiment; never of coins, noise or keys.
        folder: Of this run; made if absent.
        data_folder: Where the datasets lie.
        resume: Go on from what is in the folder; else it must be empty.
        processes: Sites are real processes.
        threads: Sites that compute at a time.
    """

    project: Project
    arm: str
    seed: int
    folder: Path
    data_folder: Path | None = None
    resume: bool = False
    processes: bool = False
    threads: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """A run with everything set up."""

    run: Run
    dataset: Dataset
    ready: Ready
    setup: Setup
    identities: tuple[Ed25519PrivateKey, ...] = field(repr=False)

    def ledger(self, site: int) -> Path:
        return self.run.folder / "ledger" / f"site-{site + 1}.jsonl"

    def charges(self) -> list[int]:
        return [count_charges(self.ledger(k)) for k in range(self.setup.sites)]

    def last_charged(self) -> int:
        """Returns a round that no site has paid for a later one than."""
        paths, terms = [self.ledger(k) for k in range(self.setup.sites)], self.setup.terms
        return max(*self.charges(), *(last_charged(path, terms) for path in paths))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Played:
    """How a run went."""

    finished: Finished
    traffic: dict[tuple[int, int], SiteTraffic]
    first_attempt: int
    seconds: float


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
    done = run.folder / RESULT
    if run.resume and done.exists():
        return _finished_before(run, done)
    if not run.resume and run.folder.exists() and any(run.folder.iterdir()):
        raise ConfigError(
            f"folder {run.folder.name} already holds a run; expected an empty one: choose another "
            "--out, or go on with --resume"
        )
    stage = _prepare(run, dataset)
    (run.folder / "ledger").mkdir(parents=True, exist_ok=True)
    played = _play(stage, observer, sources)
    weights = final_weights(played.finished.progress)
    result = _result(stage, played, _test(stage, weights))
    _write(stage, weights, result)
    observer.ends(result)
    return result


# -- Before ---------------------------------------------------------------------------


def _prepare(run: Run, dataset: Dataset) -> _Stage:
    own = run.project.for_arm(run.arm)
    ready = make_ready(own, dataset, federated=ARMS[run.arm].federated, seed=run.seed)
    identities = tuple(Ed25519PrivateKey.generate() for _ in ready.parts)
    facts = public_facts(ready)
    public = [identity.public_key().public_bytes_raw() for identity in identities]
    setup = make_setup(run.project, run.arm, facts, public, run.seed)
    return _Stage(run=run, dataset=dataset, ready=ready, setup=setup, identities=identities)


def _finished_before(run: Run, path: Path) -> RunResult:
    try:
        result = msgspec.json.decode(path.read_bytes(), type=RunResult)
    except msgspec.MsgspecError:
        raise DataError(
            f"{path.name} of {run.folder.name} cannot be read; expected a result that consilium "
            "wrote: remove it and resume, or restore a copy"
        ) from None
    terms = run.project.terms(run.arm).hex()
    if (result.terms, result.arm, result.seed) != (terms, run.arm, run.seed):
        raise ConfigError(
            f"folder {run.folder.name} holds a result of another project, arm or seed; expected "
            f"terms {terms[:12]}, found {result.terms[:12]}: resume with the project it began with"
        )
    return result


def _first_progress(stage: _Stage) -> Progress:
    checkpoint, setup = stage.run.folder / NAME, stage.setup
    if not checkpoint.exists():
        progress = begin(setup.agenda, flatten(stage.ready.trained))
    else:
        progress = load_progress(checkpoint, terms=setup.terms, seed=stage.run.seed)
        _check_progress(stage, progress)
    return resumed(progress, stage.last_charged())


def _check_progress(stage: _Stage, progress: Progress) -> None:
    """Refuses a checkpoint whose rounds nobody paid for."""
    setup = stage.setup
    charged, members = (
        sum(stage.charges()),
        setup.sites if setup.job is None else setup.job.threshold,
    )
    if charged < progress.round * members:
        raise DataError(
            f"the ledgers of {stage.run.folder.name} hold {charged} charges; expected at least "
            f"{progress.round * members}, for {progress.round} rounds: restore the ledgers"
        )


# -- During ---------------------------------------------------------------------------


def _play(stage: _Stage, observer: Observer, sources: Sequence[Source] | None) -> _Played:
    began = time.monotonic()
    progress = _first_progress(stage)
    observer.begins(stage.setup, stage.run.seed, progress)
    hooks = _hooks(stage, observer)
    coordinator = CoordinatorRunner(stage.setup.for_coordinator(), progress, hooks)
    with _sites(stage, sources) as sites:
        finished = run_embedded(coordinator, sites, threads=stage.run.threads)
    return _Played(
        finished=finished,
        traffic=coordinator.traffic(),
        first_attempt=progress.attempts + 1,
        seconds=time.monotonic() - began,
    )


def _hooks(stage: _Stage, observer: Observer) -> Hooks:
    model = copy.deepcopy(stage.ready.trained)
    inputs, labels = stage.ready.features(stage.dataset.splits.validation)
    checkpoint = stage.run.folder / NAME

    def look_at(round_: int, weights: Vector) -> Validation:
        assign(model, weights)
        seen = look(predict(model, stage.ready.task, inputs), labels.numpy())
        return Validation(round=round_, loss=seen.loss, auc=seen.auc, accuracy=seen.accuracy)

    def save(progress: Progress) -> None:
        save_progress(checkpoint, progress, terms=stage.setup.terms, seed=stage.run.seed)

    return Hooks(look=look_at, save=save, on_round=observer.round_done)


@contextmanager
def _sites(stage: _Stage, sources: Sequence[Source] | None) -> Iterator[Sequence[Site]]:
    if stage.run.processes:
        with launched([_launch(stage, k, sources) for k in range(stage.setup.sites)]) as sites:
            yield sites
        return
    with ExitStack() as stack:
        yield [_site(stage, k, sources, stack) for k in range(stage.setup.sites)]


def _site(
    stage: _Stage, site: int, sources: Sequence[Source] | None, stack: ExitStack
) -> SiteRunner:
    ledger = FileLedger(stage.ledger(site), allowed=stage.setup.steps_allowed)
    stack.callback(ledger.close)
    parts = SiteParts(
        terms=stage.setup.for_site(site, stage.identities[site].private_bytes_raw()),
        trainee=stage.ready.trainee(site),
        ledger=ledger,
        source=operating_system if sources is None else recorded_source(sources[site]()),
    )
    return SiteRunner(parts)


def _launch(stage: _Stage, site: int, sources: Sequence[Source] | None) -> Launch:
    run = stage.run
    return Launch(
        project=run.project.resolved(),
        arm=run.arm,
        seed=run.seed,
        site=site,
        data_folder=None if run.data_folder is None else str(run.data_folder),
        ledger=str(stage.ledger(site)),
        identity=stage.identities[site].private_bytes_raw(),
        identities=tuple(i.public_key().public_bytes_raw() for i in stage.identities),
        recorded=None if sources is None else sources[site](),
    )


# -- After ----------------------------------------------------------------------------


def _test(stage: _Stage, weights: Vector) -> Metrics:
    """The one look at the test records."""
    model, splits = copy.deepcopy(stage.ready.trained), stage.dataset.splits
    assign(model, weights)
    inputs, labels = stage.ready.features(splits.test)
    return evaluate(
        predict(model, stage.ready.task, inputs),
        labels.numpy(),
        splits.test.patients,
        splits.classes,
        bootstrap_seed=_BOOTSTRAP_SEED,
    )


def _result(stage: _Stage, played: _Played, test: Metrics) -> RunResult:
    run, setup, progress = stage.run, stage.setup, played.finished.progress
    charges = stage.charges()
    return RunResult(
        project=run.project.name,
        arm=run.arm,
        sentence=setup.arm.sentence,
        seed=run.seed,
        model=run.project.for_arm(run.arm).model.name,
        parameters=dimension(stage.ready.trained),
        data=stage.dataset.splits.origin,
        classes=stage.dataset.splits.classes,
        reason=played.finished.reason,
        rounds=progress.round,
        attempts=progress.attempts,
        seconds=played.seconds,
        curve=_curve(setup, progress),
        test=test,
        test_looks=1,
        statement=make_statement(setup, unit=stage.dataset.splits.unit, steps_charged=max(charges)),
        sites=share_of_sites(stage.ready, charges, played.traffic),
        traffic=measure_traffic(setup, played.traffic, played.first_attempt),
        secure_sum="none" if setup.job is None else "SecSum",
        terms=run.project.terms(run.arm).hex(),
        duplicates=stage.dataset.duplicates,
        versions={name: version(name) for name in _PACKAGES},
    )


def _curve(setup: Setup, progress: Progress) -> tuple[Point, ...]:
    lost = progress.attempts - progress.round
    return tuple(
        Point(
            round=seen.round,
            learning_rate=learning_rate(
                setup.agenda.schedule,
                seen.round,
                setup.agenda.rounds,
                [one.loss for one in progress.history if one.round < seen.round],
            ),
            loss=seen.loss,
            auc=seen.auc,
            accuracy=seen.accuracy,
            epsilon=epsilon_after(setup, seen.round + lost),
        )
        for seen in progress.history
    )


def epsilon_after(setup: Setup, steps: int) -> float | None:
    """Returns epsilon of the worst view after `steps` charges, rounded up; None without DP."""
    if setup.plan is None:
        return None
    return round_up(setup.plan.epsilon(steps, View.PARTICIPANT))


def _write(stage: _Stage, weights: Vector, result: RunResult) -> None:
    assign(stage.ready.trained, weights)
    tensors = {k: v.contiguous() for k, v in stage.ready.model.state_dict().items()}
    facts = {"terms": result.terms, "model": result.model, "classes": result.classes}
    header = {"consilium": msgspec.json.encode(facts).decode()}  # one entry: their order is random
    write_whole(stage.run.folder / MODEL, save_tensors(tensors, header))
    write_whole(stage.run.folder / RESULT, msgspec.json.encode(result))
