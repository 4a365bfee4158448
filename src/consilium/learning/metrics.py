# SPDX-License-Identifier: Apache-2.0
"""How good predictions are, with 95 % intervals over patients.

Values as scikit-learn defines them; what is undefined (the AUC of one class, the recall of a
class that does not occur) is None, never a number. Intervals resample patients, not records,
because records of one patient are not independent.

Metrics of private records are a release like any other: who shows them charges them first.
"""

from dataclasses import asdict, dataclass
from typing import Final, final

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as sk

from consilium.errors import DataError
from consilium.learning.calibration import (
    Abstention,
    Bin,
    abstentions,
    bins,
    calibration_error,
)
from consilium.learning.resampling import Floats, Interval, intervals, quadratic_kappa

SUM_TOLERANCE: Final = 1e-5  # how far a row of probabilities may sum from one

# -- Results --------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMetrics:
    """One class against all others; None where a denominator is zero."""

    name: str
    support: int
    recall: float | None
    precision: float | None
    f1: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """What `evaluate` found on some records.

    Attributes:
        records: How many were judged, of `patients` patients.
        patients: How many different patients.
        accuracy: Share of records whose most probable class is right.
        balanced_accuracy: Mean recall of the classes that occur.
        roc_auc: For two classes the AUC of the second; else the mean over classes of each
            against the rest; None where a class does not occur.
        mcc: Matthews correlation coefficient; 0 where its denominator is.
        sensitivity: Recall of the second of two classes; None with more classes.
        specificity: Recall of the first of two classes; None with more classes.
        macro_f1: Mean F1 of all classes, an undefined one counting as 0.
        weighted_f1: The same, weighted by support.
        log_loss: Mean cross-entropy in nats.
        calibration_error: Expected calibration error of the most probable class, 15 bins.
        confusion: Rows are true classes, columns are predictions.
        per_class: In the order of the labels.
        calibration: Records by confidence, of which that error is made; empty of label maps.
        abstention: What a model does that answers only where it is sure; likewise.
        quadratic_kappa: Agreement beyond chance, a mistake weighing the square of its distance:
            of classes in an order; of two classes Cohen's kappa. None of label maps, and where
            truth and prediction know one class only.
        accuracy_interval: 95 % interval over patients; None of fewer than two.
        roc_auc_interval: The same for the AUC.
        mcc_interval: The same for the Matthews correlation coefficient.
        quadratic_kappa_interval: The same for that kappa.
    """

    records: int
    patients: int
    accuracy: float
    balanced_accuracy: float
    roc_auc: float | None
    mcc: float
    sensitivity: float | None
    specificity: float | None
    macro_f1: float
    weighted_f1: float
    log_loss: float
    calibration_error: float
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassMetrics, ...]
    accuracy_interval: Interval | None
    roc_auc_interval: Interval | None
    mcc_interval: Interval | None
    calibration: tuple[Bin, ...] = ()
    abstention: tuple[Abstention, ...] = ()
    quadratic_kappa: float | None = None
    quadratic_kappa_interval: Interval | None = None

    def to_json(self) -> dict[str, object]:
        """Returns the metrics as plain dicts, tuples, numbers, text and None."""
        return asdict(self)


# -- Evaluation -----------------------------------------------------------------------


