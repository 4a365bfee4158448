# SPDX-License-Identifier: Apache-2.0
"""Tests of the heart table: its public scaling, FLamby's rows, and the real files."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from consilium.data.heart import FEATURES, HOSPITALS
from consilium.data.sources import read_splits
from consilium.errors import DataError

ROW = "{age},1,{cp},130,{chol},0,{ecg},175,1,{st},?,?,?,{num}"


def row(number: int) -> str:
    return ROW.format(
        age=30 + number,
        cp=1 + number % 4,
        chol=200 + number,
        ecg=number % 3,
        st=0.5,
        num=number % 3,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four hospitals of 30 made-up rows each; line 2 misses a value."""
    (tmp_path / "heart_uci").mkdir()
    lines = [row(number) for number in range(30)]
    lines[1] = lines[1].replace("130", "?")
    for hospital in HOSPITALS:
        (tmp_path / "heart_uci" / f"processed.{hospital}.data").write_text("\n".join(lines) + "\n")
    return tmp_path


def va(folder: Path) -> Path:
    return folder / "heart_uci" / "processed.va.data"


def test_rows_with_a_missing_value_are_left_out(folder: Path) -> None:
    splits = read_splits("heart", folder, image_size=None, unit="patient")

    held = np.concatenate(
        [splits.train.patients, splits.validation.patients, splits.test.patients]
    ).tolist()
    assert len(held) == len(set(held)) == 4 * 29
    assert "va-0001" in held
    assert "va-0002" not in held


def test_values_are_scaled_by_the_public_table(folder: Path) -> None:
    train = read_splits("heart", folder, image_size=None, unit="patient").train
    line = int(str(train.patients[0]).removeprefix("cleveland-"))
    values = dict(zip(FEATURES, train.inputs[0].tolist(), strict=True))

    assert values["age"] == pytest.approx(max((29 + line - 55) / 10, -3))
    assert (values["trestbps"], values["thalach"], values["oldpeak"]) == (0.0, 1.0, -0.5)
    assert (values["sex=0"], values["sex=1"], values["exang=1"]) == (0.0, 1.0, 1.0)
    assert values[f"cp={1 + (line - 1) % 4}"] == 1.0


def test_an_unmeasured_cholesterol_is_cut_at_minus_three(folder: Path) -> None:
    lines = [row(number).replace(f",{200 + number},", ",0,") for number in range(30)]
    va(folder).write_text("\n".join(lines))

    train = read_splits("heart", folder, image_size=None, unit="patient").train

    assert train.sites is not None
    assert set(train.inputs[train.sites == "va", FEATURES.index("chol")].tolist()) == {-3.0}


def test_validation_takes_its_share_of_each_class_of_each_hospital(folder: Path) -> None:
    splits = read_splits("heart", folder, image_size=None, unit="patient")

    assert splits.train.sites is not None
    assert splits.validation.sites is not None
    assert np.unique(splits.train.sites, return_counts=True)[1].tolist() == [16] * 4
    assert np.unique(splits.validation.sites, return_counts=True)[1].tolist() == [3] * 4
    assert splits.validation.class_counts(2).tolist() == [4, 8]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (row(7), row(7) + ",1", r"processed\.va\.data: found line 8 that is not 14 numbers"),
        (row(7), "", "found line 8"),
        (row(7), row(7).replace("175", "fast"), "found line 8"),
        (row(7), row(7).replace("175", "inf"), "found line 8"),
        (row(7), row(7)[:-1] + "?", "found line 8"),
        (row(7), row(7).replace("175", "1\u00b2"), "found line"),
        (row(7), row(7).replace(",1,4,", ",2,4,"), "a value of sex that is none of"),
    ],
)
def test_another_table_is_refused(folder: Path, old: str, new: str, reason: str) -> None:
    va(folder).write_text(va(folder).read_text().replace(old, new), encoding="utf-8")

    with pytest.raises(DataError, match=reason):
        read_splits("heart", folder, image_size=None, unit="patient")


def test_a_missing_hospital_is_named(folder: Path) -> None:
    va(folder).unlink()

    with pytest.raises(DataError, match=r"found no file .*processed\.va\.data"):
        read_splits("heart", folder, image_size=None, unit="patient")


# -- Real files -----------------------------------------------------------------------


@pytest.mark.data
def test_real_hospitals_have_the_sizes_of_flamby(real_data: Path) -> None:
    splits = read_splits("heart", real_data, image_size=None, unit="patient")

    assert splits.train.sites is not None
    assert splits.validation.sites is not None
    assert splits.test.sites is not None
    learning = np.concatenate([splits.train.sites, splits.validation.sites])
    assert np.unique(learning, return_counts=True)[1].tolist() == [199, 172, 30, 85]
    assert np.unique(splits.test.sites, return_counts=True)[1].tolist() == [104, 89, 16, 45]
    assert splits.train.shape == (18,)


@pytest.mark.data
def test_the_real_division_never_changes(real_data: Path) -> None:
    splits = read_splits("heart", real_data, image_size=None, unit="patient")

    parts = (splits.train, splits.validation, splits.test)
    names = "\n".join(",".join(part.patients.tolist()) for part in parts)
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "8b1fed5cdddea56b"
