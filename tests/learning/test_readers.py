# SPDX-License-Identifier: Apache-2.0
"""Tests of a model beside a reader: scikit-learn's values, the ROC plane, pairs that differ."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as sk

from consilium.learning.readers import Judged, compare


def judged(classes: int = 2, count: int = 200, *, ordered: bool = False) -> Judged:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    odds = np.exp(logits.round(1))
    return Judged(
        answers=np.where(rng.random(count) < 0.7, labels, rng.integers(0, classes, count)),
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        labels=labels,
        patients=np.array([f"p{k // 2}" for k in range(count)]),
        ordered=ordered,
    )


def predicted(one: Judged) -> NDArray[np.intp]:
    found: NDArray[np.intp] = one.probabilities.argmax(axis=1)
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_values_equal_those_of_scikit_learn(classes: int) -> None:
    one = judged(classes)

    found = compare(one, bootstrap_seed=0)

    assert found.accuracy.value == pytest.approx(sk.accuracy_score(one.labels, one.answers))
    assert found.mcc.value == pytest.approx(sk.matthews_corrcoef(one.labels, one.answers))
    assert found.kappa.value == pytest.approx(sk.cohen_kappa_score(one.labels, one.answers))
    assert found.kappa_with_model.value == pytest.approx(
        sk.cohen_kappa_score(one.answers, predicted(one))
    )
    assert found.accuracy_gain.value == pytest.approx(
        sk.accuracy_score(one.labels, predicted(one)) - (found.accuracy.value or 0)
    )


def test_grades_have_the_quadratic_kappa() -> None:
    one = judged(4, ordered=True)

    assert compare(one, bootstrap_seed=0).kappa.value == pytest.approx(
        sk.cohen_kappa_score(one.labels, one.answers, weights="quadratic")
    )


def test_the_point_of_a_reader_and_the_model_there() -> None:
    one = judged()
    alarms, hits, _ = sk.roc_curve(one.labels, one.probabilities[:, 1], drop_intermediate=False)

    found = compare(one, bootstrap_seed=0)

    assert found.sensitivity is not None
    assert found.specificity is not None
    assert found.model_sensitivity is not None
    assert found.sensitivity.value == pytest.approx(sk.recall_score(one.labels, one.answers))
    specificity = sk.recall_score(one.labels, one.answers, pos_label=0)
    assert found.specificity.value == pytest.approx(specificity)
    assert found.model_sensitivity.value == pytest.approx(
        hits[alarms <= 1 - specificity + 1e-9].max()
    )


def test_the_curve_runs_from_corner_to_corner() -> None:
    curve = compare(judged(), bootstrap_seed=0).curve

    assert curve[0] == (0, 0)
    assert curve[-1] == (1, 1)
    assert sorted(curve) == list(curve)


def test_intervals_hold_their_values_and_repeat() -> None:
    first, second = compare(judged(), bootstrap_seed=3), compare(judged(), bootstrap_seed=3)

    low, high = first.accuracy_gain.interval or (1, 0)
    assert low < (first.accuracy_gain.value or 0) < high
    assert first == second


def test_a_model_that_answers_like_the_reader_gains_nothing() -> None:
    one = judged()
    same = Judged(
        answers=predicted(one).astype(np.int64),
        probabilities=one.probabilities,
        labels=one.labels,
        patients=one.patients,
        ordered=False,
    )

    found = compare(same, bootstrap_seed=0)

    assert found.accuracy_gain.value == 0
    assert found.accuracy_gain.interval == (0, 0)
    assert found.kappa_with_model.value == 1


def test_more_classes_have_no_point() -> None:
    found = compare(judged(3), bootstrap_seed=0)

    assert (found.sensitivity, found.curve) == (None, ())
