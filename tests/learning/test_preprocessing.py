# SPDX-License-Identifier: Apache-2.0
"""Tests of preprocessing: exact values, and bit-equal tensors alone and in a batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from consilium.data.records import Records
from consilium.errors import ConfigError, DataError
from consilium.learning.preprocessing import Preprocessing

EVERY = [Preprocessing(), Preprocessing(standardise_each_image=True)]
images = npst.arrays(np.uint8, npst.array_shapes(min_dims=4, max_dims=4, max_side=5))


def records(inputs: NDArray[np.uint8] | NDArray[np.float32]) -> Records:
    return Records(
        inputs=inputs,
        labels=np.arange(len(inputs)) % 2,
        patients=np.array([f"p{i}" for i in range(len(inputs))]),
    )


def image(*pixels: int) -> NDArray[np.uint8]:
    return np.array(pixels, dtype=np.uint8).reshape(1, 1, 1, -1)


# -- Values ---------------------------------------------------------------------------


def test_grey_levels_are_centred_and_scaled_by_public_constants() -> None:
    found = Preprocessing(mean=0.5, std=0.25).inputs(image(0, 51, 255))

    torch.testing.assert_close(found.flatten(), torch.tensor([-2.0, -1.2, 2.0]))


def test_each_image_can_be_standardised_by_its_own_mean_and_spread() -> None:
    found = Preprocessing(standardise_each_image=True).inputs(image(10, 20, 30, 40))

    expected = torch.tensor([-15.0, -5.0, 5.0, 15.0]) / 125**0.5
    torch.testing.assert_close(found.flatten(), expected)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_an_image_of_one_level_becomes_zeros(level: int) -> None:
    found = Preprocessing(standardise_each_image=True).inputs(image(level, level))

    assert found.flatten().tolist() == [0, 0]


@given(images)
def test_standardised_images_equal_the_formula(stored: NDArray[np.uint8]) -> None:
    found = Preprocessing(standardise_each_image=True).inputs(stored)

    levels = stored.astype(np.float64)
    centred = levels - levels.mean(axis=(1, 2, 3), keepdims=True)
    spread = np.maximum(levels.std(axis=(1, 2, 3), keepdims=True), 1)
    np.testing.assert_allclose(found.numpy(), centred / spread, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("preprocessing", EVERY)
def test_tables_pass_unchanged(preprocessing: Preprocessing) -> None:
    table = np.array([[1.5, -2.0], [0.0, 3.25]], dtype=np.float32)

    inputs, _ = preprocessing.tensors(records(table))

    assert inputs.numpy().tobytes() == table.tobytes()


@pytest.mark.parametrize("preprocessing", EVERY)
def test_tensors_have_the_types_that_models_take(preprocessing: Preprocessing) -> None:
    inputs, labels = preprocessing.tensors(records(np.zeros((4, 3, 2, 2), dtype=np.uint8)))

    assert (inputs.dtype, inputs.shape) == (torch.float32, (4, 3, 2, 2))
    assert (labels.dtype, labels.tolist()) == (torch.int64, [0, 1, 0, 1])


def test_tensors_are_copies() -> None:
    stored = records(np.ones((2, 2), dtype=np.float32))
    inputs, labels = Preprocessing().tensors(stored)

    inputs.zero_()
    labels.zero_()

    assert stored.inputs.min() == stored.labels.max() == 1


# -- Nothing else in the batch matters ------------------------------------------------


@pytest.mark.parametrize("preprocessing", EVERY)
@given(images)
def test_an_image_alone_is_bit_equal_to_itself_in_a_batch(
    preprocessing: Preprocessing, stored: NDArray[np.uint8]
) -> None:
    together = preprocessing.inputs(stored)

    alone = [preprocessing.inputs(stored[i : i + 1]) for i in range(len(stored))]

    assert torch.cat(alone).numpy().tobytes() == together.numpy().tobytes()


@pytest.mark.parametrize("preprocessing", EVERY)
@given(stored=images, seed=st.integers(0, 100))
def test_memory_layout_does_not_matter(
    preprocessing: Preprocessing, stored: NDArray[np.uint8], seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(stored))
    strided = np.asfortranarray(stored)[order]

    assert torch.equal(preprocessing.inputs(strided), preprocessing.inputs(stored)[order])


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored",
    [
        np.zeros((2, 3), dtype=np.uint8),
        np.zeros((2, 1, 3, 3), dtype=np.float32),
        np.zeros((2, 3), dtype=np.float64),
    ],
)
def test_inputs_of_another_kind_are_refused(stored: NDArray[np.uint8]) -> None:
    with pytest.raises(DataError, match="expected uint8 images"):
        Preprocessing().inputs(stored)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="version=2, expected 1"):
        Preprocessing(version=2)


@pytest.mark.parametrize(("mean", "std"), [(-0.1, 0.2), (127.0, 64.0), (0.5, 0.0)])
def test_constants_out_of_range_are_refused(mean: float, std: float) -> None:
    with pytest.raises(ConfigError, match="black is 0 and white is 1"):
        Preprocessing(mean=mean, std=std)
