# SPDX-License-Identifier: Apache-2.0
"""How good predicted label maps are: overlap and distance by patient, and pixels as records.

The value of a patient counts once, whatever the number of slices; a class's value is the mean
over the patients where it is defined; the mean foreground value of a patient is over the
patient's own defined classes. Intervals resample patients (`resampling`).

Metrics of private records are a release like any other: who shows them charges them first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.learning.calibration import BINS
from consilium.learning.metrics import ClassMetrics, Metrics
from consilium.learning.overlap import dices, hausdorffs, ious, pixel_counts, pixel_losses
from consilium.learning.resampling import (
    QUANTILES,
    Floats,
    Interval,
    accuracy,
    matthews,
    patient_weights,
)

_AT_ONCE: Final = 64  # records, for the calibration error


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A mean over patients.

    Attributes:
        value: None where it is undefined for every patient.
        interval: 95 % over patients; None for fewer than two patients with a value.
        patients: How many have a value.
    """

    value: float | None
    interval: Interval | None
    patients: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassOverlap:
    """One foreground class."""

    name: str
    dice: Over
    iou: Over
    hausdorff95: Over


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MapMetrics:
    """Overlap of label maps by patient.

    Attributes:
        dice: Mean foreground Dice of a patient.
        iou: The same, intersection over union.
        hausdorff95: The same, 95 % Hausdorff distance in pixels (`overlap.hausdorffs`), over
            what both truth and prediction have.
        per_class: Of each class but the background.
    """

    dice: Over
    iou: Over
    hausdorff95: Over
    per_class: tuple[ClassOverlap, ...]


def evaluate_maps(
    probabilities: NDArray[np.floating],
    maps: NDArray[np.uint8],
    patients: NDArray[np.str_],
    classes: tuple[str, ...],
    *,
    bootstrap_seed: int,
) -> tuple[Metrics, MapMetrics]:
    """Returns the metrics of pixels as if each were a record, and those of patients' overlap.

    Args:
        probabilities: Shape (n, classes, h, w), summing to one over the classes.
        maps: The true classes, shape (n, h, w).
        patients: Shape (n,), whose each record is.
        classes: Their names; the first is the background.
        bootstrap_seed: Of the intervals, public.

    Raises:
        DataError: Shapes that differ, or a label without a class.
    """
    predicted = probabilities.argmax(axis=1)
    counts = pixel_counts(predicted, maps, patients, len(classes))
    weights = patient_weights(len(counts), bootstrap_seed) if len(counts) > 1 else None
    distances = hausdorffs(predicted, maps, patients, len(classes))
    return (
        _of_pixels(counts, probabilities, maps, weights, classes),
        _of_patients(counts, distances, weights, classes),
    )


# -- Patients -------------------------------------------------------------------------


def _of_patients(
    counts: NDArray[np.int64],
    distances: Floats,
    weights: Floats | None,
    classes: tuple[str, ...],
) -> MapMetrics:
    dice, iou = dices(counts), ious(counts)
    return MapMetrics(
        dice=_over(dice.foreground(), weights),
        iou=_over(iou.foreground(), weights),
        hausdorff95=_over(_mean_of_rows(distances), weights),
        per_class=tuple(
            ClassOverlap(
                name=name,
                dice=_over(dice.values[:, k], weights),
                iou=_over(iou.values[:, k], weights),
                hausdorff95=_over(distances[:, k - 1], weights),
            )
            for k, name in enumerate(classes)
            if k
        ),
    )


def _mean_of_rows(values: Floats) -> Floats:
    known = ~np.isnan(values)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), sums / np.maximum(known.sum(axis=1), 1), np.nan)


def _over(values: Floats, weights: Floats | None) -> Over:
    known = ~np.isnan(values)
    if not known.any():
        return Over(value=None, interval=None, patients=0)
    mean = float(values[known].mean())
    if weights is None or known.sum() < 2:
        return Over(value=mean, interval=None, patients=int(known.sum()))
    drawn = weights[known]
    total = drawn.sum(axis=0)
    means = (values[known] @ drawn)[total > 0] / total[total > 0]
    low, high = np.quantile(means, QUANTILES)
    return Over(value=mean, interval=(float(low), float(high)), patients=int(known.sum()))


# -- Pixels ---------------------------------------------------------------------------


def _of_pixels(
    counts: NDArray[np.int64],
    probabilities: NDArray[np.floating],
    maps: NDArray[np.uint8],
    weights: Floats | None,
    classes: tuple[str, ...],
) -> Metrics:
    whole = counts.sum(axis=0).astype(np.float64)
    per_class = _per_class(whole, classes)
    recalls = [one.recall for one in per_class]
    binary = len(classes) == 2
    f1s = np.array([one.f1 or 0.0 for one in per_class])
    supports = whole.sum(axis=1)
    return Metrics(
        records=len(maps),
        patients=len(counts),
        accuracy=float(accuracy(whole[None])[0]),
        balanced_accuracy=float(np.mean([recall for recall in recalls if recall is not None])),
        roc_auc=None,
        mcc=float(matthews(whole[None])[0]),
        sensitivity=recalls[1] if binary else None,
        specificity=recalls[0] if binary else None,
        macro_f1=float(f1s.mean()),
        weighted_f1=float(f1s @ supports / supports.sum()),
        log_loss=float(pixel_losses(probabilities, maps).mean()),
        calibration_error=_calibration_error(probabilities, maps),
        confusion=tuple(tuple(int(count) for count in row) for row in whole),
        per_class=per_class,
        accuracy_interval=_interval(counts, weights, accuracy),
        roc_auc_interval=None,
        mcc_interval=_interval(counts, weights, matthews),
    )


def _interval(
    counts: NDArray[np.int64], weights: Floats | None, measure: Callable[[Floats], Floats]
) -> Interval | None:
    if weights is None:
        return None
    drawn = np.tensordot(weights.T, counts.astype(np.float64), axes=1)
    low, high = np.quantile(measure(drawn), QUANTILES)
    return float(low), float(high)


def _per_class(whole: Floats, classes: tuple[str, ...]) -> tuple[ClassMetrics, ...]:
    right, true, found = np.diagonal(whole), whole.sum(axis=1), whole.sum(axis=0)
    return tuple(
        ClassMetrics(
            name=name,
            support=int(true[k]),
            recall=_share(right[k], true[k]),
            precision=_share(right[k], found[k]),
            f1=_share(2 * right[k], true[k] + found[k]),
        )
        for k, name in enumerate(classes)
    )


def _share(above: float, below: float) -> float | None:
    return float(above / below) if below else None


def _calibration_error(probabilities: NDArray[np.floating], maps: NDArray[np.uint8]) -> float:
    """Returns the same as `metrics` for records: 15 bins of the most probable class."""
    gaps = np.zeros(BINS)
    for start in range(0, len(maps), _AT_ONCE):
        part = probabilities[start : start + _AT_ONCE]
        confidence = part.max(axis=1).astype(np.float64).ravel()
        right = (part.argmax(axis=1) == maps[start : start + _AT_ONCE]).ravel()
        bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1).astype(np.int64)
        gaps += np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / maps.size)
