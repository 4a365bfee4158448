# SPDX-License-Identifier: Apache-2.0
"""A table, one row a record: every column of numbers is a feature, in the order of the file.

Columns for patient, label, split and site are not features. Guarantees: a row with a missing or
infinite value is left out and counted, a column without a single number is refused by its name
(a name or an address is no feature), and nothing is scaled by what the rows hold.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

import numpy as np

from consilium.data.deidentification import Pseudonymiser
from consilium.data.manifest import Columns, ordered, read_split, rows_of, said
from consilium.data.reading import Policy, Reading, Record, Work, split_of
from consilium.data.samples import RejectedFile
from consilium.data.source_files import SourceFile
from consilium.errors import DataError

SUFFIXES: Final = (".csv", ".parquet")
_OTHERS: Final = ("split", "site")


@final
class TableReader:
    """Reads a CSV or Parquet table under one policy; the table is held in memory."""

    def __init__(self, path: Path, columns: Columns, policy: Policy, key: Pseudonymiser) -> None:
        wanted = [name for name in (columns.patient, columns.label) if name is not None]
        self._rows: Sequence[Mapping[str, str]] = list(rows_of(path, wanted))
        self._columns = columns
        self._policy = policy
        self._pseudonymiser = key
        self.features = _features(self._rows, (*wanted, *_OTHERS))

    def work(self) -> tuple[Work, ...]:
        """Returns a piece of work for each row, by its number from 1."""
        return tuple(
            (SourceFile(name=f"row {k}", size=0, stamp=0),) for k in range(1, len(self._rows) + 1)
        )

    def read(self, work: Work) -> Reading:
        """Returns the record of one row.

        Raises:
            RejectedFile: It is left out, and why.
        """
        row = self._rows[int(work[0].name.removeprefix("row ")) - 1]
        values = [_number(row[name]) for name in self.features]
        if not all(map(math.isfinite, values)):
            raise RejectedFile("not finite", "a feature is missing or not a number")
        label = said(row[self._columns.label or ""])
        if label not in self._policy.classes:
            raise RejectedFile("no label", "none that is a class")
        pseudonym = self._pseudonymiser.pseudonym(self._patient(row, work[0].name))
        record = Record(
            inputs=np.array(values, np.float32),
            label=self._policy.classes.index(label),
            label_map=None,
            pseudonym=pseudonym,
            split=read_split(row) or split_of(pseudonym, self._policy),
            site=row.get("site", "").strip(),
            kind="table",
            tags={},
        )
        return Reading((record,))

    def _patient(self, row: Mapping[str, str], name: str) -> str:
        if self._policy.unit == "record":
            return name
        patient = None if self._columns.patient is None else said(row[self._columns.patient])
        if patient is None:
            raise RejectedFile("no patient identifier", "never guessed")
        return patient


def table_classes(path: Path, label: str) -> tuple[str, ...]:
    """Returns the labels of a table in their order.

    Raises:
        DataError: No such table or column, or too many labels.
    """
    found = (said(row[label]) for row in rows_of(path, [label]))
    return ordered({label for label in found if label is not None})


def _features(rows: Sequence[Mapping[str, str]], others: Sequence[str]) -> tuple[str, ...]:
    names = [name for name in rows[0] if name not in others]
    words = [name for name in names if not any(math.isfinite(_number(row[name])) for row in rows)]
    if words or not names:
        raise DataError(
            f"found {', '.join(map(repr, words)) or 'no column'} without a number among the "
            "features; expected columns of numbers; leave text out of the table or code it"
        )
    return tuple(names)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
