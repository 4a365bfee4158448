# SPDX-License-Identifier: Apache-2.0
"""Whole pictures into squares: against Pillow's box filter, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from consilium.data.framing import Frame, framed
from consilium.errors import DataError


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, height, width), dtype=np.uint8)


def reduced(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    resized = Image.fromarray(image[0]).resize((size, size), Image.Resampling.BOX)
    return np.asarray(resized, np.uint8)[None]


def test_squash_is_the_mean_over_an_area() -> None:
    image = picture(48, 96)

    found = framed(image, 24, "squash")

    assert np.abs(found.astype(int) - reduced(image, 24)).max() <= 1


def test_crop_is_squash_of_the_central_square() -> None:
    image = picture(40, 60)

    assert np.array_equal(framed(image, 20, "crop"), framed(image[:, :, 10:50], 20, "squash"))


def test_pad_keeps_the_proportion() -> None:
    found = framed(np.full((3, 40, 80), 200, np.uint8), 20, "pad")

    assert (found[:, 5:15] == 200).all()
    assert found.sum() == 200 * 3 * 10 * 20


@pytest.mark.parametrize("frame", ["squash", "crop"])
def test_a_small_picture_is_refused(frame: Frame) -> None:
    with pytest.raises(DataError, match="picture of 30 x 10 px; expected 20 px or more"):
        framed(picture(10, 30), 20, frame)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(["pad", "squash", "crop"]))
def test_an_even_picture_stays_even(height: int, width: int, frame: Frame) -> None:
    size = min(height, width, 17)

    found = framed(np.full((1, height, width), 77, np.uint8), size, frame)

    assert set(np.unique(found)) <= ({0, 77} if frame == "pad" else {77})
