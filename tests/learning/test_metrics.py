# SPDX-License-Identifier: Apache-2.0
"""Tests of the metrics: by hand, against scikit-learn, undefined values, refusals."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as sk

from consilium.errors import DataError
from consilium.learning.metrics import Metrics, evaluate

CLASSES = ("normal", "bacterial", "viral")


def sample(
    count: int, classes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_]]:
    """Probabilities somewhat better than chance, labels with every class, two records a patient."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(classes, size=count)])
    logits = generator.normal(size=(len(labels), classes)) + np.eye(classes)[labels]
    odds = np.exp(logits.round(1))  # rounded: scores tie
    patients = np.array([f"p{i // 2}" for i in range(len(labels))])
    return odds / odds.sum(axis=1, keepdims=True), labels, patients


def judged(classes: int, seed: int = 1, count: int = 60) -> Metrics:
    return evaluate(*sample(count, classes, seed), CLASSES[:classes], bootstrap_seed=0)


def of_two(scores: list[float], labels: list[int]) -> Metrics:
    """Metrics of two classes from the scores of the second, one record a patient."""
    second = np.array(scores)
    return evaluate(
        np.stack([1 - second, second], axis=1),
        np.array(labels),
        np.arange(len(labels)),
        ("normal", "pneumonia"),
        bootstrap_seed=0,
    )


# -- Values ---------------------------------------------------------------------------


def test_two_classes_by_hand() -> None:
    found = of_two([0.9, 0.8, 0.4, 0.3, 0.7, 0.1], [1, 1, 1, 0, 0, 0])

    assert found.confusion == ((2, 1), (1, 2))
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert found.specificity == pytest.approx(2 / 3)
    assert found.mcc == pytest.approx(1 / 3)
    assert found.roc_auc == pytest.approx(8 / 9)
    assert (found.records, found.patients) == (6, 6)


