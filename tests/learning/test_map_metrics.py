# SPDX-License-Identifier: Apache-2.0
"""Tests of metrics of label maps: pixels as scikit-learn has them, patients counted once."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import matthews_corrcoef, precision_recall_fscore_support

from consilium.learning.map_metrics import evaluate_maps
from consilium.learning.metrics import evaluate
from consilium.learning.resampling import RESAMPLES, patient_weights

CLASSES = ("background", "anterior", "posterior")
PATIENTS = np.array([f"p{row // 4}" for row in range(24)])


def drawn(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    maps = generator.integers(0, 3, (24, 4, 5), dtype=np.uint8)
    scores = generator.dirichlet([1, 1, 1], maps.shape) + 0.6 * np.eye(3)[maps]
    return np.moveaxis(scores / scores.sum(axis=-1, keepdims=True), -1, 1), maps


def test_pixels_are_judged_as_records_are() -> None:
    probabilities, maps = drawn()

    pixels, _ = evaluate_maps(probabilities, maps, PATIENTS, CLASSES, bootstrap_seed=1)

    flat = np.moveaxis(probabilities, 1, -1).reshape(-1, 3)
    owners = np.repeat(PATIENTS, 20)
    expected = evaluate(flat, maps.ravel().astype(np.int64), owners, CLASSES, bootstrap_seed=1)
    for name in ("accuracy", "balanced_accuracy", "mcc", "macro_f1", "weighted_f1", "log_loss"):
        assert getattr(pixels, name) == pytest.approx(getattr(expected, name))
    assert pixels.calibration_error == pytest.approx(expected.calibration_error)
    assert pixels.confusion == expected.confusion
    assert pixels.per_class == expected.per_class
    assert pixels.accuracy_interval == pytest.approx(expected.accuracy_interval)
    assert pixels.mcc_interval == pytest.approx(expected.mcc_interval)
    assert (pixels.records, pixels.patients, pixels.roc_auc) == (24, 6, None)


def test_pixel_scores_equal_scikit_learn() -> None:
    probabilities, maps = drawn(1)
    predicted = probabilities.argmax(axis=1)

    pixels, _ = evaluate_maps(probabilities, maps, PATIENTS, CLASSES, bootstrap_seed=1)

    _, recalls, f1s, _ = precision_recall_fscore_support(maps.ravel(), predicted.ravel())
    assert [one.recall for one in pixels.per_class] == pytest.approx(recalls)
    assert [one.f1 for one in pixels.per_class] == pytest.approx(f1s)
    assert pixels.mcc == pytest.approx(matthews_corrcoef(maps.ravel(), predicted.ravel()))


def test_a_patient_counts_once_whatever_the_number_of_slices() -> None:
    maps = np.ones((5, 2, 2), np.uint8)
    probabilities = np.zeros((5, 2, 2, 2))
    probabilities[:4, 1], probabilities[4, 0] = 1, 1
    owners = np.array(["a", "a", "a", "a", "b"])

    _, found = evaluate_maps(probabilities, maps, owners, ("none", "organ"), bootstrap_seed=0)

    assert (found.dice.value, found.iou.value, found.dice.patients) == (0.5, 0.5, 2)
    assert (found.hausdorff95.value, found.hausdorff95.patients) == (0.0, 1)
    assert found.dice.interval == (0.0, 1.0)


def test_intervals_hold_the_value_and_repeat() -> None:
    probabilities, maps = drawn()

    first, second = (
        evaluate_maps(probabilities, maps, PATIENTS, CLASSES, bootstrap_seed=3)[1] for _ in range(2)
    )

    assert first == second
    assert [one.name for one in first.per_class] == ["anterior", "posterior"]
    for over in (first.dice, first.iou, first.hausdorff95, first.per_class[0].dice):
        assert over.value is not None
        assert over.interval is not None
        assert over.interval[0] <= over.value <= over.interval[1]


def test_what_nobody_has_is_undefined() -> None:
    maps = np.zeros((2, 2, 2), np.uint8)
    probabilities = np.zeros((2, 2, 2, 2))
    probabilities[:, 0] = 1

    _, found = evaluate_maps(
        probabilities, maps, np.array(["a", "b"]), ("none", "organ"), bootstrap_seed=0
    )

    assert (found.dice.value, found.dice.interval, found.dice.patients) == (None, None, 0)


def test_one_patient_has_no_interval() -> None:
    probabilities, maps = drawn()

    pixels, found = evaluate_maps(probabilities, maps, np.full(24, "a"), CLASSES, bootstrap_seed=0)

    assert found.dice.interval is None
    assert pixels.accuracy_interval is None


def test_each_resample_draws_as_many_patients_as_there_are() -> None:
    weights = patient_weights(7, seed=0)

    assert weights.shape == (7, RESAMPLES)
    assert set(weights.sum(axis=0).tolist()) == {7.0}
