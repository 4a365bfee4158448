# SPDX-License-Identifier: Apache-2.0
"""Tests of a reader's CSV: rows and classes by name, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from consilium.data.reader_answers import read_answers
from consilium.data.records import Records
from consilium.errors import DataError

CLASSES = ("normal", "ill")


def four() -> Records:
    return Records(
        inputs=np.zeros((4, 1, 8, 8), np.uint8),
        labels=np.array([0, 1, 1, 0]),
        patients=np.array(["a", "a", "b", "c"]),
    )


def written(folder: Path, *lines: str) -> Path:
    (folder / "reader.csv").write_text("\n".join(("row,label", *lines)) + "\n")
    return folder / "reader.csv"


def test_answers_come_in_the_order_of_the_records(tmp_path: Path) -> None:
    found = read_answers(written(tmp_path, "3,normal", "0,ill", "2, ill"), four(), CLASSES)

    assert found.rows.tolist() == [0, 2, 3]
    assert found.labels.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("4,ill", "0,ill"), "no number from 0 to 3"),
        (("-1,ill",), "no number from 0 to 3"),
        (("0,sick", "2,ill"), "none of normal, ill"),
        (("0,ill", "0,normal"), "answers row 0 twice"),
        (("0,ill", "1,ill"), "of one patient"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_answers(written(tmp_path, *lines), four(), CLASSES)


def test_label_maps_have_no_reader(tmp_path: Path) -> None:
    maps = Records(
        inputs=np.zeros((2, 1, 8, 8), np.uint8),
        labels=np.zeros((2, 8, 8), np.uint8),
        patients=np.array(["a", "b"]),
    )

    with pytest.raises(DataError, match="label maps"):
        read_answers(written(tmp_path, "0,ill"), maps, CLASSES)
