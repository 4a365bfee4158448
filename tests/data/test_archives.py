# SPDX-License-Identifier: Apache-2.0
"""Tests of the archive reader: each layout, and each kind of damage as one line."""

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from consilium.data.archives import read_archive
from consilium.data.preparation import prepare
from consilium.errors import DataError

Arrays = dict[str, NDArray[np.generic]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "own.npz"


@pytest.fixture
def made_up_maps(made_up_arrays: Arrays) -> Arrays:
    """The same images with a map of two classes each, in place of labels."""
    arrays: Arrays = {key: value for key, value in made_up_arrays.items() if "labels" not in key}
    for split in ("train", "val", "test"):
        arrays[f"{split}_maps"] = arrays[f"{split}_images"].astype(np.uint8) // 128
    return arrays


def test_label_maps_are_read(path: Path, made_up_maps: Arrays) -> None:
    np.savez(path, allow_pickle=False, **made_up_maps)

    raw = read_archive(path, "made up")

    assert raw.classes == ("class 0", "class 1")
    assert (raw.parts["test"].labels == made_up_maps["test_maps"]).all()
    assert prepare(raw, image_size=None, unit="patient").train.has_label_maps


def test_volumes_are_read(path: Path, made_up_maps: Arrays) -> None:
    volumes = {
        key: np.stack([value] * 4, axis=1)[:, None] if "images" in key else value
        for key, value in made_up_maps.items()
    }
    volumes |= {
        key: np.stack([value] * 4, axis=1) for key, value in made_up_maps.items() if "maps" in key
    }
    np.savez(path, allow_pickle=False, **volumes)

    splits = prepare(read_archive(path, "made up"), image_size=None, unit="patient")

    assert splits.train.shape == (1, 4, 8, 8)


def test_soft_labels_are_read(path: Path, made_up_arrays: Arrays) -> None:
    soft = np.array([[0.7, 0.3], [0.1, 0.9]] * 3)
    np.savez(path, allow_pickle=False, train_soft=soft, **made_up_arrays)

    splits = prepare(read_archive(path, "made up"), image_size=None, unit="patient")

    assert np.allclose(splits.train.targets, soft)
    assert splits.test.soft is None


def test_soft_labels_of_other_classes_are_refused(path: Path, made_up_arrays: Arrays) -> None:
    soft = np.array([[0.7, 0.2, 0.1], [0.1, 0.9, 0.0]] * 3)
    np.savez(path, allow_pickle=False, train_soft=soft, **made_up_arrays)

    with pytest.raises(DataError, match="of 3 classes; expected 2"):
        prepare(read_archive(path, "made up"), image_size=None, unit="patient")


@pytest.mark.parametrize(
    ("soft", "message"),
    [
        ([[0.7, 0.2], [0.1, 0.9]], "not probabilities"),
        ([[np.nan, 0.3], [0.1, 0.9]], "not probabilities"),
        ([[0.3, 0.7], [0.1, 0.9]], "not the most probable"),
        ([[1.0], [1.0]], "not the most probable"),
        ([[1, 0], [0, 1]], "of int64"),
    ],
)
def test_soft_labels_that_do_not_fit_are_refused(
    path: Path, made_up_arrays: Arrays, soft: list[list[float]], message: str
) -> None:
    np.savez(path, allow_pickle=False, train_soft=np.array(soft * 3), **made_up_arrays)

    with pytest.raises(DataError, match=message):
        prepare(read_archive(path, "made up"), image_size=None, unit="patient")


def test_label_maps_of_another_type_are_refused(path: Path, made_up_maps: Arrays) -> None:
    changed = {"train_maps": made_up_maps["train_maps"].astype(np.float32)}
    np.savez(path, allow_pickle=False, **(made_up_maps | changed))

    with pytest.raises(DataError, match="train_maps of float32; expected uint8"):
        read_archive(path, "made up")


def test_labels_beside_maps_are_refused(path: Path, made_up_maps: Arrays) -> None:
    np.savez(path, allow_pickle=False, train_labels=np.zeros(6, np.uint8), **made_up_maps)

    with pytest.raises(DataError, match="train_labels and train_maps; expected one of them"):
        read_archive(path, "made up")


# -- Layouts --------------------------------------------------------------------------


def test_every_column_is_read(path: Path, made_up_arrays: Arrays) -> None:
    np.savez(path, allow_pickle=False, **made_up_arrays)

    train = read_archive(path, "made up").parts["train"]

    assert train.inputs.shape == (6, 1, 8, 8)
    assert (train.inputs[:, 0] == made_up_arrays["train_images"]).all()
    assert train.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert train.patients is not None
    assert train.patients.tolist() == ["train-0"] * 2 + ["train-1"] * 2 + ["train-2"] * 2
    assert train.sites is None


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 5, 7), (6, 1, 5, 7)),
        ((6, 5, 7, 1), (6, 1, 5, 7)),
        ((6, 5, 7, 3), (6, 3, 5, 7)),
        ((6, 3, 5, 7), (6, 3, 5, 7)),
    ],
)
def test_channels_may_stand_before_or_after(
    path: Path, made_up_arrays: Arrays, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    made_up_arrays["train_images"] = np.zeros(shape, np.uint8)
    np.savez(path, allow_pickle=False, **made_up_arrays)

    assert read_archive(path, "made up").parts["train"].inputs.shape == expected


def test_patients_and_sites_may_be_numbers(path: Path, made_up_arrays: Arrays) -> None:
    made_up_arrays["train_groups"] = np.arange(6)[:, None]
    made_up_arrays["train_sites"] = np.arange(6)
    np.savez(path, allow_pickle=False, **made_up_arrays)

    train = read_archive(path, "made up").parts["train"]

    assert train.patients is not None
    assert train.sites is not None
    assert train.patients.tolist() == train.sites.tolist() == ["0", "1", "2", "3", "4", "5"]


def test_without_names_classes_are_numbered(path: Path, made_up_arrays: Arrays) -> None:
    np.savez(path, allow_pickle=False, **made_up_arrays)

    assert read_archive(path, "made up").classes == ("class 0", "class 1")


def test_names_of_classes_are_taken_from_the_file(path: Path, made_up_arrays: Arrays) -> None:
    np.savez(path, allow_pickle=False, classes=np.array(["no", "yes"]), **made_up_arrays)

    assert read_archive(path, "made up").classes == ("no", "yes")


# -- Refusals -------------------------------------------------------------------------

WRONG: dict[str, tuple[str, NDArray[np.generic], str]] = {
    "float images": ("train_images", np.zeros((6, 8, 8)), "train_images of float64"),
    "flat images": ("train_images", np.zeros((6, 64), np.uint8), r"\(6, 64\)"),
    "float labels": ("train_labels", np.zeros(6), "train_labels of float64"),
    "several labels": ("val_labels", np.zeros((4, 2), np.uint8), r"val_labels of shape \(4, 2\)"),
    "gap in labels": ("train_labels", np.array([0, 1, 9] * 2), "without a gap"),
    "huge labels": ("train_labels", np.array([0, 2**62] * 3), "without a gap"),
    "float patients": ("test_groups", np.array([1.0, np.nan, 2, 3]), "test_groups of float64"),
    "object patients": ("test_groups", np.array(["a", None, "b", "c"], dtype=object), "ValueError"),
    "both patients": ("val_patients", np.array(["a"] * 4), "val_groups and val_patients"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused(path: Path, made_up_arrays: Arrays, name: str) -> None:
    key, array, reason = WRONG[name]
    np.savez(path, **{**made_up_arrays, key: array})  # type: ignore[arg-type]  # keys are arrays

    with pytest.raises(DataError, match=reason) as error:
        read_archive(path, "made up")

    assert "\n" not in str(error.value)
    assert "own.npz" in str(error.value)


@pytest.mark.parametrize("key", ["train_images", "val_labels", "test_images"])
def test_a_missing_array_is_named(path: Path, made_up_arrays: Arrays, key: str) -> None:
    del made_up_arrays[key]
    np.savez(path, allow_pickle=False, **made_up_arrays)

    with pytest.raises(DataError, match=f"found no array {key}"):
        read_archive(path, "made up")


def test_a_missing_file_says_what_to_set(path: Path) -> None:
    with pytest.raises(DataError, match=r"found no file .*own\.npz.*set CONSILIUM_DATA"):
        read_archive(path, "made up")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04", pickle.dumps({"a": 1})])
def test_another_kind_of_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"own\.npz: found a file that cannot be read"):
        read_archive(path, "made up")


def test_a_single_array_is_refused(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))

    with pytest.raises(DataError, match="a single array"):
        read_archive(path, "made up")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_is_refused_or_harmless(
    path: Path, made_up_arrays: Arrays, data: st.DataObject
) -> None:
    np.savez_compressed(path, allow_pickle=False, **made_up_arrays)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) - 30, len(content)))])

    with contextlib.suppress(DataError):
        raw = read_archive(path, "made up")
        assert (raw.parts["train"].inputs[:, 0] == made_up_arrays["train_images"]).all()
