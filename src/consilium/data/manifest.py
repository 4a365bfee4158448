# SPDX-License-Identifier: Apache-2.0
"""What a hospital says of its files, by a table or by folders: patient, label, split, site.

A table (CSV, UTF-8, with a header; or Parquet) has one row a file, or a row an identifier that
stands in the DICOM header (`match`):

    column             needed     meaning
    file               with match "file": path inside the source, or the bare file name
    PatientID, ...     with another match: the value of that DICOM tag
    <patient column>   unless DICOM's PatientID serves
    <label column>     unless label maps are learnt
    split              optional: train, validation (val) or test
    site               optional: the institution

Without a table the folders say it: [<split>/]<class>/.../<file>; the patient is then DICOM's.

Guarantees: a missing patient or label stays missing; nothing is guessed from a file name. One key
in two rows that differ, and one patient in two splits, are refused with counts and no names.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal, TypeAlias, final, get_args

from consilium.data.records import MISSING, SplitName
from consilium.errors import DataError

Match: TypeAlias = Literal[
    "file",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "AccessionNumber",
]

MATCHES: Final[tuple[Match, ...]] = get_args(Match)
MAX_CLASSES: Final = 256
_SPLIT_WORDS: Final[Mapping[str, SplitName]] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is said of one file; None is what was not said."""

    patient: str | None = field(default=None, repr=False)
    label: str | None = None
    split: SplitName | None = None
    site: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What the columns of a table are called.

    Attributes:
        patient: None where DICOM's PatientID names the patient.
        label: None where label maps are learnt.
        match: What a row is about.
    """

    patient: str | None
    label: str | None
    match: Match = "file"


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The rows of a table by their key, and what its columns mean."""

    entries: Mapping[str, Entry] = field(repr=False)
    columns: Columns

    def labels(self) -> tuple[str, ...]:
        """Returns the different labels: numbers by size, else words by alphabet.

        Raises:
            DataError: So many that they look like identifiers.
        """
        return ordered({e.label for e in self.entries.values() if e.label is not None})


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Returns class names in the order in which they are numbered.

    Raises:
        DataError: More than `MAX_CLASSES`.

    >>> ordered({"10", "2", "1"}), ordered({"pneumonia", "normal"})
    (('1', '2', '10'), ('normal', 'pneumonia'))
    """
    found = set(labels)
    if len(found) > MAX_CLASSES:
        raise DataError(
            f"found {len(found)} different labels; expected at most {MAX_CLASSES}; name the "
            "column that holds the class, not one that holds identifiers or text"
        )
    if all(label.isdecimal() for label in found):
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def read_manifest(path: Path, columns: Columns) -> Manifest:
    """Returns what the table at `path` says.

    Raises:
        DataError: No table, a column is missing, a key is in two rows that differ, or a patient is
            in two splits.
    """
    wanted = [name for name in (columns.match, columns.patient, columns.label) if name is not None]
    entries: dict[str, Entry] = {}
    clashes = 0
    for row in rows_of(path, wanted):
        key, entry = _key(row, columns), _entry(row, columns)
        clashes += entries.setdefault(key, entry) != entry
    if clashes:
        raise DataError(
            f"found {clashes} rows of {path.name} that contradict another row of the same "
            f"{columns.match}; expected one row each; correct the table"
        )
    entries.pop("", None)
    _check_splits(entries.values(), path.name)
    return Manifest(entries, columns)


def from_folders(name: str) -> Entry:
    """Returns what the folders around a file say: its class, and its split if they start with one.

    >>> from_folders("train/NORMAL/1.jpeg")
    Entry(label='NORMAL', split='train', site='')
    """
    folders = PurePosixPath(name).parts[:-1]
    split = _SPLIT_WORDS.get(folders[0].lower()) if folders else None
    below = folders[1:] if split else folders
    return Entry(label=below[0] if below else None, split=split)


def rows_of(path: Path, wanted: Iterable[str]) -> Iterator[Mapping[str, str]]:
    """Yields the rows of a CSV or Parquet table as text.

    Raises:
        DataError: The file is missing or is no such table, or a wanted column is not in it.
    """
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" else _csv_rows(path)
    first = next(rows, None)
    if first is None:
        raise DataError(f"found no row in {path.name}; expected a header and rows; check the file")
    absent = [name for name in wanted if name not in first]
    if absent:
        raise DataError(
            f"found no column {', '.join(map(repr, absent))} in {path.name}; expected it among "
            f"{', '.join(map(repr, first))}; name the right column or add it"
        )
    yield first
    yield from rows


def _csv_rows(path: Path) -> Iterator[Mapping[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for row in csv.DictReader(file, strict=True, restval=""):
                yield {name: value for name, value in row.items() if name is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path.name} cannot be read as a table ({type(error).__name__}); expected CSV in "
            "UTF-8 with a header, comma-separated; export it so"
        ) from None


def _parquet_rows(path: Path) -> Iterator[Mapping[str, str]]:
    from pyarrow import ArrowException  # noqa: PLC0415 - a third of a second to load
    from pyarrow.parquet import ParquetFile  # noqa: PLC0415 - as above

    try:
        with ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    yield {name: "" if v is None else str(v) for name, v in row.items()}
    except (OSError, ArrowException) as error:
        raise DataError(
            f"{path.name} cannot be read as Parquet ({type(error).__name__}); export it again"
        ) from None


def _key(row: Mapping[str, str], columns: Columns) -> str:
    key = row[columns.match].strip()
    return key.replace("\\", "/").removeprefix("./") if columns.match == "file" else key


def _entry(row: Mapping[str, str], columns: Columns) -> Entry:
    return Entry(
        patient=None if columns.patient is None else said(row[columns.patient]),
        label=None if columns.label is None else said(row[columns.label]),
        split=read_split(row),
        site=row.get("site", "").strip(),
    )


def read_split(row: Mapping[str, str]) -> SplitName | None:
    """Returns the split that a row states, None where it states none.

    Raises:
        DataError: Another word.
    """
    word = row.get("split", "").strip().lower()
    if word and word not in _SPLIT_WORDS:
        raise DataError(
            f"found split {word!r}; expected train, validation or test, or nothing; correct it"
        )
    return _SPLIT_WORDS.get(word)


def said(value: str) -> str | None:
    """Returns a value without space around it, None where an export wrote that there is none."""
    plain = value.strip()
    return None if plain.lower() in MISSING else plain


def _check_splits(entries: Iterable[Entry], name: str) -> None:
    seen: dict[str, SplitName | None] = {}
    torn = {
        entry.patient
        for entry in entries
        if entry.patient is not None and seen.setdefault(entry.patient, entry.split) != entry.split
    }
    if torn:
        raise DataError(
            f"found {len(torn)} patients of {name} in more than one split; expected each in one; "
            "correct the column split, or remove it and let patients be divided by their pseudonym"
        )
