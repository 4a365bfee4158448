# SPDX-License-Identifier: Apache-2.0
"""Label maps from a project to a result, in every arm, and what is refused on the way."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.adapters.conftest import make_run, same_seeds

from consilium.adapters.dataset import Dataset, make_ready
from consilium.adapters.stage import MODEL, PICTURES, RESULT, NobodyWatches
from consilium.adapters.training import train_arm
from consilium.data.records import Records, SplitName, Splits
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.federation.results import RunResult
from consilium.learning.pictures import Picture

NOBODY = NobodyWatches()
CHANGES = {
    "data.source": "made-up",
    "data.task": "segmentation",
    "data.privacy_unit": "patient",
    "model.name": "unet-small",
    "dp.expected_batch": "12",
    "dp.delta": "1e-2",
}


def slices(split: str, patients: int) -> Records:
    """Three slices of 16 px a patient; a bright square is the organ, its left half class 1."""
    rng = np.random.default_rng(len(split))
    count = 3 * patients
    images = rng.integers(0, 60, (count, 1, 16, 16), dtype=np.uint8)
    maps = np.zeros((count, 16, 16), np.uint8)
    for image, labels, place in zip(images, maps, rng.integers(2, 8, count), strict=True):
        image[0, 4:10, place : place + 6] += 150
        labels[4:10, place : place + 3], labels[4:10, place + 3 : place + 6] = 1, 2
    owners = np.repeat([f"{split}-{k}" for k in range(patients)], 3)
    return Records(inputs=images, labels=maps, patients=owners)


@pytest.fixture(scope="module")
def squares() -> Dataset:
    sizes: dict[SplitName, int] = {"train": 24, "validation": 5, "test": 6}
    parts = {name: slices(name, count) for name, count in sizes.items()}
    splits = Splits(
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        classes=("background", "left", "right"),
        unit="patient",
        origin="squares made up for tests",
    )
    return Dataset(splits=splits, duplicates="none")


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_learns_label_maps(tmp_path: Path, squares: Dataset, arm: str) -> None:
    run = make_run(tmp_path / "run", arm, CHANGES)

    result = train_arm(run, squares, NOBODY)

    kept = msgspec.json.decode((run.folder / RESULT).read_bytes(), type=RunResult)
    assert kept == result
    assert result.maps is not None
    assert result.maps.dice.patients == 6
    assert [one.name for one in result.maps.per_class] == ["left", "right"]
    assert result.test.records == 18
    assert all(point.dice is not None and point.auc is None for point in result.curve)
    assert sum(site.patients for site in result.sites) == 24
    assert {count for site in result.sites for count in site.class_counts} <= {18, 72}


def test_the_organ_is_found(tmp_path: Path, squares: Dataset) -> None:
    changes = CHANGES | {
        "optimiser.name": "adam",
        "learning_rate.initial": "0.01",
        "training.rounds": "25",
        "training.local_batch": "12",
        "training.evaluate_every": "25",
    }

    result = train_arm(make_run(tmp_path / "run", "central", changes), squares, NOBODY)

    assert result.maps is not None
    assert result.maps.dice.value is not None
    assert result.maps.dice.value > 0.8


def test_recorded_randomness_gives_the_same_model(tmp_path: Path, squares: Dataset) -> None:
    first, second = (
        make_run(tmp_path / name, "federated-dp", CHANGES | {"training.rounds": "1"})
        for name in "12"
    )

    for run in (first, second):
        train_arm(run, squares, NOBODY, same_seeds())

    assert (first.folder / MODEL).read_bytes() == (second.folder / MODEL).read_bytes()


def test_views_of_label_maps_are_one_patients(tmp_path: Path, squares: Dataset) -> None:
    run = make_run(tmp_path / "run", "federated-dp", CHANGES | {"training.views": "3"})
    ready = make_ready(run.project, squares, federated=True, seed=0)

    trainee = ready.trainee(0)

    assert len(trainee.inputs) == len(trainee.labels) == 3 * len(ready.parts[0])
    assert {len(rows) for rows in trainee.rows} == {9}
    assert not np.array_equal(trainee.labels[18:36], trainee.labels[:18])


# -- Refusals -------------------------------------------------------------------------


def test_label_maps_are_no_classification(tmp_path: Path, squares: Dataset) -> None:
    run = make_run(tmp_path / "run", "central", CHANGES | {"data.task": "classification"})

    with pytest.raises(DataError, match="has a label map for each image"):
        train_arm(run, squares, NOBODY)


def test_classes_of_records_are_no_segmentation(tmp_path: Path, digits: Dataset) -> None:
    run = make_run(tmp_path / "run", "central", {"data.task": "segmentation"})

    with pytest.raises(DataError, match="has a class a record"):
        train_arm(run, digits, NOBODY)


def test_a_classifier_does_not_take_label_maps(tmp_path: Path, squares: Dataset) -> None:
    run = make_run(tmp_path / "run", "central", CHANGES | {"model.name": "logistic"})

    with pytest.raises(ConfigError, match="asked for label maps"):
        train_arm(run, squares, NOBODY)


def test_a_site_without_a_class_is_named(tmp_path: Path, squares: Dataset) -> None:
    run = make_run(tmp_path / "run", "federated", CHANGES)
    maps = np.minimum(squares.splits.train.labels, 1)
    train = replace(squares.splits.train, labels=maps.astype(np.uint8))

    with pytest.raises(DataError, match="has no record of class right"):
        train_arm(run, replace(squares, splits=replace(squares.splits, train=train)), NOBODY)


# -- Pictures -------------------------------------------------------------------------


def test_pictures_are_left_only_where_the_project_declares_test_records_public(
    tmp_path: Path, squares: Dataset
) -> None:
    few = CHANGES | {"training.rounds": "1"}
    public = few | {"data.test_pictures": "test-records-are-public"}

    for name, changes in (("kept", few), ("shown", public)):
        train_arm(make_run(tmp_path / name, "central", changes), squares, NOBODY)

    assert not (tmp_path / "kept" / PICTURES).exists()
    shown = msgspec.msgpack.decode((tmp_path / "shown" / PICTURES).read_bytes(), type=list[Picture])
    assert len(shown) == 6
