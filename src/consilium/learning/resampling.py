# SPDX-License-Identifier: Apache-2.0
"""95 % intervals of accuracy, AUC, Matthews correlation and kappa, by resampling patients.

A resample draws as many patients as there are, with replacement; all records of a patient
come along. It is kept as a weight for each record, so that one matrix holds many resamples
and each metric is a few array operations over all of them.

The interval is from the 2.5 % to the 97.5 % quantile (the percentile bootstrap): honest for
hundreds of patients, too narrow for a dozen. Source: Efron and Tibshirani 1993, chapter 13.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Interval: TypeAlias = tuple[float, float]

RESAMPLES: Final = 1000
TOGETHER: Final = 100  # resamples in memory at once
QUANTILES: Final = (0.025, 0.975)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """95 % intervals; None for fewer than two patients, or where no resample has a value."""

    accuracy: Interval | None
    roc_auc: Interval | None
    mcc: Interval | None
    quadratic_kappa: Interval | None


def intervals(
    probabilities: Floats, labels: NDArray[np.int64], patients: NDArray[np.generic], seed: int
) -> Intervals:
    """Returns the intervals over patients.

    Args:
        probabilities: Shape (n, classes), rows summing to one.
        labels: Shape (n,), below the number of classes.
        patients: Shape (n,), which patient each record belongs to.
        seed: Of the resampling, public: the same arguments give the same intervals.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    if len(names) < 2:
        return Intervals(accuracy=None, roc_auc=None, mcc=None, quadratic_kappa=None)
    classes = probabilities.shape[1]
    accuracies, aucs, mccs, kappas = [], [], [], []
    for weights in resamples(patient_of, len(names), seed):
        confusions = confusion(labels, probabilities.argmax(axis=1), classes, weights)
        accuracies.append(accuracy(confusions))
        mccs.append(matthews(confusions))
        kappas.append(quadratic_kappa(confusions))
        aucs.append(macro_auc(probabilities, labels, weights))
    return Intervals(
        accuracy=interval(accuracies),
        roc_auc=interval(aucs),
        mcc=interval(mccs),
        quadratic_kappa=interval(kappas),
    )


def patient_weights(patients: int, seed: int) -> Floats:
    """Returns how often each patient was drawn in each resample, shape (patients, `RESAMPLES`)."""
    return np.concatenate(list(resamples(np.arange(patients), patients, seed)), axis=1)


def resamples(patient_of: NDArray[np.intp], patients: int, seed: int) -> Iterator[Floats]:
    """Yields record weights, shape (n, `TOGETHER`): how often each one's patient was drawn."""
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES // TOGETHER):
        drawn = generator.integers(patients, size=(TOGETHER, patients), dtype=np.int32)
        counts = [np.bincount(row, minlength=patients) for row in drawn]
        yield np.stack(counts, axis=1).astype(np.float64)[patient_of]


def interval(parts: list[Floats]) -> Interval | None:
    """Returns the interval of a metric's values over resamples; NaN is no value."""
    values = np.concatenate(parts)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return None
    low, high = np.quantile(values, QUANTILES)
    return float(low), float(high)


# -- Metrics of weighted records ------------------------------------------------------


def confusion(
    labels: NDArray[np.int64], predicted: NDArray[np.intp], classes: int, weights: Floats
) -> Floats:
    """Returns a confusion matrix for each column of `weights` (n, b): (b, classes, classes)."""
    cells = np.eye(classes * classes)[labels * classes + predicted]
    counts: Floats = weights.T @ cells
    return counts.reshape(-1, classes, classes)


def accuracy(confusions: Floats) -> Floats:
    """Returns the share of weight on the diagonal of each of (b, classes, classes)."""
    return _divide(np.trace(confusions, axis1=1, axis2=2), confusions.sum(axis=(1, 2)))


def matthews(confusions: Floats) -> Floats:
    """Returns the Matthews correlation of each of (b, classes, classes), 0 where undefined.

    Source: Gorodkin 2004, equation 8.
    """
    total = confusions.sum(axis=(1, 2))
    correct = np.trace(confusions, axis1=1, axis2=2)
    true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    covariance = correct * total - (true * predicted).sum(axis=1)
    spread = (total**2 - (true**2).sum(axis=1)) * (total**2 - (predicted**2).sum(axis=1))
    correlations = _divide(covariance, np.sqrt(spread))
    return np.where(np.isnan(correlations), 0.0, correlations)


def quadratic_kappa(confusions: Floats) -> Floats:
    """Returns Cohen's kappa with squared distances of each of (b, classes, classes).

    NaN where truth and prediction together know one class only. Source: Cohen 1968.
    """
    steps = np.arange(confusions.shape[1])
    return _kappa(confusions, (steps[:, None] - steps) ** 2)


def simple_kappa(confusions: Floats) -> Floats:
    """Returns Cohen's kappa of each of (b, classes, classes); NaN as above. Source: Cohen 1960."""
    return _kappa(confusions, 1 - np.eye(confusions.shape[1], dtype=np.int64))


def _kappa(confusions: Floats, distances: NDArray[np.int64]) -> Floats:
    true, predicted = confusions.sum(axis=2), confusions.sum(axis=1)
    by_chance = (
        true[:, :, None] * predicted[:, None, :] / confusions.sum(axis=(1, 2))[:, None, None]
    )
    found, expected = ((distances * part).sum(axis=(1, 2)) for part in (confusions, by_chance))
    kappas: Floats = 1 - _divide(found, expected)
    return kappas


def macro_auc(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Returns an AUC for each column of `weights` (n, b): of the second of two, else macro.

    NaN where a class has no weight.
    """
    classes = probabilities.shape[1]
    judged = [1] if classes == 2 else range(classes)
    aucs = [auc(probabilities[:, label], labels == label, weights) for label in judged]
    means: Floats = np.stack(aucs).mean(axis=0)
    return means


def auc(scores: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Returns an AUC for each column of `weights`: P(positive scores higher) + P(tie) / 2.

    Args:
        scores: Shape (n,).
        positive: Shape (n,).
        weights: Shape (n, b), not negative.

    Returns:
        Shape (b,); NaN where the positive or the negative records have no weight.
    """
    order = np.argsort(scores, kind="stable")
    above, under = order[positive[order]], order[~positive[order]]
    heavier, lighter = weights[above], weights[under]
    below = np.zeros((len(under) + 1, weights.shape[1]))  # weight of the first k negative records
    np.cumsum(lighter, axis=0, out=below[1:])
    less = np.searchsorted(scores[under], scores[above], side="left")
    not_more = np.searchsorted(scores[under], scores[above], side="right")
    wins = np.einsum("pb,pb->b", heavier, below[less] + below[not_more]) / 2
    return _divide(wins, heavier.sum(axis=0) * below[-1])


def _divide(numerators: Floats, denominators: Floats) -> Floats:
    """Returns the quotients, NaN where the denominator is zero."""
    result = np.full(numerators.shape, np.nan)
    np.divide(numerators, denominators, out=result, where=denominators > 0)
    return result
