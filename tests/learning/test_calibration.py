# SPDX-License-Identifier: Apache-2.0
"""Tests of confidence: bins against a loop, and silence where a model knows nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.learning.calibration import BINS, THRESHOLDS, abstentions, bins, calibration_error


@given(st.integers(0, 2**32 - 1))
def test_bins_hold_every_record_once_with_its_confidence(seed: int) -> None:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet([1, 1, 1], 40)
    labels = generator.integers(0, 3, 40)

    found = bins(probabilities, labels)

    assert sum(one.records for one in found) == 40
    assert all(one.low < one.confidence <= one.high for one in found)
    right = sum(one.records * one.accuracy for one in found)
    assert right == pytest.approx((probabilities.argmax(axis=1) == labels).sum())


def test_the_error_is_the_mean_gap_over_records() -> None:
    probabilities = np.array([[0.9, 0.1], [0.88, 0.12], [0.4, 0.6], [0.39, 0.61]])

    found = bins(probabilities, np.array([0, 1, 1, 1]))

    assert len(found) <= BINS
    assert calibration_error(found) == pytest.approx((2 * abs(0.5 - 0.89) + 0.4 + 0.39) / 4)


def test_confidence_on_a_border_belongs_below() -> None:
    (only,) = bins(np.array([[0.6, 0.4]]), np.array([0]))

    assert (only.low, only.high) == (8 / BINS, 9 / BINS)


def test_planted_noise_is_left_to_a_person() -> None:
    known = np.tile([0.97, 0.03], (50, 1))
    noise = np.tile([0.52, 0.48], (10, 1))
    labels = np.array([0] * 50 + [1] * 10)

    found = {one.threshold: one for one in abstentions(np.concatenate([known, noise]), labels)}

    assert found[0.5].answered == 1
    assert found[0.5].accuracy == pytest.approx(50 / 60)
    assert found[0.9].answered == pytest.approx(50 / 60)
    assert found[0.9].accuracy == 1
    assert (found[0.99].answered, found[0.99].accuracy) == (0, None)


def test_a_higher_threshold_never_answers_more() -> None:
    probabilities = np.random.default_rng(0).dirichlet([1, 1], 100)

    shares = [one.answered for one in abstentions(probabilities, np.zeros(100, np.int64))]

    assert len(shares) == len(THRESHOLDS)
    assert shares == sorted(shares, reverse=True)
