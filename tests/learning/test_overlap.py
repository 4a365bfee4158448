# SPDX-License-Identifier: Apache-2.0
"""Tests of overlap by patient: against sets of pixels, MONAI, and what is undefined."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics.meandice import compute_dice
from monai.metrics.meaniou import compute_iou
from numpy.typing import NDArray

from consilium.errors import DataError
from consilium.learning.overlap import dices, hausdorffs, ious, pixel_counts, pixel_losses

Maps = NDArray[np.uint8]


def drawn(seed: int, records: int = 6, classes: int = 3) -> tuple[Maps, Maps]:
    generator = np.random.default_rng(seed)
    shape = (records, 5, 4)
    truth = generator.integers(0, classes, shape, dtype=np.uint8)
    return np.where(generator.random(shape) < 0.5, truth, 0).astype(np.uint8), truth


def one_hot(maps: Maps, classes: int) -> torch.Tensor:
    """A patient's slices as one volume: (1, classes, slices, height, width)."""
    return torch.from_numpy(np.stack([maps == k for k in range(classes)])[None] * 1.0)


PATIENTS = np.array(["b", "a", "b", "a", "a", "b"])


@given(st.integers(0, 2**32 - 1))
def test_dice_and_iou_of_a_patients_slices_are_monais_of_the_volume(seed: int) -> None:
    predicted, truth = drawn(seed)

    counts = pixel_counts(predicted, truth, PATIENTS, 3)

    for place, patient in enumerate(("a", "b")):
        rows = patient == PATIENTS
        pair = one_hot(predicted[rows], 3), one_hot(truth[rows], 3)
        np.testing.assert_allclose(dices(counts).values[place], compute_dice(*pair)[0])
        np.testing.assert_allclose(ious(counts).values[place], compute_iou(*pair)[0])


def test_a_patients_foreground_is_the_mean_of_its_defined_classes() -> None:
    truth = np.array([[[1, 1, 0, 0]], [[1, 2, 0, 0]], [[0, 0, 0, 0]]], np.uint8)
    predicted = np.array([[[1, 0, 0, 0]], [[1, 0, 0, 0]], [[0, 0, 0, 0]]], np.uint8)

    found = dices(pixel_counts(predicted, truth, np.array(["a", "b", "c"]), 3)).foreground()

    np.testing.assert_allclose(found, [2 / 3, 0.5, np.nan])


def test_hausdorff_is_in_pixels_and_nan_where_a_class_is_absent() -> None:
    truth = np.zeros((2, 9, 9), np.uint8)
    predicted = truth.copy()
    truth[0, 2:5, 2:5], predicted[0, 2:5, 4:7] = 1, 1
    truth[1, 0, 0] = 2

    found = hausdorffs(predicted, truth, np.array(["a", "b"]), 3)

    np.testing.assert_allclose(found, [[2.0, np.nan], [np.nan, np.nan]])


def test_hausdorff_counts_across_slices() -> None:
    truth = np.zeros((5, 6, 6), np.uint8)
    predicted = truth.copy()
    truth[0, 1:3, 1:3], predicted[3, 1:3, 1:3] = 1, 1

    assert hausdorffs(predicted, truth, np.full(5, "a"), 2).tolist() == [[3.0]]


def test_loss_of_a_pixel_is_its_cross_entropy() -> None:
    probabilities = np.array([[[[0.25, 1.0]], [[0.75, 0.0]]]], np.float32)

    found = pixel_losses(probabilities, np.array([[[1, 1]]], np.uint8))

    np.testing.assert_allclose(found, [[[-np.log(0.75), -np.log(1e-12)]]])


def test_shapes_that_differ_are_refused() -> None:
    predicted, truth = drawn(0)

    with pytest.raises(DataError, match="expected one shape and a patient for each record"):
        pixel_counts(predicted[:3], truth, PATIENTS, 3)


def test_a_class_without_a_name_is_refused() -> None:
    predicted, truth = drawn(0)

    with pytest.raises(DataError, match="found class 2; expected 0 to 1"):
        pixel_counts(np.minimum(predicted, 1), truth, PATIENTS, 2)
