# SPDX-License-Identifier: Apache-2.0
"""Tests of the hippocampus reader: made-up volumes, damaged files, and the real ones."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.data.hippocampus import EVERY, FRAME, read_hippocampus
from consilium.data.sources import read_splits
from consilium.errors import DataError

VOLUMES = 20
SHAPE = (7, 12, 10)  # to the right, to the front, up


def save(path: Path, volume: NDArray[np.generic], *, right: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([right, 1.0, 1.0, 1.0])), path)


def image(root: Path, number: int) -> Path:
    return root / "hippocampus" / "images" / f"hippocampus_{number:03d}.nii.gz"


def label(root: Path, number: int) -> Path:
    return root / "hippocampus" / "labels" / f"hippocampus_{number:03d}.nii.gz"


def loaded(path: Path) -> NDArray[np.float64]:
    return np.asarray(nibabel.Nifti1Image.from_filename(path).dataobj, np.float64)


def save_pair(root: Path, volume: NDArray[np.generic]) -> None:
    save(image(root, 3), volume)
    save(label(root, 3), volume)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty volumes, each ten times as bright as the one before the last."""
    rng = np.random.default_rng(0)
    for number in range(VOLUMES):
        grey = rng.random(SHAPE).astype(np.float32) * 10.0 ** (number // 2)
        save(image(tmp_path, number), grey)
        save(label(tmp_path, number), rng.integers(0, 3, SHAPE, dtype=np.uint8))
    return tmp_path


# -- Volumes --------------------------------------------------------------------------


def test_a_volume_is_a_patient_and_is_in_one_split(folder: Path) -> None:
    splits = read_splits("hippocampus", folder, image_size=None, unit="patient")

    sizes = [splits.part(name).patient_count for name in ("train", "validation", "test")]
    assert sizes == [16, 2, 2]
    assert splits.classes == ("background", "anterior", "posterior")
    assert (len(splits.train), len(splits.test)) == (16 * 3, 2 * 7)
    assert splits.train.shape == (3, *FRAME)
    assert splits.train.has_label_maps


def test_a_slice_lies_in_the_middle_from_above_with_its_map(folder: Path) -> None:
    grey = np.zeros(SHAPE, np.float32)
    maps = np.zeros(SHAPE, np.uint8)
    grey[3, 11, 9], maps[3, 11, 9] = 1, 2  # in front, above
    save(image(folder, 0), grey)
    save(label(folder, 0), maps)

    part = next(p for p in read_hippocampus(folder).parts.values() if _holds(p.patients, 0))

    assert part.patients is not None
    own = part.patients == "hippocampus_000"
    found = np.argwhere(part.labels[own] == 2)
    assert found[:, 1:].tolist() == [[(FRAME[0] - SHAPE[2]) // 2, (FRAME[1] - SHAPE[1]) // 2 + 11]]


def _holds(patients: NDArray[np.str_] | None, number: int) -> bool:
    return patients is not None and f"hippocampus_{number:03d}" in patients


def test_a_slice_brings_its_neighbours(folder: Path) -> None:
    test = read_splits("hippocampus", folder, image_size=None, unit="patient").test

    first = test.inputs[: SHAPE[0]]
    np.testing.assert_array_equal(first[1:, 1], first[:-1, 0])
    np.testing.assert_array_equal(first[:-1, 2], first[1:, 0])
    assert not first[0, 1].any()
    assert not first[-1, 2].any()


def test_training_takes_every_third_slice(folder: Path) -> None:
    train = read_splits("hippocampus", folder, image_size=None, unit="patient").train

    counts = np.unique(train.patients, return_counts=True)[1]
    assert set(counts.tolist()) == {-(-SHAPE[0] // EVERY)}


def test_grey_levels_do_not_depend_on_the_scanner(folder: Path) -> None:
    before = read_splits("hippocampus", folder, image_size=None, unit="patient").train
    for number in range(VOLUMES):
        volume = loaded(image(folder, number))
        save(image(folder, number), (volume * 4 + 64).astype(np.float32))

    after = read_splits("hippocampus", folder, image_size=None, unit="patient").train

    assert np.abs(after.inputs.astype(int) - before.inputs.astype(int)).max() <= 1
    assert before.inputs.max() == 255


def test_sites_are_groups_by_raw_intensity(folder: Path) -> None:
    parts = read_hippocampus(folder).parts

    pairs = {
        (str(site), int(str(patient)[-3:]) // 2)
        for part in parts.values()
        if part.sites is not None and part.patients is not None
        for site, patient in zip(part.sites, part.patients, strict=True)
    }
    assert pairs == {(f"intensity-{k + 1:02d}", k) for k in range(10)}


def test_axes_are_turned_to_one_orientation(folder: Path) -> None:
    before = read_splits("hippocampus", folder, image_size=None, unit="patient").test
    for number in range(VOLUMES):
        for path in (image(folder, number), label(folder, number)):
            turned = loaded(path)[::-1]
            save(path, turned, right=-1.0)

    after = read_splits("hippocampus", folder, image_size=None, unit="patient").test

    np.testing.assert_array_equal(after.inputs, before.inputs)
    np.testing.assert_array_equal(after.labels, before.labels)


# -- Refusals -------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no label map": (lambda f: label(f, 3).unlink(), "hippocampus_003.nii.gz"),
    "truncated": (lambda f: image(f, 3).write_bytes(image(f, 3).read_bytes()[:300]), "no whole"),
    "not NIfTI": (lambda f: image(f, 3).write_bytes(b"\x1f\x8bno"), "no whole NIfTI volume"),
    "another shape": (lambda f: save(label(f, 3), np.zeros((2, 2, 2), np.uint8)), r"\(2, 2, 2\)"),
    "too large": (
        lambda f: save_pair(f, np.zeros((3, 65, 4), np.uint8)),
        "slices up to",
    ),
    "another class": (lambda f: save(label(f, 3), np.full(SHAPE, 3, np.uint8)), "labels 0 to 2"),
    "not finite": (lambda f: save(image(f, 3), np.full(SHAPE, np.nan)), "expected finite volumes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_damaged_volume_is_refused_by_name(folder: Path, case: str) -> None:
    damage, reason = REFUSED[case]
    damage(folder)

    with pytest.raises(DataError, match=reason):
        read_splits("hippocampus", folder, image_size=None, unit="patient")


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="hippocampus"):
        read_splits("hippocampus", tmp_path, image_size=None, unit="patient")


def test_label_maps_are_not_resized(folder: Path) -> None:
    with pytest.raises(DataError, match="the mean of two classes is no class"):
        read_splits("hippocampus", folder, image_size=24, unit="patient")


# -- Real files -----------------------------------------------------------------------


@pytest.mark.data
def test_the_real_volumes(real_data: Path) -> None:
    splits = read_splits("hippocampus", real_data, image_size=None, unit="patient")

    parts = [splits.part(name) for name in ("train", "validation", "test")]
    assert [part.patient_count for part in parts] == [208, 26, 26]
    assert [len(part) for part in parts] == [2528, 918, 907]
    shares = [float((splits.train.labels == k).mean()) for k in (1, 2)]
    assert shares == pytest.approx([0.0154, 0.0141], abs=1e-4)
    assert splits.train.sites is not None
    assert len(np.unique(splits.train.sites)) == 10
