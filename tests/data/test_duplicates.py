# SPDX-License-Identifier: Apache-2.0
"""Tests of the search for copies: planted ones are found, strangers are not."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.data import duplicates
from consilium.data.duplicates import contents, find_copies, find_duplicates
from consilium.data.records import SPLITS, Records, Splits

SMOOTH = np.kron(
    np.random.default_rng(0).integers(0, 200, (60, 1, 8, 8), dtype=np.uint8),
    np.ones((4, 4), np.uint8),
)


def part(name: str, inputs: NDArray[np.uint8] | NDArray[np.float32]) -> Records:
    return Records(
        inputs=inputs,
        labels=np.zeros(len(inputs), np.int64),
        patients=np.array([f"{name}-{i}" for i in range(len(inputs))]),
    )


def splits(images: NDArray[np.uint8] | NDArray[np.float32]) -> Splits:
    return Splits(
        train=part("train", images[:20]),
        validation=part("validation", images[20:40]),
        test=part("test", images[40:]),
        classes=("no", "yes"),
        unit="patient",
        origin="made up",
    )


def noisy(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, 3, image.shape)
    return np.clip(0.9 * image + 10 + noise, 0, 255).astype(np.uint8)


def test_strangers_are_not_paired() -> None:
    report = find_duplicates(splits(SMOOTH))

    assert (report.exact_count, report.near_count) == (0, 0)


def test_a_planted_exact_copy_is_found_with_its_rows() -> None:
    images = SMOOTH.copy()
    images[47] = images[3]

    report = find_duplicates(splits(images))

    assert report.summary() == (
        "train/validation: 0 exact, 0 near; train/test: 1 exact, 0 near; "
        "validation/test: 0 exact, 0 near"
    )
    assert report.overlaps[1].exact.tolist() == [[3, 7]]


def test_a_planted_near_copy_is_found_with_its_rows() -> None:
    images = SMOOTH.copy()
    images[25] = noisy(images[19])

    report = find_duplicates(splits(images))

    assert (report.exact_count, report.near_count) == (0, 1)
    assert report.overlaps[0].near.tolist() == [[19, 5]]


def test_every_copy_of_a_copy_is_found() -> None:
    images = SMOOTH.copy()
    images[[4, 21, 22, 50]] = images[3]

    report = find_duplicates(splits(images))

    assert [len(pair.exact) for pair in report.overlaps] == [4, 2, 2]


def test_copies_within_a_split_are_not_reported() -> None:
    images = SMOOTH.copy()
    images[4] = images[3]

    assert find_duplicates(splits(images)).exact_count == 0


def test_near_copies_can_be_asked_to_agree_in_every_bit() -> None:
    images = SMOOTH.copy()
    images[19, 0, :4, :4] = images[19, 0, 0, 4] - 2
    images[25] = images[19]
    images[25, 0, :4, :4] = images[19, 0, 0, 4] + 2

    assert find_duplicates(splits(images), max_distance=8).near_count == 1
    assert find_duplicates(splits(images), max_distance=0).near_count == 0


def test_a_negative_is_no_near_copy() -> None:
    images = SMOOTH.copy()
    images[25] = 255 - images[19]

    assert find_duplicates(splits(images), max_distance=64).near_count == 0


def test_rows_are_right_beyond_the_first_chunk() -> None:
    rng = np.random.default_rng(2)
    tiles = rng.integers(0, 255, (700, 3, 8, 8), dtype=np.uint8)
    whole = replace(splits(tiles[:60]), train=part("train", tiles), test=part("test", tiles[:2]))
    whole = replace(whole, validation=part("validation", tiles[[650, 601]]))

    assert find_duplicates(whole).overlaps[0].exact.tolist() == [[601, 1], [650, 0]]


def test_blank_images_are_no_near_copies() -> None:
    images = np.zeros_like(SMOOTH)
    images += np.arange(60, dtype=np.uint8)[:, None, None, None]

    assert find_duplicates(splits(images)).near_count == 0


def test_equal_rows_of_a_table_are_found() -> None:
    rows = np.arange(120, dtype=np.float32).reshape(60, 2)
    rows[59] = rows[0]

    assert find_duplicates(splits(rows)).overlaps[1].exact.tolist() == [[0, 19]]


def test_the_report_shows_counts_alone() -> None:
    images = SMOOTH.copy()
    images[47] = images[3]

    report = find_duplicates(splits(images))

    assert "train-3" not in repr(report)
    assert "train-3" not in report.summary()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_contents_are_equal_only_for_equal_bytes(dtype: type[np.uint8]) -> None:
    first, second, third = contents(np.array([[0, 1], [1, 0], [0, 1]], dtype))

    assert first == third
    assert first != second


def test_a_flood_of_equal_images_is_cut_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "MOST_PAIRS", 7)
    black = {name: np.zeros((5, 1, 8, 8), np.uint8) for name in SPLITS}

    report = find_copies(black)

    assert [len(overlap.exact) for overlap in report.overlaps] == [7, 7, 7]
    assert report.summary().startswith("train/validation: at least 7 exact")
