# SPDX-License-Identifier: Apache-2.0
"""Public sets of medical images: chest X-rays with patients, and two of MedMNIST.

source         images                    patients                          licence
cxr64          5,856 of 64 px, 2 classes   parsed from file names            CC BY 4.0
pneumoniamnist 5,856 of 28 px, 2 classes   in a table beside it, or none     CC BY 4.0
retinamnist    1,600 of 28 px, 5 classes   none                              CC BY 4.0

The patients of the X-rays are a best effort of whoever prepared the files, not a documented
identifier. An image without one is left out under unit "patient", and the origin says so.

Source: Kermany et al. 2018 (doi 10.17632/rscbjbr9sj); Yang et al. 2023, MedMNIST v2.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.archives import PREFIXES, missing_file, read_archive
from consilium.data.preparation import Parts, Raw, RawPart
from consilium.data.records import SPLITS, SplitName, Unit
from consilium.errors import DataError

PNEUMONIA: Final = ("normal", "pneumonia")
RETINOPATHY: Final = (
    "no retinopathy",
    "mild retinopathy",
    "moderate retinopathy",
    "severe retinopathy",
    "proliferative retinopathy",
)
_TABLE_COLUMNS: Final = ("split", "index", "label", "group")

Table: TypeAlias = Mapping[SplitName, "_Column"]


# -- Sources --------------------------------------------------------------------------


def read_cxr64(folder: Path) -> Raw:
    """Returns the chest X-rays of 64 px with their patients.

    Raises:
        DataError: The archive is missing or damaged.
    """
    path = folder / "pneumonia_cxr" / "cxr64.npz"
    return read_archive(
        path,
        "chest X-rays of children (Kermany et al. 2018), 64 px, patients by best effort",
        PNEUMONIA,
    )


def read_pneumoniamnist(folder: Path, unit: Unit) -> Raw:
    """Returns PneumoniaMNIST; with unit "patient", divided anew so that no patient is split.

    The official validation set shares patients with the training set. Under unit "patient" its
    images of those patients move to training, and images without a patient are left out.

    Raises:
        DataError: The archive or its table is missing, damaged, or they do not belong together.
    """
    path = _first_file(
        folder / "medmnist" / "pneumoniamnist_reordered.npz",
        folder / "medmnist" / "pneumoniamnist.npz",
        folder / "pneumoniamnist.npz",
    )
    raw = read_archive(path, "PneumoniaMNIST chest X-rays of children, 28 px", PNEUMONIA)
    table = path.with_name("pneumoniamnist_patients.csv")
    # The table follows the reordered file; against the official order it would name strangers.
    if unit == "record" or path.stem != "pneumoniamnist_reordered" or not table.is_file():
        return raw
    return _patient_disjoint(raw, _named_parts(raw.parts, _read_table(table)))


def read_retinamnist(folder: Path) -> Raw:
    """Returns RetinaMNIST: fundus images in five grades of diabetic retinopathy.

    Raises:
        DataError: The archive is missing or damaged.
    """
    path = _first_file(folder / "medmnist" / "retinamnist.npz", folder / "retinamnist.npz")
    return read_archive(path, "RetinaMNIST fundus images, 28 px", RETINOPATHY)


def _first_file(*candidates: Path) -> Path:
    for path in candidates:
        if path.is_file():
            return path
    raise missing_file(candidates[0])


# -- The patients of PneumoniaMNIST ---------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Column:
    """The rows of the patient table for one split, in order: label and patient, or ""."""

    labels: list[str]
    patients: list[str]


def _read_table(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path.name}: found a table that cannot be read ({type(error).__name__}); expected "
            "comma-separated text; copy it again"
        ) from None
    if not rows or not set(_TABLE_COLUMNS) <= rows[0].keys():
        raise DataError(f"{path.name}: expected rows with columns {', '.join(_TABLE_COLUMNS)}")
    return {name: _column(rows, PREFIXES[name], path) for name in SPLITS}


def _column(rows: Sequence[Mapping[str, str]], split: str, path: Path) -> _Column:
    mine = [row for row in rows if row["split"] == split]
    if [row["index"] for row in mine] != [str(index) for index in range(len(mine))]:
        raise DataError(
            f"{path.name}: found rows of {split} out of order; expected index 0, 1, 2, ...; copy "
            "the table that belongs to the archive"
        )
    return _Column([row["label"] for row in mine], [row["group"].strip() for row in mine])


def _named_parts(parts: Parts, table: Table) -> Parts:
    named: dict[SplitName, RawPart] = {}
    for name in SPLITS:
        if table[name].labels != [str(label) for label in parts[name].labels.tolist()]:
            raise DataError(
                f"found {name} labels in the patient table that are not those of the images; "
                "expected the same order; use the table that belongs to the archive"
            )
        patients = np.array(table[name].patients, np.str_)
        named[name] = replace(parts[name], patients=patients)
    return named


def _patient_disjoint(raw: Raw, parts: Parts) -> Raw:
    unnamed = {name: _patients(parts[name]) == "" for name in SPLITS}
    known = {name: _rows(parts[name], ~unnamed[name]) for name in SPLITS}
    shared = np.isin(_patients(known["validation"]), _patients(known["train"]))
    left_out = ", ".join(
        f"{int(gone.sum())} {name}" for name, gone in unnamed.items() if gone.any()
    )
    note = f"{int(shared.sum())} validation images moved to training with their patients"
    return replace(
        raw,
        parts={
            "train": _joined(known["train"], _rows(known["validation"], shared)),
            "validation": _rows(known["validation"], ~shared),
            "test": known["test"],
        },
        origin=f"{raw.origin}, patients by best effort; {note}"
        + (f"; images without a patient left out: {left_out}" if left_out else ""),
    )


def _patients(part: RawPart) -> NDArray[np.str_]:
    return part.patients if part.patients is not None else np.zeros(0, np.str_)


def _rows(part: RawPart, chosen: NDArray[np.bool_]) -> RawPart:
    return RawPart(
        inputs=part.inputs[chosen],
        labels=part.labels[chosen],
        patients=_patients(part)[chosen],
    )


def _joined(first: RawPart, second: RawPart) -> RawPart:
    images = np.concatenate([first.inputs, second.inputs])
    return RawPart(
        inputs=images.astype(np.uint8, copy=False),
        labels=np.concatenate([first.labels, second.labels]),
        patients=np.concatenate([_patients(first), _patients(second)]),
    )
