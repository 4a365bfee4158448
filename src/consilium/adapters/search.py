# SPDX-License-Identifier: Apache-2.0
"""Search for settings by Optuna: trials that are kept, pruned and gone on with.

A trial is a run in a folder that is thrown away; it ends at its last look at the validation
records, so that no trial looks at the test records. Trials are kept in a SQLite file: the same
search goes on where it stopped.

What it may read is decided before: `federation.search_space.what_it_costs`.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from consilium.adapters.coordinator_runner import RoundReport
from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.stage import Run
from consilium.adapters.training import train_arm
from consilium.errors import ConfigError, ConsiliumError
from consilium.federation.progress import Progress
from consilium.federation.project import Project, parse_project
from consilium.federation.results import RunResult
from consilium.federation.search_space import Choice, Range, Real, Whole, what_it_costs
from consilium.federation.setup import Setup
from consilium.wire import digest

DATABASE: Final = "search.db"
_STUDY: Final = "search"
_BOUND: Final = "consilium"
_BEFORE_PRUNING: Final = 5  # whole trials, before any is cut short
_TO_EXPLAIN: Final = 8  # whole trials, before importances say anything

_Optuna: TypeAlias = Any  # loaded when a search begins


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is to be searched.

    Attributes:
        project: As written.
        arm: Which arm.
        space: What varies.
        trials: How many to end with, those of before counted.
        folder: Of this search; the same one goes on.
        public_twin: Data to search on instead of the project's own, or None.
        data_folder: Where the datasets lie.
        seed: Of the search and of each trial's experiment.
        told: Is told of every trial that ended: its number, settings, and score or None where it
            was pruned or failed.
    """

    project: Project
    arm: str
    space: tuple[Range, ...]
    trials: int
    folder: Path
    public_twin: str | None = None
    data_folder: Path | None = None
    seed: int = 0
    told: Callable[[int, Mapping[str, str], float | None], None] = lambda _n, _s, _score: None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        best: Settings of the best trial, "arms.ARM.section.key" -> TOML value.
        score: Its last validation score.
        whole: Trials that came to their end.
        pruned: Those cut short because they were worse than the median at the same round.
        failed: Those whose settings were refused, or that diverged.
        importances: Share of the variance of scores that each setting explains; empty where there
            are too few trials to say.
        cost: What the search revealed of the project's patients.
    """

    best: dict[str, str]
    score: float
    whole: int
    pruned: int
    failed: int
    importances: dict[str, float]
    cost: str


def search(asked: Search) -> Found:
    """Returns what a search found, after as many trials as were asked for.

    Raises:
        PrivacyError: It would cost patients their budget.
        ConfigError: The folder holds another search, or no trial came to its end.
        ConsiliumError: The data cannot be used.
    """
    cost = what_it_costs(asked.arm, asked.project.data.source, asked.public_twin)
    if asked.trials < 1:
        raise ConfigError(f"--trials is {asked.trials}; expected 1 or more")
    project = _on_twin(asked)
    _check_space(asked, project)
    dataset = read_dataset(project.for_arm(asked.arm).data, asked.data_folder)
    optuna = _load()
    study = _study(optuna, asked)
    trial = _Trial(optuna=optuna, asked=asked, project=project, dataset=dataset)
    for _ in range(asked.trials - len(study.trials)):
        study.optimize(trial.run, n_trials=1, catch=(ConsiliumError,))
        last = study.trials[-1]
        whole = last.state is optuna.trial.TrialState.COMPLETE
        asked.told(last.number + 1, last.user_attrs, last.value if whole else None)
    return _found(optuna, study, cost)


# -- One trial ------------------------------------------------------------------------


class _Enough(Exception):
    """The last look of a trial is done."""


@final
@dataclass(slots=True, kw_only=True)
class _Watcher:
    """Reports every look of a run to its trial; ends it when it is hopeless, or done."""

    trial: _Optuna
    pruned: type[Exception]
    last: int = 0
    score: float | None = None

    def begins(self, setup: Setup, seed: int, progress: Progress) -> None:  # noqa: ARG002
        """Notes which round is the last."""
        allowed = setup.steps_allowed
        rounds = setup.agenda.rounds
        self.last = rounds if allowed is None else min(rounds, allowed)

    def round_done(self, report: RoundReport) -> None:
        """Reports the look of this round, if there was one."""
        progress = report.progress
        if progress.history and progress.history[-1].round == progress.round:
            self.score = progress.history[-1].score
            self.trial.report(self.score, progress.round)
            if progress.round < self.last and self.trial.should_prune():
                raise self.pruned
        if progress.round >= self.last and self.score is not None:
            raise _Enough

    def ends(self, result: RunResult) -> None:
        """Does nothing."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    optuna: _Optuna
    asked: Search
    project: Project
    dataset: Dataset = field(repr=False)

    def run(self, trial: _Optuna) -> float:
        """Returns the score of one trial."""
        changes = {_place(self.asked.arm, one): _suggested(trial, one) for one in self.asked.space}
        for key, value in changes.items():
            trial.set_user_attr(key, value)
        watcher = _Watcher(trial=trial, pruned=self.optuna.TrialPruned)
        with tempfile.TemporaryDirectory(prefix="consilium-trial-") as folder:
            run = Run(
                project=parse_project(self.project.resolved(), changes),
                arm=self.asked.arm,
                seed=self.asked.seed,
                folder=Path(folder),
                data_folder=self.asked.data_folder,
            )
            with suppress(_Enough):
                train_arm(run, self.dataset, watcher)
        if watcher.score is None:
            raise ConfigError("a trial ended without a look; expected one: more training.rounds")
        return watcher.score


