# SPDX-License-Identifier: Apache-2.0
"""Appends records to a dataset folder, so that a kill at any moment loses no more than a stretch.

Files grow; a mark is the number of bytes of each that are on disk together. Going on means cutting
every file back to the last mark. The header of an array states how many records follow, and is
written over at the end; NumPy leaves room for it to grow.

Guarantees: what is written after going on is byte for byte what would have been written without
the interruption. Not here: two processes on one folder.
"""

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self, final

import numpy as np

from consilium.data.dataset_folder import COLUMNS, RECORDS, TAGS, inputs_name, maps_name
from consilium.data.deidentification import KEPT
from consilium.data.reading import Record
from consilium.data.records import SPLITS
from consilium.errors import DataError

_HEADER: Final = 128


@final
class DatasetWriter:
    """Writes the arrays and tables of one folder; use it in a `with`.

    Args:
        folder: Where; made if it is not there.
        shape: Of one record's inputs.
        dtype: "uint8" or "float32".
        label_maps: Whether records carry one.
        marks: The bytes of each file to go on from; empty to begin.
    """

    def __init__(
        self,
        folder: Path,
        shape: Sequence[int],
        dtype: str,
        *,
        label_maps: bool,
        marks: Mapping[str, int],
    ) -> None:
        self.folder = folder
        self._shapes = {inputs_name(split): tuple(shape) for split in SPLITS}
        self._dtypes = dict.fromkeys(self._shapes, np.dtype(dtype))
        if label_maps:
            maps = {maps_name(split): tuple(shape[1:]) for split in SPLITS}
            self._shapes |= maps
            self._dtypes |= dict.fromkeys(maps, np.dtype(np.uint8))
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {name: _opened(folder / name) for name in (*self._shapes, RECORDS, TAGS)}
        self._begin() if not marks else self._rewind(marks)
        self._rows = Counter({split: self._count(inputs_name(split)) for split in SPLITS})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(self, record: Record) -> None:
        """Adds one record to its split."""
        row = self._rows[record.split]
        self._files[inputs_name(record.split)].write(np.ascontiguousarray(record.inputs).data)
        if record.label_map is not None:
            name = maps_name(record.split)
            self._files[name].write(np.ascontiguousarray(record.label_map).data)
        values = (row, record.pseudonym, record.split, record.label, record.site, record.kind)
        self._files[RECORDS].write(_line(values))
        if record.tags:
            kept = (record.tags.get(keyword, "") for keyword in KEPT)
            self._files[TAGS].write(_line((row, record.split, *kept)))
        self._rows[record.split] += 1

    def mark(self) -> dict[str, int]:
        """Returns the bytes of each file, after they are on disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {name: file.tell() for name, file in self._files.items()}

    def finish(self) -> None:
        """Writes how many records each array holds, and removes a table of tags that has none."""
        for name in self._shapes:
            self._write_header(name, self._count(name))
        self.mark()
        if self._files[TAGS].seek(0, os.SEEK_END) == len(_line(("row", "split", *KEPT))):
            (self.folder / TAGS).unlink()

    def _begin(self) -> None:
        for file in self._files.values():
            file.truncate(0)
        for name in self._shapes:
            self._write_header(name, 0)
        self._files[RECORDS].write(_line(COLUMNS))
        self._files[TAGS].write(_line(("row", "split", *KEPT)))

    def _rewind(self, marks: Mapping[str, int]) -> None:
        for name, file in self._files.items():
            if file.seek(0, os.SEEK_END) < marks[name]:
                self._again(name)
            file.truncate(marks[name])
            file.seek(marks[name])

    def _again(self, name: str) -> None:
        """Writes the table of tags anew, which `finish` removes where it has no row."""
        if name != TAGS:
            raise DataError(
                f"{self.folder.name}/{name} is shorter than it was; remove that folder and begin "
                "anew"
            )
        self._files[name].write(_line(("row", "split", *KEPT)))

    def _count(self, name: str) -> int:
        size = self._dtypes[name].itemsize * int(np.prod(self._shapes[name], dtype=np.int64))
        return (self._files[name].seek(0, os.SEEK_END) - _HEADER) // size

    def _write_header(self, name: str, count: int) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {
                "descr": self._dtypes[name].str,
                "fortran_order": False,
                "shape": (count, *self._shapes[name]),
            },
        )
        if len(header.getvalue()) != _HEADER:
            raise ValueError(f"an array header of {len(header.getvalue())} bytes, not {_HEADER}")
        file = self._files[name]
        file.seek(0)
        file.write(header.getvalue())
        file.seek(0, os.SEEK_END)


def _opened(path: Path) -> BinaryIO:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return open(handle, "r+b", buffering=1 << 20)


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
