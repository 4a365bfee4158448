# SPDX-License-Identifier: Apache-2.0
"""Tests of views: functions of one image alone, moved within bounds, never of a table."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from consilium.errors import ConfigError
from consilium.learning.augmentation import SHIFT, TURN, ZOOM, _coins, view, view_of_maps

SIDE = 32


def images(count: int, seed: int = 0, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, SIDE, SIDE, generator=generator)


def spots(rows: list[int], columns: list[int]) -> Tensor:
    """One image a place, a bell of 2 pixels there."""
    grid = torch.arange(SIDE, dtype=torch.float32)
    down = torch.exp(-((grid[None] - torch.tensor(rows)[:, None]) ** 2) / 8)
    right = torch.exp(-((grid[None] - torch.tensor(columns)[:, None]) ** 2) / 8)
    return (down[:, :, None] * right[:, None, :])[:, None]


def centre(image: Tensor) -> tuple[float, float]:
    grid = torch.arange(SIDE, dtype=torch.float32)
    mass = image[0] / image.sum()
    return float(mass.sum(1) @ grid), float(mass.sum(0) @ grid)


# -- One image alone ------------------------------------------------------------------


def test_view_zero_is_the_image() -> None:
    given_ = images(3)

    assert view(given_, 0) is given_


@given(kept=st.sets(st.integers(0, 7), min_size=1), number=st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_a_view_does_not_depend_on_other_images(kept: set[int], number: int) -> None:
    everybody = images(8)
    some = sorted(kept)

    alone = view(everybody[some], number)

    torch.testing.assert_close(alone, view(everybody, number)[some], rtol=0, atol=1e-6)


def test_views_differ_from_each_other_and_between_images() -> None:
    twice = torch.cat([view(images(2), number) for number in (0, 1, 2)])

    distances = torch.cdist(twice.flatten(1), twice.flatten(1))

    assert float((distances + 100 * torch.eye(6)).min()) > 1


def test_more_images_than_go_through_at_once_keep_their_order() -> None:
    many = images(1030)[:, :, :8, :8].contiguous()

    torch.testing.assert_close(view(many, 1)[1025:], view(many[1025:], 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_shape_and_type_stay(channels: int) -> None:
    given_ = images(2, channels=channels)

    found = view(given_, 1)

    assert (found.shape, found.dtype) == (given_.shape, torch.float32)


def test_the_channels_of_an_image_move_together() -> None:
    grey = images(2)

    found = view(grey.repeat(1, 3, 1, 1), 1)

    assert torch.equal(found[:, 0], found[:, 2])


# -- Within bounds --------------------------------------------------------------------


def test_coins_fill_their_range_evenly() -> None:
    coins = _coins(images(4000)[:, :, :4, :4].contiguous(), 1)

    assert coins.shape == (4000, 4)
    assert float(coins.abs().max()) <= 1
    torch.testing.assert_close(coins.mean(0), torch.zeros(4), rtol=0, atol=0.05)
    torch.testing.assert_close(coins.var(0), torch.full((4,), 1 / 3), rtol=0, atol=0.03)


@pytest.mark.parametrize("number", range(1, 20))
def test_the_middle_moves_by_at_most_the_shift(number: int) -> None:
    middle = (SIDE - 1) / 2

    row, column = centre(view(spots([15, 16], [16, 15]), number)[0])

    # a spot half a pixel from the middle also turns and grows with it
    assert max(abs(row - middle), abs(column - middle)) < SHIFT * SIDE * (1 + ZOOM) + 1


@pytest.mark.parametrize("number", range(1, 20))
def test_distances_change_by_at_most_the_zoom_and_lines_turn_by_at_most_the_turn(
    number: int,
) -> None:
    pair = spots([16], [10]) + spots([16], [21])

    found = view(pair, number)[0]

    left, right = found.clone(), found.clone()
    cut = round(centre(found)[1])
    left[..., cut:] = 0
    right[..., :cut] = 0
    (top, west), (bottom, east) = centre(left), centre(right)
    assert abs(math.atan2(bottom - top, east - west)) < TURN + 0.03
    assert (
        1 / (1 + ZOOM) - 0.06 < math.hypot(bottom - top, east - west) / 11 < 1 / (1 - ZOOM) + 0.06
    )


# -- Refusals -------------------------------------------------------------------------


def test_a_table_has_no_views() -> None:
    with pytest.raises(ConfigError, match="remove it for tables"):
        view(torch.zeros(3, 13), 1)


def test_a_table_is_its_own_first_view() -> None:
    assert view(torch.zeros(3, 13), 0).shape == (3, 13)


# -- Label maps -----------------------------------------------------------------------


def test_label_maps_move_with_their_images() -> None:
    pictures = spots([10, 16, 22], [20, 9, 14])
    maps = (pictures[:, 0] > 0.5).to(torch.uint8)

    moved, moved_maps = view(pictures, 2), view_of_maps(pictures, maps, 2)

    assert moved_maps.dtype == torch.uint8
    for picture, old, new in zip(moved, maps, moved_maps, strict=True):
        assert not torch.equal(old, new)
        assert centre(new[None].float()) == pytest.approx(centre(picture), abs=0.4)


def test_labels_of_view_zero_and_class_numbers_stay() -> None:
    pictures = images(3)
    maps = torch.ones(3, SIDE, SIDE, dtype=torch.uint8)

    assert view_of_maps(pictures, maps, 0) is maps
    assert view_of_maps(pictures, torch.arange(3), 4).tolist() == [0, 1, 2]
