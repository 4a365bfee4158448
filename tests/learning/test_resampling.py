# SPDX-License-Identifier: Apache-2.0
"""Tests of the intervals: weighted metrics against scikit-learn, patients as the unit, speed."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from consilium.learning.resampling import (
    Floats,
    accuracy,
    auc,
    confusion,
    intervals,
    macro_auc,
    matthews,
)


def weights_of(count: int, seed: int) -> Floats:
    """Whole weights, shape (count, 4), among them zeros; the first two records always weigh."""
    weights = np.random.default_rng(seed).integers(0, 4, size=(count, 4)).astype(np.float64)
    weights[:2] = 1
    return weights


def probabilities_of(count: int, classes: int, seed: int) -> Floats:
    odds = np.random.default_rng(seed).integers(1, 6, size=(count, classes)).astype(np.float64)
    shares: Floats = odds / odds.sum(axis=1, keepdims=True)
    return shares


# -- Weighted metrics -----------------------------------------------------------------


@given(seed=st.integers(0, 2**32), count=st.integers(2, 30))
@settings(deadline=None)
def test_auc_equals_scikit_learn_with_sample_weights(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 8, size=count) / 8  # ties
    positive = np.concatenate([[True, False], generator.random(count - 2) < 0.5])
    weights = weights_of(count, seed)

    found = auc(scores, positive, weights)

    expected = [sk.roc_auc_score(positive, scores, sample_weight=row) for row in weights.T]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_macro_auc_equals_the_mean_of_one_against_the_rest(seed: int) -> None:
    probabilities = probabilities_of(30, 3, seed)
    labels, weights = np.arange(30) % 3, weights_of(30, seed) + 1

    found = macro_auc(probabilities, labels, weights)

    each = [
        [sk.roc_auc_score(labels == k, probabilities[:, k], sample_weight=row) for k in range(3)]
        for row in weights.T
    ]
    np.testing.assert_allclose(found, np.mean(each, axis=1), rtol=1e-12)


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 4))
@settings(deadline=None, max_examples=20)
def test_accuracy_and_correlation_equal_scikit_learn(seed: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels, predicted = generator.integers(classes, size=(2, 30))
    weights = weights_of(30, seed)

    confusions = confusion(labels, predicted, classes, weights)

    np.testing.assert_allclose(
        accuracy(confusions),
        [sk.accuracy_score(labels, predicted, sample_weight=row) for row in weights.T],
    )
    np.testing.assert_allclose(
        matthews(confusions),
        [sk.matthews_corrcoef(labels, predicted, sample_weight=row) for row in weights.T],
        atol=1e-12,
    )


@pytest.mark.parametrize("weights", [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
def test_auc_without_weight_on_one_side_is_not_a_number(weights: list[float]) -> None:
    positive = np.array([True, True, False, False])

    assert np.isnan(auc(np.arange(4.0), positive, np.array([weights]).T)).all()


def test_correlation_of_a_constant_prediction_is_zero() -> None:
    assert matthews(np.array([[[3.0, 0.0], [2.0, 0.0]]])).tolist() == [0]


# -- Intervals ------------------------------------------------------------------------


def test_interval_of_accuracy_is_near_the_normal_one() -> None:
    labels = (np.arange(1000) % 5 == 0).astype(np.int64)  # 800 of 1000 right
    always_first = np.tile([0.9, 0.1], (1000, 1))

    found = intervals(always_first, labels, np.arange(1000), seed=0).accuracy

    spread = 1.96 * (0.8 * 0.2 / 1000) ** 0.5
    assert found == pytest.approx((0.8 - spread, 0.8 + spread), abs=0.004)


def test_patients_are_resampled_whole() -> None:
    labels, patients = np.arange(1000) // 10 % 2, np.arange(1000) // 10
    probabilities = np.tile([0.9, 0.1], (1000, 1))

    whole = intervals(probabilities, labels, patients, seed=0).accuracy
    apart = intervals(probabilities, labels, np.arange(1000), seed=0).accuracy

    assert whole is not None
    assert apart is not None
    assert (whole[1] - whole[0]) / (apart[1] - apart[0]) == pytest.approx(10**0.5, rel=0.15)


def test_interval_contains_the_value() -> None:
    probabilities, labels = probabilities_of(200, 2, seed=1), np.arange(200) % 2

    found = intervals(probabilities, labels, np.arange(200), seed=0).roc_auc

    assert found is not None
    assert found[0] < sk.roc_auc_score(labels, probabilities[:, 1]) < found[1]


def test_one_seed_gives_one_interval() -> None:
    arguments = probabilities_of(50, 3, seed=1), np.arange(50) % 3, np.arange(50)

    assert intervals(*arguments, seed=4) == intervals(*arguments, seed=4)
    assert intervals(*arguments, seed=4) != intervals(*arguments, seed=5)


def test_the_names_of_patients_do_not_matter() -> None:
    probabilities, labels = probabilities_of(50, 2, seed=1), np.arange(50) % 2

    numbers = intervals(probabilities, labels, np.arange(50) // 2, seed=4)
    words = intervals(probabilities, labels, np.array([f"{i // 2:02}" for i in range(50)]), seed=4)

    assert numbers == words


def test_a_thousand_resamples_of_ten_thousand_records_are_fast() -> None:
    probabilities, labels = probabilities_of(10_000, 2, seed=1), np.arange(10_000) % 2
    started = time.process_time()

    intervals(probabilities, labels, np.arange(10_000), seed=0)

    assert time.process_time() - started < 1.5  # 0.3 s; three times as much on a busy machine
