# SPDX-License-Identifier: Apache-2.0
"""What every engine shares of a run: who watches, looks, the one test, what is left behind.

Not here: where the sites are and how they are spoken to (`training`, `federated`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol, final

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save as save_tensors

from consilium.adapters.checkpoints import NAME, save_progress
from consilium.adapters.coordinator_runner import Hooks, RoundReport
from consilium.adapters.dataset import Dataset, Ready
from consilium.adapters.measures import measure_traffic
from consilium.adapters.metering import Meter
from consilium.adapters.whole_files import write_whole
from consilium.data.records import Records
from consilium.dp.plan import View
from consilium.errors import ConfigError, DataError
from consilium.federation.coordinator import Finished
from consilium.federation.progress import Progress, Validation, final_weights
from consilium.federation.project import Project
from consilium.federation.results import Point, RunResult, SiteShare
from consilium.federation.setup import Setup
from consilium.federation.statement import Statement, make_statement, round_up
from consilium.federation.traffic import SiteTraffic
from consilium.governance.model_permits import Publisher
from consilium.learning.looks import Look, look, look_at_maps
from consilium.learning.map_metrics import MapMetrics, evaluate_maps
from consilium.learning.metrics import Metrics, evaluate
from consilium.learning.parameters import Vector, assign, dimension
from consilium.learning.pictures import choose_pictures
from consilium.learning.readers import Judged, ReaderComparison, compare
from consilium.learning.schedules import learning_rate
from consilium.learning.training import predict

RESULT: Final = "result.json"
MODEL: Final = "model.safetensors"
WEIGHTS: Final = "weights.txt"  # what became of the weights that the project began with
PICTURES: Final = "pictures.msgpack"  # of test records, only where the project shows them
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
        office: Whose model it will be; the file of the weights says so.
    """

    project: Project
    arm: str
    seed: int
    folder: Path
    data_folder: Path | None = None
    resume: bool = False
    processes: bool = False
    threads: int = 1
    office: Publisher | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A run with everything set up but its sites."""

    run: Run
    dataset: Dataset
    ready: Ready
    setup: Setup


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How a run went."""

    finished: Finished
    traffic: dict[tuple[int, int], SiteTraffic]
    first_attempt: int
    seconds: float


# -- Before ---------------------------------------------------------------------------


def finished_before(run: Run) -> RunResult | None:
    """Returns the result that the folder of `run` already holds, if it does.

    Raises:
        DataError: It cannot be read.
        ConfigError: It belongs to another project, arm or seed.
    """
    path = run.folder / RESULT
    if not path.exists():
        return None
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


# -- During ---------------------------------------------------------------------------


def make_hooks(stage: Stage, observer: Observer, meter: Meter) -> Hooks:
    """Returns the effects of a run: looks, checkpoints in its folder, observer and meter."""
    model = stage.ready.own_model()
    records = stage.dataset.splits.validation
    inputs, _ = stage.ready.features(records)
    checkpoint = stage.run.folder / NAME

    def look_at(round_: int, weights: Vector) -> Validation:
        assign(model, weights)
        seen = _look(predict(model, stage.ready.task, inputs), records)
        return Validation(
            round=round_, loss=seen.loss, auc=seen.auc, accuracy=seen.accuracy, dice=seen.dice
        )

    def save(progress: Progress) -> None:
        save_progress(checkpoint, progress, terms=stage.setup.terms, seed=stage.run.seed)

    return Hooks(look=look_at, save=save, on_round=observer.round_done, meter=meter)


def _look(probabilities: NDArray[np.float32], records: Records) -> Look:
    if records.has_label_maps:
        maps = records.labels.astype(np.uint8, copy=False)
        return look_at_maps(probabilities, maps, records.patients)
    return look(probabilities, records.labels.astype(np.int64, copy=False))


# -- After ----------------------------------------------------------------------------


