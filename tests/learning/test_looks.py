# SPDX-License-Identifier: Apache-2.0
"""Tests of the quick look: three numbers, as scikit-learn has them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

from consilium.learning.looks import look, look_at_maps


@given(st.integers(0, 2**32 - 1))
def test_a_look_at_two_classes_equals_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1, 1], 20)
    labels = np.append(generator.integers(0, 2, 18), [0, 1])

    found = look(probabilities, labels)

    assert found.auc == pytest.approx(roc_auc_score(labels, probabilities[:, 1]))
    assert found.accuracy == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))
    assert found.loss == pytest.approx(log_loss(labels, probabilities))


def test_a_look_at_three_classes_has_the_mean_auc_of_each_against_the_rest() -> None:
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet([1, 1, 1], 30)
    labels = np.arange(30) % 3

    expected = roc_auc_score(labels, probabilities, multi_class="ovr")

    assert look(probabilities, labels).auc == pytest.approx(expected)


def test_there_is_no_auc_where_a_class_is_missing() -> None:
    found = look(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))

    assert found.auc is None
    assert found.accuracy == 0.5


def test_a_probability_of_zero_is_a_large_finite_loss() -> None:
    found = look(np.array([[1.0, 0.0]]), np.array([1]))

    assert found.loss == pytest.approx(-math.log(1e-12))


def test_single_precision_counts_as_it_is() -> None:
    found = look(np.array([[0.75, 0.25]], np.float32), np.array([0]))

    assert found.loss == pytest.approx(-math.log(0.75))


def test_a_look_at_label_maps_is_the_mean_dice_of_a_patient() -> None:
    maps = np.array([[[1, 1]], [[0, 1]], [[0, 0]]], np.uint8)
    right = np.array([[[0.9, 0.2]], [[0.2, 0.8]], [[0.1, 0.3]]])  # of class 1
    probabilities = np.stack([1 - right, right], axis=1)

    found = look_at_maps(probabilities, maps, np.array(["a", "a", "b"]))

    assert found.dice == pytest.approx(4 / 5)
    assert found.accuracy == pytest.approx(5 / 6)
    own = [0.9, 0.2, 0.8, 0.8, 0.9, 0.7]
    assert found.loss == pytest.approx(-np.log(own).mean())
    assert found.auc is None


def test_there_is_no_dice_where_nobody_has_foreground() -> None:
    nothing = np.zeros((1, 2, 2), np.uint8)
    probabilities = np.stack([np.ones((1, 2, 2)), np.zeros((1, 2, 2))], axis=1)

    assert look_at_maps(probabilities, nothing, np.array(["a"])).dice is None
