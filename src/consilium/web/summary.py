# SPDX-License-Identifier: Apache-2.0
"""Runs gathered by arm: means and standard deviations over seeds, one row for each arm.

Privacy is never averaged: epsilon, delta and the attacker's advantage are those of the seed that
spent most. Intervals are of the first seed alone: they say how far other test patients may
differ, the standard deviation says how far another training may.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal, final

from consilium.dp.plan import View
from consilium.federation.arms import ARMS, MAIN_ARM
from consilium.federation.results import RunResult
from consilium.federation.statement import Guarantee, Statement
from consilium.learning.metrics import Metrics
from consilium.learning.resampling import Interval

_ORDER: Final = {arm: place for place, arm in enumerate(ARMS)}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number over seeds.

    Attributes:
        mean: Over the seeds.
        sd: Sample standard deviation; None of a single seed.
    """

    mean: float
    sd: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """One arm over its seeds, judged on the test records.

    Attributes:
        arm: Name.
        sentence: What it is, for people.
        main: Whether it is the arm that this project is about.
        private: Whether every run of it carries a guarantee.
        seeds: In the order they were trained.
        headline: The one number to know: AUC, Dice, or accuracy where that is undefined.
        headline_name: Which of them.
        headline_interval: 95 % over patients, first seed.
        accuracy: Share of records whose class is right; of label maps, of pixels.
        auc: None where a class does not occur.
        mcc: Matthews correlation coefficient.
        sensitivity: Recall of the second of two classes; None with more classes.
        specificity: Recall of the first of two classes; None with more classes.
        macro_recall: Mean recall of the classes that occur.
        accuracy_interval: 95 % over patients, first seed.
        auc_interval: The same of the AUC.
        mcc_interval: The same of the Matthews correlation.
        quadratic_kappa: Of ordered classes; None of others, or where it is undefined.
        quadratic_kappa_interval: 95 % over patients, first seed.
        dice: Of label maps: mean foreground Dice of a patient; None where it is undefined.
        iou: The same, intersection over union.
        hausdorff95: The same, 95 % Hausdorff distance in pixels.
        dice_interval: 95 % over patients, first seed.
        iou_interval: The same of the intersection over union.
        hausdorff95_interval: The same of the distance.
        epsilon_outsider: The largest of any seed; None without a guarantee.
        epsilon_participant: The same against curious participants; None if there are none.
        delta: Of both; None without a guarantee.
        rounds: That were trained.
        seconds: That one run took.
    """

    arm: str
    sentence: str
    main: bool
    private: bool
    seeds: tuple[int, ...]
    headline: Spread
    headline_name: str
    headline_interval: Interval | None
    accuracy: Spread
    auc: Spread | None
    mcc: Spread
    sensitivity: Spread | None
    specificity: Spread | None
    macro_recall: Spread
    accuracy_interval: Interval | None
    auc_interval: Interval | None
    mcc_interval: Interval | None
    quadratic_kappa: Spread | None
    quadratic_kappa_interval: Interval | None
    dice: Spread | None
    iou: Spread | None
    hausdorff95: Spread | None
    dice_interval: Interval | None
    iou_interval: Interval | None
    hausdorff95_interval: Interval | None
    epsilon_outsider: float | None
    epsilon_participant: float | None
    delta: float | None
    rounds: Spread
    seconds: Spread


# -- Rows -----------------------------------------------------------------------------


def summary_rows(results: Sequence[RunResult]) -> tuple[ArmSummary, ...]:
    """Returns one row for each arm, in the order of `ARMS`.

    Raises:
        ValueError: There are no results, or of an arm that does not exist.
    """
    return tuple(_row(runs) for runs in by_arm(results).values())


def by_arm(results: Sequence[RunResult]) -> dict[str, tuple[RunResult, ...]]:
    """Returns the runs of each arm in the order of their seeds' training; arms as in `ARMS`.

    Raises:
        ValueError: There are no results, or of an arm that does not exist.
    """
    found = {run.arm for run in results}
    if not found or not found <= set(ARMS):
        raise ValueError(
            f"results of arms {sorted(found)}; expected at least one, all of {tuple(ARMS)}"
        )
    return {
        arm: tuple(run for run in results if run.arm == arm)
        for arm in sorted(found, key=_ORDER.__getitem__)
    }


def main_result(results: Sequence[RunResult]) -> RunResult:
    """Returns the first run of the main arm, or the first of all where that was not trained."""
    return next((run for run in results if run.arm == MAIN_ARM), results[0])


def spread(values: Iterable[float]) -> Spread:
    """Returns mean and sample standard deviation of at least one value."""
    seen = tuple(values)
    return Spread(mean=fmean(seen), sd=stdev(seen) if len(seen) > 1 else None)


