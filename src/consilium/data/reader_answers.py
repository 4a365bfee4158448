# SPDX-License-Identifier: Apache-2.0
"""What a human reader answered for the test records: a CSV with a row a record.

    column   meaning
    row      of the test records, from 0, as in an imported dataset's records.csv
    label    the class that the reader chose, by its name

A reader may have seen some of the records; a record is answered once. Not here: how good the
answers are (`learning.readers`), and how the reader was asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.manifest import rows_of
from consilium.data.records import Records
from consilium.errors import DataError

_COLUMNS: Final = ("row", "label")
_LEAST_PATIENTS: Final = 2


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """A reader's classes of some test records.

    Attributes:
        rows: Of the test records, ascending, each once.
        labels: What was answered, numbers of classes.
    """

    rows: NDArray[np.intp] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)


def read_answers(path: Path, test: Records, classes: tuple[str, ...]) -> Answers:
    """Returns the answers in the table at `path`.

    Raises:
        DataError: No such table, a row or a class that does not exist, a record that is answered
            twice, label maps, or answers for fewer than two patients.
    """
    if test.has_label_maps:
        raise DataError(
            f"found {path.name} for records with label maps; expected a class a record: a reader's "
            "contours are not compared; remove data.reader"
        )
    numbers = {name: number for number, name in enumerate(classes)}
    found: dict[int, int] = {}
    for line in rows_of(path, _COLUMNS):
        row, label = _entry(line, len(test), numbers, path.name)
        if row in found:
            raise DataError(f"{path.name} answers row {row} twice; expected once: keep one of them")
        found[row] = label
    rows = np.array(sorted(found), np.intp)
    if len(np.unique(test.patients[rows])) < _LEAST_PATIENTS:
        raise DataError(f"{path.name} is of one patient; expected two or more: add answers")
    return Answers(rows=rows, labels=np.array([found[row] for row in rows.tolist()], np.int64))


def _entry(
    line: Mapping[str, str], records: int, numbers: Mapping[str, int], name: str
) -> tuple[int, int]:
    row, label = line["row"].strip(), line["label"].strip()
    if not row.isdecimal() or int(row) >= records:
        raise DataError(
            f"{name} has a row that is no number from 0 to {records - 1}; expected rows of the "
            "test records: number them as in records.csv"
        )
    if label not in numbers:
        raise DataError(
            f"{name} has a label of row {row} that is none of {', '.join(numbers)}; expected one "
            "of these: name the classes as the project does"
        )
    return int(row), numbers[label]