def leave_behind(
    stage: Stage, played: Played, sites: Sequence[SiteShare], steps_charged: int
) -> RunResult:
    """Returns the result of a run, and writes it and the model into its folder.

    Args:
        stage: What was run.
        played: How it went.
        sites: What each site held, paid and sent.
        steps_charged: Most steps that any site paid for; the statement's price.
    """
    weights = final_weights(played.finished.progress)
    statement = make_statement(
        stage.setup, unit=stage.dataset.splits.unit, steps_charged=steps_charged
    )
    result = _result(stage, played, _test(stage, weights), (tuple(sites), statement))
    _write(stage, weights, result)
    return result


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    """What one look at the test records found."""

    metrics: Metrics
    maps: MapMetrics | None = None
    reader: ReaderComparison | None = None


def _test(stage: Stage, weights: Vector) -> _Tested:
    """The one look at the test records; leaves their pictures where the project shows them."""
    model, splits = stage.ready.own_model(), stage.dataset.splits
    assign(model, weights)
    inputs, _ = stage.ready.features(splits.test)
    probabilities = predict(model, stage.ready.task, inputs)
    if stage.run.project.data.test_pictures != "none":
        shown = choose_pictures(splits.test, probabilities.argmax(axis=1), splits.classes)
        write_whole(stage.run.folder / PICTURES, msgspec.msgpack.encode(shown))
    seed, patients, labels = _BOOTSTRAP_SEED, splits.test.patients, splits.test.labels
    if splits.test.has_label_maps:
        maps = labels.astype(np.uint8, copy=False)
        found = evaluate_maps(probabilities, maps, patients, splits.classes, bootstrap_seed=seed)
        return _Tested(metrics=found[0], maps=found[1])
    numbers = labels.astype(np.int64, copy=False)
    return _Tested(
        metrics=evaluate(probabilities, numbers, patients, splits.classes, bootstrap_seed=seed),
        reader=_beside_reader(stage, probabilities),
    )


def _beside_reader(stage: Stage, probabilities: NDArray[np.float32]) -> ReaderComparison | None:
    answers, test = stage.dataset.answers, stage.dataset.splits.test
    if answers is None:
        return None
    judged = Judged(
        answers=answers.labels,
        probabilities=probabilities[answers.rows].astype(np.float64),
        labels=test.labels[answers.rows].astype(np.int64),
        patients=test.patients[answers.rows],
        ordered=stage.run.project.data.classes_are_ordered,
    )
    return compare(judged, bootstrap_seed=_BOOTSTRAP_SEED)


def _result(
    stage: Stage,
    played: Played,
    tested: _Tested,
    charged: tuple[tuple[SiteShare, ...], Statement],
) -> RunResult:
    run, setup, progress = stage.run, stage.setup, played.finished.progress
    sites, statement = charged
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
        test=tested.metrics,
        test_looks=1,
        statement=statement,
        sites=sites,
        traffic=measure_traffic(setup, played.traffic, played.first_attempt),
        secure_sum="none" if setup.job is None else "SecSum",
        terms=run.project.terms(run.arm).hex(),
        duplicates=stage.dataset.duplicates,
        versions={name: version(name) for name in _PACKAGES},
        maps=tested.maps,
        reader=tested.reader,
        ordered=run.project.data.classes_are_ordered,
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
            dice=seen.dice,
            epsilon=epsilon_after(setup, seen.round + lost),
        )
        for seen in progress.history
    )


def epsilon_after(setup: Setup, steps: int) -> float | None:
    """Returns epsilon of the worst view after `steps` charges, rounded up; None without DP."""
    if setup.plan is None:
        return None
    return round_up(setup.plan.epsilon(steps, View.PARTICIPANT))


def _write(stage: Stage, weights: Vector, result: RunResult) -> None:
    if stage.ready.fitting is not None:
        write_whole(stage.run.folder / WEIGHTS, "\n".join(stage.ready.fitting.lines()).encode())
    assign(stage.ready.trained, weights)
    tensors = {k: v.contiguous() for k, v in stage.ready.model.state_dict().items()}
    facts = {
        "terms": result.terms,
        "model": result.model,
        "classes": result.classes,
        "shape": stage.dataset.splits.test.shape,
        "office": stage.run.office,
    }
    header = {"consilium": msgspec.json.encode(facts).decode()}  # one entry: their order is random
    write_whole(stage.run.folder / MODEL, save_tensors(tensors, header))
    write_whole(stage.run.folder / RESULT, msgspec.json.encode(result))