def _row(runs: tuple[RunResult, ...]) -> ArmSummary:
    first, measure = runs[0], headline(runs)
    dice, iou, hausdorff95 = (_overlap(runs, name) for name in ("dice", "iou", "hausdorff95"))
    kappa = _defined(runs, lambda test: test.quadratic_kappa) if first.ordered else None
    private = all(run.statement.private for run in runs)
    return ArmSummary(
        arm=first.arm,
        sentence=first.sentence,
        main=first.arm == MAIN_ARM,
        private=private,
        seeds=tuple(run.seed for run in runs),
        headline=spread(measure.of(run)[0] for run in runs),
        headline_name=measure.name,
        headline_interval=measure.of(first)[1],
        accuracy=spread(run.test.accuracy for run in runs),
        auc=_defined(runs, lambda test: test.roc_auc),
        mcc=spread(run.test.mcc for run in runs),
        sensitivity=_defined(runs, lambda test: test.sensitivity),
        specificity=_defined(runs, lambda test: test.specificity),
        macro_recall=spread(run.test.balanced_accuracy for run in runs),
        accuracy_interval=first.test.accuracy_interval,
        auc_interval=first.test.roc_auc_interval,
        mcc_interval=first.test.mcc_interval,
        quadratic_kappa=kappa,
        quadratic_kappa_interval=first.test.quadratic_kappa_interval if kappa else None,
        dice=dice[0],
        iou=iou[0],
        hausdorff95=hausdorff95[0],
        dice_interval=dice[1],
        iou_interval=iou[1],
        hausdorff95_interval=hausdorff95[1],
        epsilon_outsider=_epsilon(runs, View.OUTSIDER) if private else None,
        epsilon_participant=_epsilon(runs, View.PARTICIPANT) if private else None,
        delta=costliest(runs).delta if private else None,
        rounds=spread(run.rounds for run in runs),
        seconds=spread(run.seconds for run in runs),
    )


def _defined(
    runs: Sequence[RunResult], measure: Callable[[Metrics], float | None]
) -> Spread | None:
    """Returns the spread of `measure`, or None if it is undefined for any seed."""
    values = [measure(run.test) for run in runs]
    defined = [value for value in values if value is not None]
    return spread(defined) if len(defined) == len(values) else None


def _overlap(
    runs: Sequence[RunResult], name: Literal["dice", "iou", "hausdorff95"]
) -> tuple[Spread | None, Interval | None]:
    """Returns the spread of a measure of label maps, None where undefined, and its interval."""
    found = [getattr(run.maps, name) for run in runs if run.maps is not None]
    values = [over.value for over in found if over.value is not None]
    if not found or len(values) < len(runs):
        return None, None
    return spread(values), found[0].interval


# -- The one number ---------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Measure:
    """What runs are compared by.

    Attributes:
        name: "AUC", "Dice" or "accuracy".
        of: A run's value on the test records, and its 95 % interval.
    """

    name: str
    of: Callable[[RunResult], tuple[float, Interval | None]]


def headline(results: Sequence[RunResult]) -> Measure:
    """Returns the Dice of label maps, else the AUC; the accuracy where some run has neither."""
    if all(run.maps is not None and run.maps.dice.value is not None for run in results):
        return Measure("Dice", _dice)
    if all(run.test.roc_auc is not None for run in results):
        return Measure("AUC", _auc)
    return Measure("accuracy", _accuracy)


def _dice(run: RunResult) -> tuple[float, Interval | None]:
    dice = None if run.maps is None else run.maps.dice
    return (0.0, None) if dice is None else (dice.value or 0.0, dice.interval)


def _auc(run: RunResult) -> tuple[float, Interval | None]:
    return run.test.roc_auc or 0.0, run.test.roc_auc_interval


def _accuracy(run: RunResult) -> tuple[float, Interval | None]:
    return run.test.accuracy, run.test.accuracy_interval


# -- Privacy --------------------------------------------------------------------------


def costliest(runs: Sequence[RunResult]) -> Statement:
    """Returns the statement of the run that spent most: what one arm may be said to promise."""
    return max((run.statement for run in runs), key=_spent)


def worst_view(statement: Statement) -> Guarantee | None:
    """Returns the guarantee of the view that learns most; None without a guarantee."""
    return max(statement.guarantees, key=lambda one: one.epsilon, default=None)


def _spent(statement: Statement) -> float:
    worst = worst_view(statement)
    return math.inf if worst is None else worst.epsilon


def _epsilon(runs: Sequence[RunResult], view: View) -> float | None:
    seen = (one for run in runs for one in run.statement.guarantees)
    return max((one.epsilon for one in seen if one.view == view), default=None)
