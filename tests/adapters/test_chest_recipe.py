# SPDX-License-Identifier: Apache-2.0
"""The X-rays of `recipes/pneumonia224.toml`, from the public archive to a model, in small."""

import csv
import os
import zipfile
from pathlib import Path

import pytest

import consilium
from consilium.adapters.importing import ImportJob, run_import
from consilium.data.manifest import Columns
from consilium.data.reading import Policy
from consilium.data.rendering import Rendering

RECIPE = Path(__file__).parents[2] / "recipes" / "pneumonia224.toml"
CLASSES = ("normal", "bacteria", "virus")
SMALL = {
    "sites.count": "3",
    "sites.tolerated_drops": "0",
    "training.rounds": "2",
    "training.evaluate_every": "1",
    "training.views": "1",
    "dp.expected_batch": "20",
}


@pytest.fixture
def real_xrays() -> Path:
    folder = Path(os.environ.get("CONSILIUM_DATA", ""), "pneumonia_cxr")
    if not (folder / "cxr224_jpeg.zip").is_file():
        pytest.skip("CONSILIUM_DATA is not set to a folder with pneumonia_cxr/cxr224_jpeg.zip")
    return folder


@pytest.fixture
def few(real_xrays: Path, tmp_path: Path) -> Path:
    """The data folder of 54 training images and nine of each other split, every class as often."""
    with (real_xrays / "metadata.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    chosen: list[dict[str, str]] = []
    for split, count in {"train": 18, "val": 3, "test": 3}.items():
        for name in CLASSES:
            of_both = (row for row in rows if (row["split"], row["subtype"]) == (split, name))
            one_each = {row["group"]: row for row in of_both}
            chosen += list(one_each.values())[:count]
    with zipfile.ZipFile(real_xrays / "cxr224_jpeg.zip") as whole:
        wanted = {row["file"] for row in chosen}
        members = [name for name in whole.namelist() if name.rpartition("/")[2] in wanted]
        with zipfile.ZipFile(tmp_path / "few.zip", "w") as small:
            for name in members:
                small.writestr(name, whole.read(name))
    with (tmp_path / "few.csv").open("w", newline="") as table:
        lines = csv.DictWriter(table, rows[0])
        lines.writeheader()
        lines.writerows(chosen)
    job = ImportJob(
        source=tmp_path / "few.zip",
        out=tmp_path / "cxr224",
        policy=Policy(rendering=Rendering(size=224), classes=CLASSES),
        columns=Columns(patient="group", label="subtype"),
        key=tmp_path / "key",
        labels=tmp_path / "few.csv",
    )
    summary = run_import(job)
    assert summary.counts["train"].of_each_class == (18, 18, 18)
    return tmp_path


def trained(folder: Path, changes: dict[str, str]) -> consilium.Trained:
    project = consilium.load_project(RECIPE, SMALL | changes)
    return consilium.train(project, folder / "run", consilium.Options(data_folder=folder))


@pytest.mark.data
def test_three_kinds_of_chest_are_learnt(few: Path) -> None:
    found = trained(few, {}).result()

    assert found.classes == ("normal", "bacterial", "viral")
    assert found.rounds == 2
    assert found.test.records == 9


@pytest.mark.data
@pytest.mark.slow
def test_the_deep_network_of_the_recipe_runs(few: Path) -> None:
    found = trained(few, {"model.name": "resnet18", "training.rounds": "1"}).result()

    assert found.parameters == 11_171_779
    assert found.statement.private