def evaluate(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    patients: NDArray[np.generic],
    classes: tuple[str, ...],
    *,
    bootstrap_seed: int,
) -> Metrics:
    """Returns the metrics of `probabilities`, whose most probable class is the prediction.

    Args:
        probabilities: Shape (n, classes), rows summing to one.
        labels: The true classes, shape (n,).
        patients: Shape (n,), text or numbers: which patient each record belongs to.
        classes: Their names, in the order of the labels.
        bootstrap_seed: Of the intervals, public.

    Raises:
        DataError: No records, shapes that differ, a label without a class, or rows that are
            not probabilities.
    """
    exact = _checked(probabilities, labels, patients, classes)
    predicted = exact.argmax(axis=1)
    per_class = _per_class(labels, predicted, classes)
    recalls = [one.recall for one in per_class]
    binary = len(classes) == 2
    found = intervals(exact, labels, patients, bootstrap_seed)
    calibration = bins(exact, labels)
    counts = sk.confusion_matrix(labels, predicted, labels=np.arange(len(classes)))
    return Metrics(
        records=len(labels),
        patients=len(np.unique(patients)),
        accuracy=float(sk.accuracy_score(labels, predicted)),
        balanced_accuracy=float(np.mean([recall for recall in recalls if recall is not None])),
        roc_auc=_roc_auc(labels, exact),
        mcc=float(sk.matthews_corrcoef(labels, predicted)),
        sensitivity=recalls[1] if binary else None,
        specificity=recalls[0] if binary else None,
        macro_f1=float(np.mean([one.f1 or 0.0 for one in per_class])),
        weighted_f1=sum((one.f1 or 0.0) * one.support for one in per_class) / len(labels),
        log_loss=_log_loss(labels, exact),
        calibration_error=calibration_error(calibration),
        confusion=tuple(tuple(int(count) for count in row) for row in counts),
        per_class=per_class,
        accuracy_interval=found.accuracy,
        roc_auc_interval=found.roc_auc,
        mcc_interval=found.mcc,
        calibration=calibration,
        abstention=abstentions(exact, labels),
        quadratic_kappa=_defined(quadratic_kappa(counts[None].astype(np.float64))[0]),
        quadratic_kappa_interval=found.quadratic_kappa,
    )


def _per_class(
    labels: NDArray[np.int64], predicted: NDArray[np.intp], classes: tuple[str, ...]
) -> tuple[ClassMetrics, ...]:
    precisions, recalls, f1s, supports = sk.precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(classes)), average=None, zero_division=np.nan
    )
    return tuple(
        ClassMetrics(
            name=name,
            support=int(supports[i]),
            recall=_defined(recalls[i]),
            precision=_defined(precisions[i]),
            f1=_defined(f1s[i]),
        )
        for i, name in enumerate(classes)
    )


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _roc_auc(labels: NDArray[np.int64], probabilities: Floats) -> float | None:
    classes = probabilities.shape[1]
    if len(np.unique(labels)) < classes:
        return None
    if classes == 2:
        return float(sk.roc_auc_score(labels, probabilities[:, 1]))
    return float(sk.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"))


def _log_loss(labels: NDArray[np.int64], probabilities: Floats) -> float:
    exact = probabilities / probabilities.sum(axis=1, keepdims=True)  # float32 sums are not
    return float(sk.log_loss(labels, exact, labels=np.arange(exact.shape[1])))


def _checked(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.int64],
    patients: NDArray[np.generic],
    classes: tuple[str, ...],
) -> Floats:
    """Returns the probabilities as float64, after the refusals that `evaluate` promises."""
    shape = (len(labels), len(classes))
    if probabilities.shape != shape or labels.shape != patients.shape or len(labels) == 0:
        raise DataError(
            f"found probabilities {probabilities.shape}, labels {labels.shape}, patients "
            f"{patients.shape}; expected {shape}, ({len(labels)},) and ({len(labels)},), and at "
            "least one record; give one row to each record and one column to each class"
        )
    if labels.min() < 0 or labels.max() >= len(classes):
        raise DataError(
            f"found labels {labels.min()} to {labels.max()}; expected 0 to {len(classes) - 1}; "
            "name every class"
        )
    valid = np.isfinite(probabilities).all() and probabilities.min() >= 0
    if not valid or np.abs(probabilities.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise DataError(
            "found rows that are not probabilities; expected numbers from 0 to 1 that sum to 1; "
            "pass the task's probabilities, not the model's outputs"
        )
    return probabilities.astype(np.float64)
