# SPDX-License-Identifier: Apache-2.0
"""Volumes as records: from NIfTI files to a network that labels every voxel."""

import csv
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.adapters.conftest import make_run

import consilium
from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.importing import ImportJob, run_import
from consilium.adapters.stage import NobodyWatches
from consilium.adapters.training import train_arm
from consilium.data.manifest import Columns
from consilium.data.reading import Policy
from consilium.data.records import Records, SplitName, Splits
from consilium.data.rendering import Rendering
from consilium.errors import DataError
from consilium.federation.project import Data

CLASSES = ("background", "anterior", "posterior")
CHANGES = {
    "data.source": "made-up",
    "data.task": "segmentation",
    "data.privacy_unit": "patient",
    "data.test_pictures": "test-records-are-public",
    "model.name": "unet3d-small",
    "training.rounds": "2",
    "dp.expected_batch": "6",
    "dp.delta": "1e-2",
}


def cubes(split: str, patients: int) -> Records:
    """One volume of 8 x 8 x 8 a patient; a bright cube is the organ."""
    rng = np.random.default_rng(len(split))
    volumes = rng.integers(0, 60, (patients, 1, 8, 8, 8), dtype=np.uint8)
    maps = np.zeros((patients, 8, 8, 8), np.uint8)
    for volume, labels, place in zip(volumes, maps, rng.integers(0, 4, patients), strict=True):
        volume[0, 2:6, 2:6, place : place + 4] += 150
        labels[2:6, 2:6, place : place + 2], labels[2:6, 2:6, place + 2 : place + 4] = 1, 2
    return Records(
        inputs=volumes,
        labels=maps,
        patients=np.array([f"{split}-{k}" for k in range(patients)]),
    )


@pytest.fixture(scope="module")
def made_up() -> Dataset:
    sizes: dict[SplitName, int] = {"train": 12, "validation": 3, "test": 4}
    parts = {name: cubes(name, count) for name, count in sizes.items()}
    splits = Splits(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        classes=CLASSES,
        unit="patient",
        origin="cubes made up for tests",
    )
    return Dataset(splits=splits, duplicates="none")


@pytest.mark.parametrize("arm", ["central", "federated-dp"])
def test_volumes_are_learnt(made_up: Dataset, tmp_path: Path, arm: str) -> None:
    found = train_arm(make_run(tmp_path / arm, arm, CHANGES), made_up, NobodyWatches())

    assert found.maps is not None
    assert found.maps.dice.patients == 4
    assert found.maps.hausdorff95.value is None or found.maps.hausdorff95.value >= 0
    assert (tmp_path / arm / "pictures.msgpack").is_file() or any((tmp_path / arm).iterdir())


def test_views_of_volumes_are_refused(made_up: Dataset, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "central", CHANGES | {"training.views": "2"})

    with pytest.raises(consilium.errors.ConfigError, match="remove it for tables and volumes"):
        train_arm(run, made_up, NobodyWatches())


@pytest.fixture
def real_volumes() -> Path:
    folder = Path(os.environ.get("CONSILIUM_DATA", ""), "hippocampus")
    if not (folder / "images").is_dir():
        pytest.skip("CONSILIUM_DATA is not set to a folder with hippocampus/images")
    return folder


@pytest.fixture
def few(real_volumes: Path, tmp_path: Path) -> ImportJob:
    """An import of eight, three and three real volumes with a depth of 40."""
    names = sorted(path.name for path in (real_volumes / "images").glob("*.nii.gz"))[:14]
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for name in names:
            shutil.copy(real_volumes / kind / name, tmp_path / kind / name)
    splits = ["train"] * 8 + ["validation"] * 3 + ["test"] * 3
    with (tmp_path / "patients.csv").open("w", newline="") as table:
        lines = csv.writer(table)
        lines.writerow(("file", "person", "split"))
        lines.writerows((name, name, split) for name, split in zip(names, splits, strict=True))
    return ImportJob(
        source=tmp_path / "images",
        out=tmp_path / "volumes",
        policy=Policy(rendering=Rendering(size=56, depth=40), classes=CLASSES, no_faces=True),
        columns=Columns(patient="person", label=None),
        key=tmp_path / "key",
        labels=tmp_path / "patients.csv",
        label_maps=tmp_path / "labels",
    )


@pytest.mark.data
def test_real_volumes_come_in_whole_and_are_learnt(few: ImportJob, tmp_path: Path) -> None:
    run_import(few)
    settings = Data(source="volumes", task="segmentation")
    found = read_dataset(settings, tmp_path)

    assert found.splits.train.shape == (1, 40, 56, 56)
    assert found.splits.train.class_counts(3).tolist() == [8, 8, 8]

    run = make_run(
        tmp_path / "run",
        "central",
        CHANGES | {"optimiser.name": "adam", "training.local_batch": "2"},
    )
    assert train_arm(run, found, NobodyWatches()).maps is not None


@pytest.mark.data
def test_a_changed_array_is_refused(few: ImportJob, tmp_path: Path) -> None:
    run_import(few)
    array = np.load(few.out / "train_inputs.npy", mmap_mode="r+")
    array[0, 0, 20, 20, 20] ^= 1
    array.flush()

    with pytest.raises(DataError, match="another SHA-256"):
        read_dataset(Data(source="volumes", task="segmentation"), tmp_path)
