# SPDX-License-Identifier: Apache-2.0
"""Tests of reading an imported folder: what does not agree is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from consilium.data.dataset_folder import (
    is_dataset,
    read_dataset_folder,
    read_description,
    sha256_of,
)
from consilium.data.sources import read_splits
from consilium.errors import DataError

SPLITS = {"train": 4, "validation": 2, "test": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures of eight patients."""
    rows = ["row,pseudonym,split,label,site,kind"]
    for split, count in SPLITS.items():
        images = np.random.default_rng(count).integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
        np.save(tmp_path / f"{split}_inputs.npy", images)
        rows += [f"{k},{split}{k},{split},{k % 2},north,image" for k in range(count)]
    (tmp_path / "records.csv").write_text("\n".join(rows) + "\n")
    counts = {
        split: {"records": count, "patients": count, "of_each_class": [count // 2, count // 2]}
        for split, count in SPLITS.items()
    }
    said = {
        "format": 1,
        "task": "classification",
        "unit": "patient",
        "classes": ["well", "ill"],
        "shape": [1, 8, 8],
        "dtype": "uint8",
        "counts": counts,
        "preprocessing": {},
        "deidentification": {},
        "copies_between_splits": "",
        "software": {},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(said))
    edited(tmp_path)
    return tmp_path


def edited(folder: Path, **changes: object) -> None:
    said = json.loads((folder / "dataset.json").read_text())
    names = [path.name for path in folder.iterdir() if path.suffix in (".npy", ".csv")]
    files = {name: sha256_of(folder / name) for name in names}
    (folder / "dataset.json").write_text(json.dumps({**said, "files": files, **changes}))


def test_a_folder_is_read_with_its_sites(folder: Path) -> None:
    splits = read_splits(folder.name, folder.parent, image_size=None, unit="patient")

    assert is_dataset(folder)
    assert splits.classes == ("well", "ill")
    assert len(splits.train) == 4
    assert splits.train.sites is not None
    assert set(splits.train.sites) == {"north"}
    assert splits.train.labels.tolist() == [0, 1, 0, 1]


def test_a_folder_may_be_near_where_one_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)

    splits = read_splits(folder.name, folder / "elsewhere", image_size=4, unit="record")

    assert splits.train.shape == (1, 4, 4)


def test_label_maps_are_the_labels_where_they_are_learnt(folder: Path) -> None:
    maps = {}
    for split, count in SPLITS.items():
        maps[split] = np.random.default_rng(count).integers(0, 2, (count, 8, 8), dtype=np.uint8)
        np.save(folder / f"{split}_label_maps.npy", maps[split])
    edited(folder, task="segmentation")

    raw = read_dataset_folder(folder)

    assert np.array_equal(raw.parts["train"].labels, maps["train"])
    assert raw.parts["train"].labels.dtype == np.uint8


def short_array(folder: Path) -> None:
    np.save(folder / "test_inputs.npy", np.zeros((1, 1, 8, 8), np.uint8))


def pickled_array(folder: Path) -> None:
    np.save(folder / "test_inputs.npy", np.array([{}]), allow_pickle=True)


def cut_array(folder: Path) -> None:
    path = folder / "test_inputs.npy"
    path.write_bytes(path.read_bytes()[:-1])


def lost_row(folder: Path) -> None:
    lines = (folder / "records.csv").read_text().splitlines()
    (folder / "records.csv").write_text("\n".join(lines[:-1]) + "\n")


def wrong_label(folder: Path) -> None:
    text = (folder / "records.csv").read_text()
    (folder / "records.csv").write_text(text.replace("train0,train,0", "train0,train,2"))


def word_for_label(folder: Path) -> None:
    text = (folder / "records.csv").read_text()
    (folder / "records.csv").write_text(text.replace("train0,train,0", "train0,train,ill"))


def other_columns(folder: Path) -> None:
    (folder / "records.csv").write_text("row,label\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (short_array, "holds uint8"),
        (pickled_array, "cannot be read"),
        (cut_array, "cannot be read"),
        (lost_row, "lists 1 rows of test"),
        (wrong_label, "not below 2"),
        (word_for_label, "no number"),
        (other_columns, "other columns"),
        (lambda folder: (folder / "records.csv").unlink(), "cannot be read"),
        (lambda folder: (folder / "test_inputs.npy").unlink(), "cannot be read"),
        (lambda folder: edited(folder, format=2), "expected format 1"),
        (lambda folder: edited(folder, patients=["Eva"]), "expected format 1"),
        (lambda folder: edited(folder, shape=[1, 8, 9]), "says uint8"),
        (lambda folder: edited(folder, task="segmentation"), "label_maps.npy cannot be read"),
    ],
)
def test_a_folder_that_does_not_agree_is_refused(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)

    with pytest.raises(DataError, match=message):
        read_dataset_folder(folder)


@pytest.mark.parametrize("name", ["validation_inputs.npy", "records.csv"])
def test_a_changed_byte_is_noticed(folder: Path, name: str) -> None:
    whole = bytearray((folder / name).read_bytes())
    whole[-2] ^= 1  # the last pixels; a letter of the kind
    (folder / name).write_bytes(whole)

    with pytest.raises(DataError, match=rf"{name} has another SHA-256"):
        read_dataset_folder(folder)


def test_a_file_without_a_digest_is_refused(folder: Path) -> None:
    edited(folder, files={})

    with pytest.raises(DataError, match="another SHA-256"):
        read_dataset_folder(folder)


def test_a_description_that_is_too_large_is_not_parsed(folder: Path) -> None:
    (folder / "dataset.json").write_bytes(b" " * (5 << 20))

    with pytest.raises(DataError, match="too large"):
        read_description(folder)
