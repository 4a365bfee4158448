# SPDX-License-Identifier: Apache-2.0
"""UCI Heart Disease from four hospitals: the smallest real federation, one row a patient.

Rows and the division into train and test are FLamby's, so that its published results compare:
columns slope, ca and thal are left out (mostly missing), then rows with a missing value, and the
label is whether a narrowing was found (num > 0). Validation, about 15 %, comes out of train.

Guarantees: inputs follow public tables alone. Nothing is scaled by what the rows hold, so the
preparation costs no privacy. Scaled values are cut at +-3: a cholesterol of 0, which two
hospitals wrote for "not measured", becomes -3.

Source: Janosi et al. 1988 (doi 10.24432/C52P4X, CC BY 4.0); Ogier du Terrail et al. 2022, FLamby.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.data.archives import missing_file
from consilium.data.preparation import Raw, RawPart
from consilium.data.records import SPLITS, SplitName
from consilium.errors import DataError
from consilium.wire import digest

HOSPITALS: Final = ("cleveland", "hungarian", "switzerland", "va")
CLASSES: Final = ("no heart disease", "heart disease")

_COLUMNS: Final = 14
_LEFT_OUT: Final = (10, 11, 12)  # slope, ca, thal
_LABEL: Final = 13
# column: name, centre, one step; round clinical values, chosen without looking at the rows
_SCALES: Final[Mapping[int, tuple[str, float, float]]] = {
    0: ("age", 55, 10),  # years
    3: ("trestbps", 130, 20),  # mm Hg at rest
    4: ("chol", 200, 50),  # mg/dl
    7: ("thalach", 150, 25),  # beats a minute
    9: ("oldpeak", 1, 1),  # mm of ST depression
}
_CODES: Final[Mapping[int, tuple[str, tuple[int, ...]]]] = {
    1: ("sex", (0, 1)),
    2: ("cp", (1, 2, 3, 4)),
    5: ("fbs", (0, 1)),
    6: ("restecg", (0, 1, 2)),
    8: ("exang", (0, 1)),
}
_CUT: Final = 3.0
_TRAIN_FRACTION: Final = 0.66  # FLamby's, with its random state
_FLAMBY_STATE: Final = 43
_VALIDATION_FRACTION: Final = 0.15

FEATURES: Final = (
    *(name for name, _, _ in _SCALES.values()),
    *(f"{name}={code}" for name, codes in _CODES.values() for code in codes),
)


def read_heart(folder: Path) -> Raw:
    """Returns the four hospitals' rows with `sites` and one patient a row, as 18 features.

    Raises:
        DataError: A file is missing or is not the public one.
    """
    read = [_read_hospital(folder / "heart_uci", hospital) for hospital in HOSPITALS]
    return Raw(
        parts={name: _pooled([parts[name] for parts in read]) for name in SPLITS},
        classes=CLASSES,
        origin="UCI Heart Disease from 4 hospitals, rows and test set as in FLamby, 18 features",
    )


def _pooled(parts: Sequence[RawPart]) -> RawPart:
    table = np.concatenate([part.inputs for part in parts])
    return RawPart(
        inputs=table.astype(np.float32, copy=False),
        labels=np.concatenate([part.labels for part in parts]),
        patients=np.concatenate([_names(part.patients) for part in parts]),
        sites=np.concatenate([_names(part.sites) for part in parts]),
    )


def _names(column: NDArray[np.str_] | None) -> NDArray[np.str_]:
    return column if column is not None else np.zeros(0, np.str_)


# -- One hospital ---------------------------------------------------------------------


def _read_hospital(folder: Path, hospital: str) -> Mapping[SplitName, RawPart]:
    rows = _read_rows(folder / f"processed.{hospital}.data")
    kept = {line: row for line, row in rows.items() if "?" not in row}
    table = np.array([[float(value) for value in row] for row in kept.values()])
    patients = np.array([f"{hospital}-{line:04d}" for line in kept], np.str_)
    inputs, labels = _features(table, hospital), (table[:, -1] > 0).astype(np.int64)
    return {
        name: RawPart(
            inputs=inputs[chosen],
            labels=labels[chosen],
            patients=patients[chosen],
            sites=np.full(len(chosen), hospital),
        )
        for name, chosen in _divided(labels, patients).items()
    }


def _read_rows(path: Path) -> Mapping[int, list[str]]:
    """Returns the rows by line number from 1, without the columns that are left out."""
    if not path.is_file():
        raise missing_file(path)
    rows: dict[int, list[str]] = {}
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        for line, row in enumerate(csv.reader(lines), start=1):
            _check_row(row)
            rows[line] = [value for i, value in enumerate(row) if i not in _LEFT_OUT]
    except (OSError, ValueError, csv.Error):
        raise DataError(
            f"{path.name}: found line {len(rows) + 1} that is not {_COLUMNS} numbers or '?'; "
            "expected the public file; download it again"
        ) from None
    return rows


def _check_row(row: Sequence[str]) -> None:
    numbers = [float(value) for value in row if value != "?"]
    if len(row) != _COLUMNS or not np.isfinite(numbers).all() or row[_LABEL] == "?":
        raise ValueError(f"{len(row)} columns")


def _features(table: NDArray[np.float64], hospital: str) -> NDArray[np.float32]:
    scaled = [
        np.clip((table[:, column] - centre) / step, -_CUT, _CUT)
        for column, (_, centre, step) in _SCALES.items()
    ]
    for column, (name, codes) in _CODES.items():
        if not np.isin(table[:, column], codes).all():
            raise DataError(
                f"processed.{hospital}.data: found a value of {name} that is none of {codes}; "
                "expected the public file; download it again"
            )
    one_hot = [table[:, column] == code for column, (_, codes) in _CODES.items() for code in codes]
    return np.stack([*scaled, *one_hot], axis=1).astype(np.float32)


# -- Train, validation, test ----------------------------------------------------------


def _divided(
    labels: NDArray[np.int64], patients: NDArray[np.str_]
) -> Mapping[SplitName, NDArray[np.intp]]:
    train, test = _flamby_division(labels)
    validation = [
        row
        for label in np.unique(labels)
        for row in _drawn(train[labels[train] == label].tolist(), patients)
    ]
    held_out = np.array(sorted(validation), np.intp)
    return {"train": np.setdiff1d(train, held_out), "validation": held_out, "test": test}


def _flamby_division(labels: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns the rows of train and test; stratified where each class has more than two rows."""
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - a second to load

    counts = np.bincount(labels, minlength=len(CLASSES))
    train, test = train_test_split(
        np.arange(len(labels)),
        train_size=_TRAIN_FRACTION,
        test_size=1 - _TRAIN_FRACTION,
        random_state=_FLAMBY_STATE,
        stratify=labels if (counts > 2).all() else None,
    )
    return np.sort(train), np.sort(test)


def _drawn(rows: Sequence[int], patients: NDArray[np.str_]) -> list[int]:
    """Returns the validation rows among `rows`: those whose patient has the least digest."""
    order = sorted(rows, key=lambda row: digest("heart-validation", str(patients[row])))
    return order[: round(_VALIDATION_FRACTION * len(rows))]
