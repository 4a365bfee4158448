# SPDX-License-Identifier: Apache-2.0
"""A small factory of results: everything that a report reads, and nothing was trained."""

from collections.abc import Callable
from typing import TypeAlias

import msgspec
import pytest

from consilium.federation.arms import ARMS
from consilium.federation.results import Point, RunResult, SiteShare, TrafficReport
from consilium.federation.statement import NEIGHBOURS, Guarantee, Statement
from consilium.learning.map_metrics import ClassOverlap, MapMetrics, Over
from consilium.learning.metrics import ClassMetrics, Metrics

MakeResult: TypeAlias = Callable[..., RunResult]
MakeResults: TypeAlias = Callable[..., list[RunResult]]


@pytest.fixture
def make_result() -> MakeResult:
    """Makes one result; every argument has a default."""
    return result


@pytest.fixture
def make_results() -> MakeResults:
    """Makes one result for each arm and seed."""
    return results


@pytest.fixture
def make_maps_results() -> MakeResults:
    """Makes one result of label maps for each arm and seed."""
    return maps_results


def maps_results(seeds: int = 1) -> list[RunResult]:
    classes = ("background", "head", "tail")
    return [
        msgspec.structs.replace(
            one,
            maps=map_metrics(0.8 + one.seed / 100),
            curve=tuple(msgspec.structs.replace(point, dice=0.7) for point in one.curve),
        )
        for one in results(seeds, classes)
    ]


def map_metrics(dice: float) -> MapMetrics:
    over = Over(value=dice, interval=(dice - 0.02, dice + 0.02), patients=26)
    iou = Over(value=0.66, interval=(0.6, 0.7), patients=26)
    far = Over(value=1.875, interval=(1.5, 2.25), patients=25)
    nothing = Over(value=None, interval=None, patients=0)
    return MapMetrics(
        dice=over,
        iou=iou,
        hausdorff95=far,
        per_class=(
            ClassOverlap(name="head", dice=over, iou=iou, hausdorff95=far),
            ClassOverlap(name="tail", dice=over, iou=iou, hausdorff95=nothing),
        ),
    )


def results(seeds: int = 1, classes: tuple[str, ...] = ("normal", "ill")) -> list[RunResult]:
    return [
        result(arm, seed=seed, auc=0.9 + seed / 100 if len(classes) == 2 else None, classes=classes)
        for seed in range(seeds)
        for arm in ARMS
    ]


def result(
    arm: str = "federated-dp",
    *,
    seed: int = 0,
    auc: float | None = 0.9374,
    epsilon: float = 2.5901,
    classes: tuple[str, ...] = ("normal", "ill"),
    unit: str = "patient",
) -> RunResult:
    private = ARMS[arm].private
    return RunResult(
        project="demo",
        arm=arm,
        sentence=ARMS[arm].sentence,
        seed=seed,
        model="wavelet",
        parameters=2178,
        data="made up for tests",
        classes=classes,
        reason="all rounds are done",
        rounds=10,
        attempts=10,
        seconds=4.5 + seed,
        curve=curve(auc, epsilon if private else None, seed),
        test=metrics(auc, classes),
        test_looks=1,
        statement=statement(epsilon, unit) if private else no_guarantee(unit),
        sites=tuple(share(name, classes) for name in names(arm)),
        traffic=traffic(),
        secure_sum="SecSum" if ARMS[arm].federated else "none",
        terms="c0ffee" * 10 + "c0de",
        duplicates="train/test: 0 exact, 0 near",
        versions={"consilium": "0.1.0", "torch": "2.9.0"},
    )


def names(arm: str) -> tuple[str, ...]:
    return ("site-1", "site-2", "site-3") if ARMS[arm].federated else ("all data",)


def curve(auc: float | None, epsilon: float | None, seed: int) -> tuple[Point, ...]:
    return tuple(
        Point(
            round=number,
            learning_rate=0.1,
            loss=1 / number,
            auc=None if auc is None else auc - 0.1 / number,
            accuracy=0.9 - 0.2 / number + seed / 100,
            epsilon=None if epsilon is None else epsilon * number / 10,
        )
        for number in (5, 10)
    )


def metrics(auc: float | None, classes: tuple[str, ...]) -> Metrics:
    binary = len(classes) == 2
    size = range(len(classes))
    return Metrics(
        records=624,
        patients=427,
        accuracy=0.8,
        balanced_accuracy=0.75,
        roc_auc=auc,
        mcc=-0.25,
        sensitivity=0.987 if binary else None,
        specificity=0.389 if binary else None,
        macro_f1=0.7,
        weighted_f1=0.71,
        log_loss=0.5,
        calibration_error=0.199,
        confusion=tuple(tuple(90 if i == j else 7 for j in size) for i in size),
        per_class=tuple(
            ClassMetrics(name=name, support=97, recall=0.9, precision=None, f1=0.85)
            for name in classes
        ),
        accuracy_interval=(0.75, 0.85),
        roc_auc_interval=None if auc is None else (auc - 0.02, auc + 0.02),
        mcc_interval=(-0.3, -0.2),
    )


def statement(epsilon: float, unit: str) -> Statement:
    guarantees = (
        Guarantee(view="outsider", who="anyone", epsilon=epsilon / 2, membership_advantage=0.5),
        Guarantee(view="participant", who="a site", epsilon=epsilon, membership_advantage=0.8604),
    )
    return Statement(
        private=True,
        unit=unit,
        neighbouring_relation=NEIGHBOURS,
        delta=1e-5,
        guarantees=guarantees,
        mechanism="sum of clipped gradients plus noise",
        sampling="Poisson",
        sampling_probability=0.2,
        noise_multiplier=2.3731,
        l2_clip_norm=1.0,
        steps_charged=10,
        steps_allowed=12,
        accountant="PLD, dp-accounting",
        rounding_slack=3.2e-7,
        trusted="each site, with its own data",
        public=("number of training patients, 300",),
        not_covered=("patients of the test set",),
        fails_if=("two sites pool what they know", "a site adds no noise"),
    )


def no_guarantee(unit: str) -> Statement:
    return msgspec.structs.replace(
        statement(0.0, unit),
        private=False,
        delta=None,
        guarantees=(),
        mechanism="a round of local training",
        sampling_probability=None,
        noise_multiplier=None,
        l2_clip_norm=None,
        steps_allowed=None,
        accountant="none: nothing to count",
        public=(),
        fails_if=("always: this arm makes no promise",),
    )


def share(name: str, classes: tuple[str, ...]) -> SiteShare:
    return SiteShare(
        name=name,
        patients=100,
        records=150 * len(classes),
        class_counts=(150,) * len(classes),
        charges=10,
        bytes_up=72_040,
        bytes_down=88_130,
    )


def traffic() -> TrafficReport:
    return TrafficReport(
        round_up=7204,
        round_down=8813,
        predicted_up=7204,
        predicted_down=8801,
        total=480_510,
        predicted_total=None,
        error_bound=0.16,
        ring_bits=16,
    )
