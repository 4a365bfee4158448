# SPDX-License-Identifier: Apache-2.0
"""Tests of resizing: equal to a slow oracle of fractions, and no enlargement."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from consilium.data.resizing import overlaps, shrink
from consilium.errors import DataError


def mean_of_cell(image: NDArray[np.uint8], row: int, column: int, size: int) -> int:
    """The exact mean over one output pixel, halves up, by a loop over input pixels."""
    height, width = image.shape
    total = Fraction(0)
    for y in range(height):
        for x in range(width):
            total += (
                int(image[y, x])
                * covered(y, row, Fraction(height, size))
                * covered(x, column, Fraction(width, size))
            )
    return int((total * size * size / (height * width)) + Fraction(1, 2))


def covered(pixel: int, cell: int, length: Fraction) -> Fraction:
    """How much of an input pixel lies in an output pixel of `length` input pixels."""
    upper: Fraction = min((cell + 1) * length, Fraction(pixel + 1))
    lower: Fraction = max(cell * length, Fraction(pixel))
    return upper - lower if upper > lower else Fraction(0)


@given(arrays(np.uint8, st.tuples(st.integers(4, 7), st.integers(4, 7))), st.integers(1, 4))
def test_every_pixel_is_the_exact_mean(image: NDArray[np.uint8], size: int) -> None:
    small = shrink(image[None, None], size)[0, 0]

    expected = [[mean_of_cell(image, y, x, size) for x in range(size)] for y in range(size)]
    assert small.tolist() == expected


def test_halving_averages_squares_of_four() -> None:
    image = np.array([[[[0, 1, 9, 9], [1, 0, 9, 9], [0, 0, 255, 255], [0, 3, 255, 255]]]], np.uint8)

    assert shrink(image, 2).tolist() == [[[[1, 9], [1, 255]]]]


@pytest.mark.parametrize(("length", "size"), [(64, 28), (28, 8), (8, 32), (5, 5)])
def test_every_input_pixel_counts_once(length: int, size: int) -> None:
    weights = overlaps(length, size)

    assert weights.sum(axis=0).tolist() == [size] * length
    assert weights.sum(axis=1).tolist() == [length] * size


def test_channels_and_images_do_not_mix() -> None:
    images = np.arange(600 * 3, dtype=np.uint32).astype(np.uint8).reshape(600, 3, 1, 1)

    assert (shrink(np.broadcast_to(images, (600, 3, 4, 4)), 2) == images).all()


def test_the_same_size_changes_nothing() -> None:
    images = np.arange(18, dtype=np.uint8).reshape(2, 1, 3, 3)

    assert shrink(images, 3).tolist() == images.tolist()


@pytest.mark.parametrize("size", [0, -1, 29, 64])
def test_enlarging_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=f"28 x 28 px cannot become {size} x {size}"):
        shrink(np.zeros((2, 1, 28, 28), np.uint8), size)
