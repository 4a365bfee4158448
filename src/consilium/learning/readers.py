# SPDX-License-Identifier: Apache-2.0
"""A model beside a human reader, on the records that both judged, with 95 % intervals.

A reader of two classes is one point on the model's ROC plane, not a curve: the fair question is how
many ill the model finds where it is allowed as many false alarms as the reader had. Differences are
of the same resampled patients, so their interval is that of a pair and not of two strangers.

Kappa is Cohen's, of graded classes with squared distances. The truth is the dataset's: where a
reader made it, agreement with that reader says nothing.
"""

from dataclasses import dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.learning.resampling import (
    Floats,
    Interval,
    accuracy,
    confusion,
    interval,
    matthews,
    quadratic_kappa,
    resamples,
    simple_kappa,
)

_CURVE: Final = 100  # points of a ROC curve that are kept


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was judged by both.

    Attributes:
        answers: The reader's classes, shape (n,).
        probabilities: The model's, shape (n, classes).
        labels: The truth, shape (n,).
        patients: Whose each record is, shape (n,), two or more.
        ordered: Whether the classes are grades.
    """

    answers: NDArray[np.int64]
    probabilities: Floats
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    ordered: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A number and its 95 % interval over patients; None where it is undefined."""

    value: float | None
    interval: Interval | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderComparison:
    """A reader and a model on the same records.

    Attributes:
        records: How many.
        patients: Of how many.
        accuracy: The reader's.
        mcc: The reader's Matthews correlation.
        kappa: The reader's agreement with the truth beyond chance.
        kappa_with_model: The reader's agreement with the model.
        model_accuracy: The model's, on these records.
        accuracy_gain: The model's less the reader's.
        sensitivity: The reader's recall of the second of two classes.
        specificity: The reader's recall of the first.
        model_sensitivity: The model's largest where its specificity is at least the reader's.
        sensitivity_gain: That less the reader's.
        curve: The model's ROC: shares of false alarms and of the ill that are found.
    """

    records: int
    patients: int
    accuracy: Value
    mcc: Value
    kappa: Value
    kappa_with_model: Value
    model_accuracy: Value
    accuracy_gain: Value
    sensitivity: Value | None = None
    specificity: Value | None = None
    model_sensitivity: Value | None = None
    sensitivity_gain: Value | None = None
    curve: tuple[tuple[float, float], ...] = ()


def compare(judged: Judged, *, bootstrap_seed: int) -> ReaderComparison:
    """Returns how a reader and a model compare; of two classes also on the ROC plane."""
    names, patient_of = np.unique(judged.patients, return_inverse=True)
    once = _measures(judged, np.ones((len(judged.labels), 1)))
    again: dict[str, list[Floats]] = {name: [] for name in once}
    for weights in resamples(patient_of, len(names), bootstrap_seed):
        for name, values in _measures(judged, weights).items():
            again[name].append(values)
    found = {
        name: Value(
            value=None if np.isnan(values[0]) else float(values[0]), interval=interval(again[name])
        )
        for name, values in once.items()
    }
    binary = judged.probabilities.shape[1] == 2
    return ReaderComparison(
        records=len(judged.labels),
        patients=len(names),
        curve=_curve(judged) if binary else (),
        **found,
    )


def _measures(judged: Judged, weights: Floats) -> dict[str, Floats]:
    """Returns every measure for each column of `weights` (n, b)."""
    classes = judged.probabilities.shape[1]
    predicted = judged.probabilities.argmax(axis=1)
    answers = judged.answers.astype(np.intp)
    reader = confusion(judged.labels, answers, classes, weights)
    model = confusion(judged.labels, predicted, classes, weights)
    both = confusion(judged.answers, predicted, classes, weights)
    kappa = quadratic_kappa if judged.ordered else simple_kappa
    measures = {
        "accuracy": accuracy(reader),
        "mcc": matthews(reader),
        "kappa": kappa(reader),
        "kappa_with_model": kappa(both),
        "model_accuracy": accuracy(model),
        "accuracy_gain": accuracy(model) - accuracy(reader),
    }
    return measures if classes > 2 else measures | _on_the_plane(judged, reader, weights)


def _on_the_plane(judged: Judged, reader: Floats, weights: Floats) -> dict[str, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        recalls = np.diagonal(reader, axis1=1, axis2=2) / reader.sum(axis=2)
    specificity, sensitivity = recalls[:, 0], recalls[:, 1]
    reached = _sensitivity_at(judged, weights, reader[:, 0, 1])
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "model_sensitivity": reached,
        "sensitivity_gain": reached - sensitivity,
    }


def _sensitivity_at(judged: Judged, weights: Floats, false_alarms: Floats) -> Floats:
    """Returns the model's largest sensitivity with at most so many false alarms, by column."""
    hits, alarms = _cumulated(judged, weights)
    allowed = np.where(alarms <= false_alarms + 1e-9, hits, 0.0).max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        reached: Floats = allowed / hits[-1]
    return reached


def _cumulated(judged: Judged, weights: Floats) -> tuple[Floats, Floats]:
    """Returns weights of the ill and of the well at and above each score, highest first, from 0."""
    scores = judged.probabilities[:, 1]
    order = np.argsort(-scores, kind="stable")
    ill = (judged.labels[order] == 1)[:, None]
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    none = np.zeros((1, weights.shape[1]))
    hits, alarms = (
        np.concatenate([none, np.cumsum(weights[order] * side, axis=0)[ends]])
        for side in (ill, ~ill)
    )
    return hits, alarms


def _curve(judged: Judged) -> tuple[tuple[float, float], ...]:
    hits, alarms = _cumulated(judged, np.ones((len(judged.labels), 1)))
    if not hits[-1, 0] or not alarms[-1, 0]:
        return ()
    kept = np.unique(np.linspace(0, len(hits) - 1, _CURVE).round().astype(int))
    return tuple(
        (float(alarm / alarms[-1, 0]), float(hit / hits[-1, 0]))
        for alarm, hit in zip(alarms[kept, 0], hits[kept, 0], strict=True)
    )
