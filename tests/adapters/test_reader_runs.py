# SPDX-License-Identifier: Apache-2.0
"""A human reader's answers from a project's file to the result of a run."""

from pathlib import Path

import pytest
from tests.adapters.conftest import make_run

from consilium.adapters.dataset import read_dataset
from consilium.adapters.stage import NobodyWatches
from consilium.adapters.training import train_arm
from consilium.errors import DataError


def test_a_run_is_set_beside_the_reader(tmp_path: Path) -> None:
    changes = {"data.reader": "reader.csv", "training.rounds": "1"}
    run = make_run(tmp_path / "run", "central", changes)
    plain = read_dataset(make_run(tmp_path / "other", "central", {}).project.data, None)
    test, classes = plain.splits.test, plain.splits.classes
    lines = [f"{row},{classes[label]}" for row, label in enumerate(test.labels[:50].tolist())]
    (tmp_path / "reader.csv").write_text("\n".join(("row,label", *lines)) + "\n")

    found = train_arm(run, read_dataset(run.project.data, tmp_path), NobodyWatches()).reader

    assert found is not None
    assert (found.records, found.accuracy.value, found.kappa.value) == (50, 1.0, 1.0)


def test_a_reader_that_is_not_there_stops_before_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "central", {"data.reader": "reader.csv"})

    with pytest.raises(DataError, match=r"reader\.csv"):
        read_dataset(run.project.data, tmp_path)