@given(seed=st.integers(0, 2**32), classes=st.sampled_from([2, 3]))
@settings(max_examples=10, deadline=None)
def test_values_equal_those_of_scikit_learn(seed: int, classes: int) -> None:
    probabilities, labels, _ = sample(60, classes, seed)
    predicted = probabilities.argmax(axis=1)
    scores = probabilities[:, 1] if classes == 2 else probabilities

    found = judged(classes, seed)

    assert found.accuracy == pytest.approx(sk.accuracy_score(labels, predicted))
    assert found.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert found.roc_auc == pytest.approx(sk.roc_auc_score(labels, scores, multi_class="ovr"))
    assert found.mcc == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    assert found.log_loss == pytest.approx(sk.log_loss(labels, probabilities))
    assert found.quadratic_kappa == pytest.approx(
        sk.cohen_kappa_score(labels, predicted, weights="quadratic")
    )
    assert found.confusion == tuple(
        tuple(row) for row in sk.confusion_matrix(labels, predicted).tolist()
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_values_of_each_class_equal_those_of_scikit_learn(classes: int) -> None:
    probabilities, labels, _ = sample(60, classes, 1)
    report = sk.classification_report(
        labels, probabilities.argmax(axis=1), target_names=CLASSES[:classes], output_dict=True
    )

    found = judged(classes)

    assert {
        one.name: [one.precision, one.recall, one.f1, one.support] for one in found.per_class
    } == {name: pytest.approx(list(report[name].values())) for name in CLASSES[:classes]}
    assert found.macro_f1 == pytest.approx(report["macro avg"]["f1-score"])
    assert found.weighted_f1 == pytest.approx(report["weighted avg"]["f1-score"])


def test_quadratic_kappa_by_hand() -> None:
    grades = np.array([0, 1, 2, 2])
    found = evaluate(np.eye(3)[[0, 1, 2, 0]], grades, np.arange(4), CLASSES, bootstrap_seed=0)

    # Squared distances: 4 of one record found; 26 / 4 expected of these margins.
    assert found.quadratic_kappa == pytest.approx(1 - 4 / (26 / 4))


def test_a_nearer_grade_is_a_smaller_mistake() -> None:
    grades = np.array([0, 1, 2, 2, 0, 1])
    near, far = (
        evaluate(np.eye(3)[found], grades, np.arange(6), CLASSES, bootstrap_seed=0)
        for found in ([0, 1, 2, 1, 0, 1], [0, 1, 2, 0, 0, 1])
    )

    assert near.accuracy == far.accuracy
    assert (near.quadratic_kappa or 0) > (far.quadratic_kappa or 0)


def test_the_interval_of_kappa_holds_its_value() -> None:
    found = judged(3)

    low, high = found.quadratic_kappa_interval or (1, 0)
    assert low < (found.quadratic_kappa or 0) < high


def test_calibration_error_by_hand() -> None:
    found = of_two([0.9, 0.9, 0.9, 0.9, 0.2, 0.2], [1, 1, 1, 0, 0, 1])

    # Confidence 0.9 and right 3 of 4 times; confidence 0.8 and right 1 of 2 times.
    assert found.calibration_error == pytest.approx((4 * 0.15 + 2 * 0.3) / 6)


def test_a_sure_and_right_model_is_calibrated() -> None:
    assert of_two([0.0, 1.0], [0, 1]).calibration_error == 0


def test_a_sure_and_wrong_model_has_a_finite_log_loss() -> None:
    assert math.isfinite(of_two([0.0, 1.0], [1, 0]).log_loss)


def test_more_classes_have_no_sensitivity() -> None:
    assert (judged(3).sensitivity, judged(3).specificity) == (None, None)


def test_float32_probabilities_are_taken() -> None:
    probabilities, labels, patients = sample(60, 3, 1)

    found = evaluate(probabilities.astype(np.float32), labels, patients, CLASSES, bootstrap_seed=0)

    assert found.log_loss == pytest.approx(judged(3).log_loss, rel=1e-5)


def test_metrics_are_plain_json() -> None:
    found = judged(3)

    read = json.loads(json.dumps(found.to_json(), allow_nan=False))

    assert read["accuracy"] == found.accuracy
    assert read["per_class"][2]["name"] == "viral"
    assert read["confusion"] == [list(row) for row in found.confusion]


# -- What is undefined ----------------------------------------------------------------


def test_one_class_only_has_no_auc() -> None:
    found = of_two([0.9, 0.2, 0.8], [1, 1, 1])

    assert (found.roc_auc, found.roc_auc_interval, found.specificity) == (None, None, None)
    assert found.balanced_accuracy == found.accuracy == pytest.approx(2 / 3)


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    second = of_two([0.1, 0.2, 0.3], [0, 1, 0]).per_class[1]

    assert (second.precision, second.recall, second.f1) == (None, 0.0, 0.0)


def test_a_class_that_neither_occurs_nor_is_predicted_has_no_values() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])

    found = evaluate(
        probabilities, np.array([0, 1]), np.array(["a", "b"]), CLASSES, bootstrap_seed=0
    )

    viral = found.per_class[2]
    assert (viral.support, viral.recall, viral.precision, viral.f1) == (0, None, None, None)
    assert found.roc_auc is None
    assert found.macro_f1 == pytest.approx(2 / 3)


def test_one_patient_has_no_interval() -> None:
    probabilities, labels, _ = sample(5, 2, 1)

    found = evaluate(probabilities, labels, np.array(["a"] * 7), CLASSES[:2], bootstrap_seed=0)

    assert found.accuracy_interval is found.roc_auc_interval is found.mcc_interval is None


def test_a_constant_prediction_has_correlation_zero() -> None:
    assert of_two([0.1, 0.2, 0.3], [0, 1, 0]).mcc == 0


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probabilities", "labels", "patients", "told"),
    [
        ([[0.5, 0.5]], [0, 1], [0, 1], r"expected \(2, 2\)"),
        ([[0.2, 0.3, 0.5]], [0], [0], r"expected \(1, 2\)"),
        ([[0.5, 0.5]], [0], [0, 1], r"patients \(2,\)"),
        (np.zeros((0, 2)), [], [], "at least one record"),
        ([[0.5, 0.5]], [2], [0], "expected 0 to 1"),
        ([[0.5, 0.5]], [-1], [0], "expected 0 to 1"),
        ([[2.0, -1.0]], [0], [0], "not probabilities"),
        ([[0.9, 0.9]], [0], [0], "not probabilities"),
        ([[math.nan, 1.0]], [0], [0], "not probabilities"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    probabilities: list[list[float]], labels: list[int], patients: list[int], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        evaluate(
            np.array(probabilities),
            np.array(labels, dtype=np.int64),
            np.array(patients),
            ("normal", "pneumonia"),
            bootstrap_seed=0,
        )
