# SPDX-License-Identifier: Apache-2.0
"""Tests of the choice of a source by name or path."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.data import sources
from consilium.data.records import Unit
from consilium.data.sources import SOURCES, read_splits
from consilium.errors import DataError

Arrays = dict[str, NDArray[np.generic]]


def test_the_example_in_the_documentation_is_right() -> None:
    assert doctest.testmod(sources) == (0, 1)


def test_a_path_is_read_from_the_folder(tmp_path: Path, made_up_arrays: Arrays) -> None:
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays)

    splits = read_splits("own.npz", tmp_path, image_size=4, unit="patient")

    assert splits.train.shape == (1, 4, 4)
    assert splits.train.patient_count == 3
    assert splits.origin == "images of own.npz"


def test_an_absolute_path_needs_no_folder(tmp_path: Path, made_up_arrays: Arrays) -> None:
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays)

    splits = read_splits(str(tmp_path / "own.npz"), None, image_size=None, unit="record")

    assert splits.unit == "record"
    assert splits.train.patient_count == 6


def test_an_own_archive_with_a_patient_in_two_splits_is_refused(
    tmp_path: Path, made_up_arrays: Arrays
) -> None:
    made_up_arrays["test_groups"] = made_up_arrays["val_groups"]
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays)

    with pytest.raises(DataError, match="2 patients in both validation and test"):
        read_splits("own.npz", tmp_path, image_size=None, unit="patient")


def test_an_own_archive_of_unlike_images_is_refused(tmp_path: Path, made_up_arrays: Arrays) -> None:
    made_up_arrays["val_images"] = np.zeros((4, 9, 9), np.uint8)
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays)

    with pytest.raises(DataError, match="expected one shape"):
        read_splits("own.npz", tmp_path, image_size=None, unit="patient")


@pytest.mark.parametrize("missing", ["", "nan"])
def test_a_missing_patient_is_refused_and_not_guessed(
    tmp_path: Path, made_up_arrays: Arrays, missing: str
) -> None:
    made_up_arrays["val_groups"] = np.array(["a", "a", "b", missing])
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays)

    with pytest.raises(DataError, match=r"1 records without a patient.*never guessed"):
        read_splits("own.npz", tmp_path, image_size=None, unit="patient")


def test_an_unknown_source_is_told_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"source cifar: .*cxr64, pneumoniamnist, retinamnist"):
        read_splits("cifar", None, image_size=None, unit="record")


@pytest.mark.parametrize("source", SOURCES[:-1])
def test_a_source_of_files_needs_a_folder(source: str) -> None:
    with pytest.raises(DataError, match=r"found no data folder.*CONSILIUM_DATA"):
        read_splits(source, None, image_size=None, unit="record")


@pytest.mark.parametrize("source", SOURCES[:-1])
@pytest.mark.parametrize("unit", ["patient", "record"])
def test_a_missing_file_is_one_line(tmp_path: Path, source: str, unit: Unit) -> None:
    with pytest.raises(DataError, match=f"source {source}: found no file") as error:
        read_splits(source, tmp_path, image_size=None, unit=unit)

    assert "\n" not in str(error.value)


def test_images_are_not_enlarged() -> None:
    with pytest.raises(DataError, match="source digits: image of 8 x 8 px cannot become 16 x 16"):
        read_splits("digits", None, image_size=16, unit="record")


def test_digits_name_no_patient() -> None:
    with pytest.raises(DataError, match='set privacy_unit = "record"'):
        read_splits("digits", None, image_size=None, unit="patient")
