# SPDX-License-Identifier: Apache-2.0
"""Tests of the medical image sets: PneumoniaMNIST's patients, and the real files."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.data.duplicates import find_duplicates
from consilium.data.imaging import read_pneumoniamnist, read_retinamnist
from consilium.data.sources import read_splits
from consilium.errors import DataError

Arrays = dict[str, NDArray[np.generic]]

TABLE = """split,index,label,group
train,0,0,a
train,1,1,b
train,2,0,c
train,3,1,d
train,4,0,e
train,5,1,f
val,0,0,b
val,1,1,g
val,2,0,h
val,3,1,a
test,0,0,i
test,1,1,
test,2,0,j
test,3,1,j
"""


@pytest.fixture
def folder(tmp_path: Path, made_up_arrays: Arrays) -> Path:
    """The reordered archive with its table; two validation images belong to training patients."""
    (tmp_path / "medmnist").mkdir()
    plain = {key: array for key, array in made_up_arrays.items() if "groups" not in key}
    archive = tmp_path / "medmnist" / "pneumoniamnist_reordered.npz"
    np.savez(archive, allow_pickle=False, **plain)
    archive.with_name("pneumoniamnist_patients.csv").write_text(TABLE)
    return tmp_path


# -- PneumoniaMNIST -------------------------------------------------------------------


def test_validation_images_of_training_patients_move_to_training(folder: Path) -> None:
    splits = read_splits("pneumoniamnist", folder, image_size=None, unit="patient")

    assert splits.train.patients.tolist() == ["a", "b", "c", "d", "e", "f", "b", "a"]
    assert splits.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert splits.validation.patients.tolist() == ["g", "h"]


def test_images_without_a_patient_are_left_out(folder: Path) -> None:
    splits = read_splits("pneumoniamnist", folder, image_size=None, unit="patient")

    assert splits.test.patients.tolist() == ["i", "j", "j"]


def test_what_was_moved_and_left_out_is_said(folder: Path) -> None:
    origin = read_splits("pneumoniamnist", folder, image_size=None, unit="patient").origin

    assert "2 validation images moved to training" in origin
    assert "images without a patient left out: 1 test" in origin


def test_under_unit_record_the_official_division_stays(folder: Path) -> None:
    splits = read_splits("pneumoniamnist", folder, image_size=None, unit="record")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 4, 4]


@pytest.mark.parametrize("place", ["pneumoniamnist.npz", "medmnist/pneumoniamnist.npz"])
def test_the_official_file_names_no_patient(folder: Path, place: str) -> None:
    (folder / "medmnist" / "pneumoniamnist_reordered.npz").rename(folder / place)

    with pytest.raises(DataError, match="source pneumoniamnist: found no patient identifiers"):
        read_splits("pneumoniamnist", folder, image_size=None, unit="patient")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("train,3,1,d", "train,3,0,d", "train labels in the patient table that are not those"),
        ("val,1,1,g", "val,2,1,g", "rows of val out of order"),
        ("split,index,label,group", "split,index,label,person", "columns split, index, label"),
        ("test,3,1,j\n", "", "test labels in the patient table"),
        (TABLE, "", "columns split, index, label"),
        ("a\n", "a\udcff\n", "cannot be read"),
    ],
)
def test_a_table_of_other_images_is_refused(folder: Path, old: str, new: str, reason: str) -> None:
    table = folder / "medmnist" / "pneumoniamnist_patients.csv"
    table.write_bytes(TABLE.replace(old, new).encode(errors="surrogateescape"))

    with pytest.raises(DataError, match=reason):
        read_pneumoniamnist(folder, "patient")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*retinamnist\.npz"):
        read_retinamnist(tmp_path)


# -- Real files -----------------------------------------------------------------------


@pytest.mark.data
def test_real_chest_x_rays(real_data: Path) -> None:
    splits = read_splits("cxr64", real_data, image_size=32, unit="patient")

    assert splits.train.class_counts(2).tolist() == [1213, 3576]
    assert splits.validation.class_counts(2).tolist() == [136, 307]
    assert splits.test.class_counts(2).tolist() == [234, 390]
    assert splits.train.patient_count == 2588
    assert splits.train.shape == (1, 32, 32)


@pytest.mark.data
def test_real_chest_x_rays_share_no_copy_between_splits(real_data: Path) -> None:
    splits = read_splits("cxr64", real_data, image_size=None, unit="patient")

    report = find_duplicates(splits)

    assert (report.exact_count, report.near_count) == (0, 0)


@pytest.mark.data
def test_real_pneumoniamnist_with_patients(real_data: Path) -> None:
    splits = read_splits("pneumoniamnist", real_data, image_size=None, unit="patient")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        5049,
        183,
        557,
    ]
    assert "341 validation images moved" in splits.origin
    assert "left out: 67 test" in splits.origin


@pytest.mark.data
def test_real_retinamnist(real_data: Path) -> None:
    splits = read_splits("retinamnist", real_data, image_size=None, unit="record")

    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        1080,
        120,
        400,
    ]
    assert splits.train.shape == (3, 28, 28)
    assert splits.test.class_counts(5).tolist() == [174, 46, 92, 68, 20]