def _place(arm: str, one: Range) -> str:
    """Returns where a setting is written: for this arm, so that no change of the arm's hides it."""
    return f"arms.{arm}.{one.key}"


def _suggested(trial: _Optuna, one: Range) -> str:
    match one:
        case Real(key=key, low=low, high=high, log=log):
            return repr(float(trial.suggest_float(key, low, high, log=log)))
        case Whole(key=key, low=low, high=high):
            return str(trial.suggest_int(key, low, high))
        case Choice(key=key, values=values):
            return str(trial.suggest_categorical(key, values))


def _on_twin(asked: Search) -> Project:
    changes = {} if asked.public_twin is None else {"data.source": asked.public_twin}
    if asked.project.for_arm(asked.arm).stopping.patience is not None:
        raise ConfigError(
            "stopping.patience is set; expected none in a search, where every trial that is not "
            "pruned has the same rounds: remove it and set training.rounds"
        )
    return parse_project(asked.project.resolved(), changes)


def _check_space(asked: Search, project: Project) -> None:
    """Refuses a setting that does not exist, before anything is trained."""
    own = project.for_arm(asked.arm)
    for one in asked.space:
        section, key = one.key.split(".")
        known = getattr(own, section, None)
        if known is not None and not hasattr(known, key):
            raise ConfigError(
                f"--space names {one.key!r}, which does not exist; expected one of "
                f"{', '.join(type(known).__struct_fields__)}"
            )


# -- The study ------------------------------------------------------------------------


def _load() -> _Optuna:
    try:
        optuna = import_module("optuna")
    except ImportError:
        raise ConfigError(
            "a search needs optuna, which is not installed; expected the extra: "
            "pip install 'consilium[search]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _study(optuna: _Optuna, asked: Search) -> _Optuna:
    """Returns the study in the folder, new or begun before.

    Raises:
        ConfigError: What was begun there is another search.
    """
    asked.folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=f"sqlite:///{asked.folder / DATABASE}",
        study_name=_STUDY,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_BEFORE_PRUNING),
    )
    study.sampler = optuna.samplers.TPESampler(seed=asked.seed + len(study.trials))
    terms = digest(
        "search", asked.project.terms(asked.arm), asked.arm, repr(asked.space),
        asked.public_twin or "", asked.seed,
    ).hex()  # fmt: skip
    if study.user_attrs.get(_BOUND, terms) != terms:
        raise ConfigError(
            f"folder {asked.folder.name} holds another search; expected the same project, arm, "
            "space, data and seed to go on with: choose another --out"
        )
    study.set_user_attr(_BOUND, terms)
    return study


def _found(optuna: _Optuna, study: _Optuna, cost: str) -> Found:
    states = optuna.trial.TrialState
    counts = {state: len(study.get_trials(states=(state,))) for state in states}
    if not counts[states.COMPLETE]:
        raise ConfigError(
            f"{counts[states.FAIL]} trials failed and none came to its end; expected one: try "
            "consilium train with settings of this space, it says why"
        )
    return Found(
        best=dict(study.best_trial.user_attrs),
        score=study.best_value,
        whole=counts[states.COMPLETE],
        pruned=counts[states.PRUNED],
        failed=counts[states.FAIL],
        importances=_importances(optuna, study.get_trials(states=(states.COMPLETE,)), study),
        cost=cost,
    )


def _importances(optuna: _Optuna, whole: Sequence[_Optuna], study: _Optuna) -> dict[str, float]:
    if len(whole) < _TO_EXPLAIN or len({trial.value for trial in whole}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {key: float(share) for key, share in shares.items()}
