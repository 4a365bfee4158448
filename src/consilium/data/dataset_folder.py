# SPDX-License-Identifier: Apache-2.0
"""The folder that an import makes: its files, their meaning, and how a project reads it.

    file                       content
    dataset.json               `Description`: what the records are and how they were made
    DICTIONARY.md              the same for people
    records.csv                row, pseudonym, split, label, site, kind: one line a record
    tags.csv                   row, split and the kept DICOM tags, where there are any
    <split>_inputs.npy         uint8 (n, c, h, w) or (n, c, d, h, w), or float32 (n, features)
    <split>_label_maps.npy     uint8 (n, h, w) or (n, d, h, w), where they are learnt

A row is a position in the arrays of its split. Arrays are memory-mapped. Guarantees: sizes, types
and counts agree and every file has the SHA-256 that `Description.files` states, or the folder is
refused. Not here: who wrote the folder; whoever changes a file on purpose can change its digest.
"""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from consilium.data.preparation import Raw, RawPart
from consilium.data.records import SPLITS, Inputs, SplitName, Unit
from consilium.errors import DataError

FORMAT: Final = 1
DESCRIPTION: Final = "dataset.json"
DICTIONARY: Final = "DICTIONARY.md"
RECORDS: Final = "records.csv"
TAGS: Final = "tags.csv"
COLUMNS: Final = ("row", "pseudonym", "split", "label", "site", "kind")
_LARGEST_DESCRIPTION: Final = 1 << 22


class Count(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a split holds."""

    records: int
    patients: int
    of_each_class: tuple[int, ...]


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `dataset.json` says. It holds no name, no path and no date of a patient."""

    format: Literal[1] = FORMAT
    task: Literal["classification", "segmentation"]
    unit: Unit
    classes: tuple[str, ...]
    features: tuple[str, ...] = ()
    shape: tuple[int, ...]
    dtype: Literal["uint8", "float32"]
    counts: Mapping[SplitName, Count]
    preprocessing: Mapping[str, str]
    deidentification: Mapping[str, str]
    copies_between_splits: str
    software: Mapping[str, str]
    files: Mapping[str, str]


def inputs_name(split: SplitName) -> str:
    """Returns the file of a split's inputs."""
    return f"{split}_inputs.npy"


def maps_name(split: SplitName) -> str:
    """Returns the file of a split's label maps."""
    return f"{split}_label_maps.npy"


def is_dataset(path: Path) -> bool:
    """Returns whether `path` is a folder that an import made."""
    return (path / DESCRIPTION).is_file()


def read_description(path: Path) -> Description:
    """Returns what the folder says of itself.

    Raises:
        DataError: It says nothing, or not in this format.
    """
    file = path / DESCRIPTION
    try:
        if file.stat().st_size > _LARGEST_DESCRIPTION:
            raise DataError(f"{DESCRIPTION} is too large; import the dataset again")
        return msgspec.json.decode(file.read_bytes(), type=Description)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(
            f"{DESCRIPTION} cannot be read ({error}); expected format {FORMAT}, as `consilium data "
            "import` writes it; import the dataset again"
        ) from None


def read_dataset_folder(path: Path) -> Raw:
    """Returns the records of an imported folder, memory-mapped, after every byte was checked.

    Raises:
        DataError: A file is missing, does not agree with the others, or is not as it was written.
    """
    said = read_description(path)
    parts = {split: _part(path, said, split) for split in SPLITS}
    _check_digests(path, said)
    return Raw(
        parts=parts,
        classes=said.classes,
        origin=f"imported dataset {path.name}",
    )


def read_inputs(path: Path, said: Description, split: SplitName) -> Inputs:
    """Returns the inputs of a split, memory-mapped and read-only.

    Raises:
        DataError: The array is missing or not of the stated shape.
    """
    shape = (said.counts[split].records, *said.shape)
    array = _array(path / inputs_name(split), shape, said.dtype)
    return array.astype(np.uint8, copy=False) if said.dtype == "uint8" else _floats(array)


def read_label_maps(path: Path, said: Description, split: SplitName) -> NDArray[np.uint8]:
    """Returns the label maps of a split, memory-mapped and read-only.

    Raises:
        DataError: The array is missing or not of the stated shape.
    """
    shape = (said.counts[split].records, *said.shape[1:])
    return _array(path / maps_name(split), shape, "uint8").astype(np.uint8, copy=False)


def _floats(array: NDArray[np.generic]) -> NDArray[np.float32]:
    return array.astype(np.float32, copy=False)


def _array(file: Path, shape: Sequence[int], dtype: str) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file.name} cannot be read ({type(error).__name__}); expected the array that the "
            "import wrote; import the dataset again"
        ) from None
    if array.shape != tuple(shape) or array.dtype != np.dtype(dtype):
        raise DataError(
            f"{file.name} holds {array.dtype} {array.shape}; {DESCRIPTION} says {dtype} "
            f"{tuple(shape)}; import the dataset again"
        )
    return array


def sha256_of(file: Path) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _check_digests(path: Path, said: Description) -> None:
    names = [RECORDS, *map(inputs_name, SPLITS)]
    if said.task == "segmentation":
        names += map(maps_name, SPLITS)
    changed = [name for name in names if said.files.get(name) != sha256_of(path / name)]
    if changed:
        raise DataError(
            f"{', '.join(changed)} has another SHA-256 than {DESCRIPTION} says; expected what the "
            "import wrote; restore a copy or import the dataset again"
        )


def _part(path: Path, said: Description, split: SplitName) -> RawPart:
    rows = [row for row in _rows(path / RECORDS) if row["split"] == split]
    expected = [str(k) for k in range(said.counts[split].records)]
    if [row["row"] for row in rows] != expected:
        raise DataError(
            f"{RECORDS} lists {len(rows)} rows of {split}, or not in order; {DESCRIPTION} says "
            f"{len(expected)}; import the dataset again"
        )
    named = said.unit == "patient"
    sites = [row["site"] for row in rows]
    return RawPart(
        inputs=read_inputs(path, said, split),
        labels=_targets(path, said, split, rows),
        patients=np.array([row["pseudonym"] for row in rows], np.str_) if named else None,
        sites=np.array(sites, np.str_) if sites and all(sites) else None,
    )


def _targets(
    path: Path, said: Description, split: SplitName, rows: Sequence[Mapping[str, str]]
) -> NDArray[np.int64]:
    if said.task == "classification":
        return _labels(rows, len(said.classes))
    # Label maps, uint8: whoever holds only one class a record refuses them by their shape.
    return cast("NDArray[np.int64]", read_label_maps(path, said, split))


def _labels(rows: Sequence[Mapping[str, str]], classes: int) -> NDArray[np.int64]:
    try:
        labels = np.array([int(row["label"]) for row in rows], np.int64)
    except ValueError:
        raise DataError(f"{RECORDS} has a label that is no number; import it again") from None
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(f"{RECORDS} has a label that is not below {classes}; import it again")
    return labels


def _rows(file: Path) -> list[dict[str, str]]:
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened, strict=True)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DataError(f"{RECORDS} has other columns than {COLUMNS}; import it again")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{RECORDS} cannot be read ({type(error).__name__}); import the dataset again"
        ) from None
