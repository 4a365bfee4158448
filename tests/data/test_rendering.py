# SPDX-License-Identifier: Apache-2.0
"""Tests of the public rule from values to bytes, against slow and obvious ways of saying it."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.data.made import encoded, picture

from consilium.data import rendering
from consilium.data.image_files import read_image
from consilium.data.rendering import Rendering, centres, windowed
from consilium.data.resizing import shrink, shrink_plane
from consilium.data.samples import RejectedFile, Sample
from consilium.errors import ConfigError


def sample(values: NDArray[np.float32], window: tuple[float, float] = (0, 255)) -> Sample:
    maps = (values[0] > 100).astype(np.uint8)
    return Sample(pixels=values, window=window, kind="nifti", label_map=maps)


def only(rule: Rendering, one: Sample) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    (record,) = rule.records(one)
    return record


def test_the_examples_in_the_documentation_are_right() -> None:
    assert doctest.testmod(rendering) == (0, 1)


@given(
    sides=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    target=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    seed=st.integers(0, 99),
)
def test_shrinking_is_the_mean_over_the_area(
    sides: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    height, width = min(sides[0], target[0]), min(sides[1], target[1])
    plane = np.random.default_rng(seed).integers(0, 256, (2, *sides), dtype=np.uint8)

    fine = plane.repeat(height, axis=1).repeat(width, axis=2).astype(np.int64)
    blocks = fine.reshape(2, height, sides[0], width, sides[1])
    total = sides[0] * sides[1]
    expected = (2 * blocks.sum(axis=(2, 4)) + total) // (2 * total)
    assert np.array_equal(shrink_plane(plane, height, width), expected)


@pytest.mark.parametrize("size", [1, 5, 8, 13, 16])
def test_a_plane_shrinks_as_a_batch_does(size: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)

    one_by_one = np.stack([shrink_plane(image, size, size) for image in images])

    assert np.array_equal(one_by_one, shrink(images, size))


def test_a_side_cannot_grow() -> None:
    with pytest.raises(ValueError, match="cannot grow"):
        shrink_plane(np.zeros((1, 4, 4), np.uint8), 5, 4)


def test_the_window_is_a_line_with_halves_up() -> None:
    values = np.array([-5, 0, 1, 2, 2.5, 5, 9], np.float32)

    assert windowed(values, (0, 5)).tolist() == [0, 0, 51, 102, 128, 255, 255]


def test_the_window_of_the_project_goes_before_the_file_s() -> None:
    values = np.full((1, 1, 8, 8), 50, np.float32)

    assert only(Rendering(size=8), sample(values, (0, 100)))[0].max() == 128
    assert only(Rendering(size=8, window=(0, 50)), sample(values, (0, 100)))[0].max() == 255


def test_the_longer_side_is_fitted_and_the_rest_is_black() -> None:
    inputs, labels = only(Rendering(size=8), sample(np.full((1, 1, 32, 16), 200, np.float32)))

    assert inputs.shape == (1, 8, 8)
    assert (inputs[0, :, 2:6] == 200).all()
    assert inputs.sum() == 200 * 32
    assert labels is not None
    assert np.array_equal(labels, inputs[0] // 200)


def test_grey_is_pillow_s_grey_to_the_bit() -> None:
    image = picture(1, colour=True, side=16)
    colour = read_image(encoded(image, "PNG"), "a.png")
    grey = read_image(encoded(image, "PNG"), "a.png", in_grey=True)

    rendered = only(Rendering(size=16), colour)[0]

    assert np.array_equal(rendered, grey.pixels[:, 0])
    assert np.array_equal(rendered[0], np.asarray(image.convert("L")))


def test_a_small_picture_is_not_made_larger() -> None:
    inputs, _ = only(Rendering(size=8), sample(np.full((1, 1, 4, 4), 200, np.float32)))

    assert inputs.sum() == 200 * 16


def test_colour_becomes_grey_and_grey_colour() -> None:
    red = np.zeros((3, 1, 8, 8), np.uint8)
    red[0] = 200
    one = Sample(pixels=red, window=(0, 255), kind="image")

    assert (only(Rendering(size=8), one)[0] == 60).all()
    assert np.array_equal(only(Rendering(size=8, channels=3), one)[0], red[:, 0])
    grey = sample(np.full((1, 1, 8, 8), 9, np.float32))
    assert (only(Rendering(size=8, channels=3), grey)[0] == 9).all()


@pytest.mark.parametrize(("plane", "count"), [("axial", 3), ("coronal", 5), ("sagittal", 7)])
def test_volumes_are_cut_with_their_label_maps(plane: rendering.Plane, count: int) -> None:
    values = np.random.default_rng(0).integers(0, 200, (1, 3, 5, 7)).astype(np.float32)

    records = list(Rendering(size=8, plane=plane).records(sample(values)))

    assert len(records) == count
    for inputs, labels in records:
        assert labels is not None
        assert np.array_equal(labels, inputs[0] > 100)


@pytest.mark.parametrize(("depth", "first"), [(2, 15), (4, 10), (6, 0)])
def test_a_volume_keeps_or_fits_its_depth(depth: int, first: int) -> None:
    values = np.repeat([10, 20, 30, 40], 64).reshape(1, 4, 8, 8).astype(np.float32)

    inputs, labels = only(Rendering(size=8, depth=depth), sample(values))

    assert inputs.shape == (1, depth, 8, 8)
    assert inputs[0, 0, 0, 0] == first
    assert labels is not None
    assert labels.shape == (depth, 8, 8)


def test_centres_are_symmetric() -> None:
    assert centres(7, 7).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert centres(9, 3).tolist() == [1, 4, 7]


def test_points_in_time_are_no_colours() -> None:
    values = np.zeros((5, 2, 8, 8), np.float32)

    with pytest.raises(RejectedFile, match="5 channels or points in time"):
        list(Rendering().records(Sample(pixels=values, window=(0, 1), kind="nifti")))


@pytest.mark.parametrize("setting", [{"size": 4}, {"depth": 1}, {"size": 10**6}])
def test_sizes_without_meaning_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected a size of 8 to 4096"):
        Rendering(**setting)  # type: ignore[arg-type]  # the point of the test


def test_a_window_upside_down_is_refused() -> None:
    with pytest.raises(ConfigError, match="black below white"):
        Rendering(window=(5, 5))
