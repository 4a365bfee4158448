# SPDX-License-Identifier: Apache-2.0
"""Tests of tables and folders that say what files are."""

import doctest
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.made import write

from consilium.data import manifest
from consilium.data.manifest import Columns, Entry, from_folders, ordered, read_manifest
from consilium.errors import DataError

COLUMNS = Columns(patient="person", label="finding")


def table(folder: Path, *rows: str, header: str = "file,person,finding,split,site") -> Path:
    return write(folder / "labels.csv", "\n".join((header, *rows, "")).encode("utf-8-sig"))


def test_the_examples_in_the_documentation_are_right() -> None:
    assert doctest.testmod(manifest) == (0, 2)


def test_a_row_says_patient_label_split_and_site(tmp_path: Path) -> None:
    path = table(tmp_path, "./a\\1.png,P 1,ill,val,north", "2.png,P2,well,,")

    entries = read_manifest(path, COLUMNS).entries

    assert entries["a/1.png"] == Entry(patient="P 1", label="ill", split="validation", site="north")
    assert entries["2.png"] == Entry(patient="P2", label="well")


def test_parquet_says_the_same(tmp_path: Path) -> None:
    rows = [{"file": "1.png", "person": 17, "finding": 0}, {"file": "2.png", "finding": 1}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "labels.parquet")

    entries = read_manifest(tmp_path / "labels.parquet", COLUMNS).entries

    assert entries == {"1.png": Entry(patient="17", label="0"), "2.png": Entry(label="1")}


@pytest.mark.parametrize("missing", ["", " ", "n/a", "NaN", "?"])
def test_what_is_missing_stays_missing(tmp_path: Path, missing: str) -> None:
    path = table(tmp_path, f"1.png,{missing},{missing},,")

    assert read_manifest(path, COLUMNS).entries["1.png"] == Entry()


def test_a_row_can_be_about_a_dicom_tag(tmp_path: Path) -> None:
    path = table(tmp_path, "A17,ill", header="AccessionNumber,finding")
    columns = Columns(patient=None, label="finding", match="AccessionNumber")

    assert read_manifest(path, columns).entries["A17"] == Entry(label="ill")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["1.png,P1,ill,,", "1.png,P1,well,,"], "1 rows of labels.csv that contradict"),
        (["1.png,P1,ill,train,", "2.png,P1,ill,test,"], "1 patients of labels.csv in more than"),
        (["1.png,P1,ill,train,", "2.png,P1,ill,,"], "1 patients of labels.csv in more than"),
        (["1.png,P1,ill,later,"], "found split 'later'"),
        ([], "found no row"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as refused:
        read_manifest(table(tmp_path, *rows), COLUMNS)

    assert "P1" not in str(refused.value)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'person', 'finding'.*'file', 'x'"):
        read_manifest(table(tmp_path, "1.png,2", header="file,x"), COLUMNS)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_what_is_no_table_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read as"):
        read_manifest(write(tmp_path / name, b"\xff\xfe\x00 no table"), COLUMNS)


def test_more_labels_than_classes_can_be_are_refused() -> None:
    with pytest.raises(DataError, match="300 different labels"):
        ordered({f"{k}" for k in range(300)})


def test_folders_say_class_and_split() -> None:
    assert from_folders("ill/deep/1.png") == Entry(label="ill")
    assert from_folders("val/ill/1.png") == Entry(label="ill", split="validation")
    assert from_folders("1.png") == Entry()
