# SPDX-License-Identifier: Apache-2.0
"""The files of a folder or of a zip, in one fixed order, each read whole and only when asked.

Guarantees: nothing outside the source is read and nothing is unpacked to disk. A name that leads
elsewhere (`..`, an absolute path, a link), a pipe or a device, an encrypted or nested archive and
a member that inflates to more than it stated are refused by name; no file is ever opened by a
shell or run. Folders that are links are not entered. The source may be read by one thread.
"""

import os
import re
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, final

from consilium.data.samples import MAX_FILE_BYTES, RejectedFile
from consilium.errors import DataError

_ENCRYPTED: Final = 0x1
_ODD: Final = re.compile(r"[\x00-\x1f\\]")
_MAX_MEMBERS: Final = 5_000_000
_HIDDEN: Final = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file by its name in the source; what is wrong with it is found when it is read.

    Attributes:
        name: Relative, with `/`; may hold a patient's name, so it is never logged.
        size: Bytes, as the folder or the archive states.
        stamp: When it was last changed, as the folder or the archive states.
    """

    name: str
    size: int
    stamp: int


@final
class Source:
    """A folder, or a zip archive; use it in a `with`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._archive: zipfile.ZipFile | None = None
        if not path.exists():
            raise DataError(f"found no {path}; expected a folder or a zip; check the path")
        if path.is_file():
            try:
                self._archive = zipfile.ZipFile(path)
            except (zipfile.BadZipFile, OSError):
                raise DataError(
                    f"found a file {path.name}; expected a folder, a zip, or a table that ends "
                    "in .csv or .parquet; name one of these"
                ) from None

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *of_an_error: object) -> None:
        if self._archive is not None:
            self._archive.close()

    def files(self) -> tuple[SourceFile, ...]:
        """Returns every file, sorted by name; what operating systems leave about is not one.

        Raises:
            DataError: A folder cannot be listed.
        """
        try:
            found = self._members() if self._archive is not None else self._walk("")
            once = {file.name: file for file in found}  # an archive may hold a name twice
        except OSError as error:
            raise DataError(
                f"found a folder of the source that cannot be listed ({error.strerror}); expected "
                "to read all of it; ask for the permission, or move it away"
            ) from None
        return tuple(once[name] for name in sorted(once))

    def read(self, file: SourceFile) -> bytes:
        """Returns the whole content of `file`.

        Raises:
            RejectedFile: It is not a regular file inside the source, or too large.
            OSError: It cannot be read.
        """
        check_name(file.name)
        if self._archive is not None:
            return self._read_member(self._archive, file.name)
        return _read_regular(self._path, file.name)

    def _walk(self, below: str) -> Iterator[SourceFile]:
        with os.scandir(self._path / below) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                name = f"{below}/{entry.name}" if below else entry.name
                if entry.name in _HIDDEN:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    yield from self._walk(name)
                else:
                    facts = entry.stat(follow_symlinks=False)
                    yield SourceFile(name=name, size=facts.st_size, stamp=facts.st_mtime_ns)

    def _members(self) -> Iterator[SourceFile]:
        archive = self._archive
        members = [] if archive is None else archive.infolist()
        if len(members) > _MAX_MEMBERS:
            raise DataError(f"found {len(members)} members; expected at most {_MAX_MEMBERS}")
        for member in members:
            parts = PurePosixPath(member.filename).parts
            if not member.is_dir() and not set(parts) & set(_HIDDEN):
                year, *rest = member.date_time
                stamp = int(f"{year:04d}" + "".join(f"{part:02d}" for part in rest))
                yield SourceFile(name=member.filename, size=member.file_size, stamp=stamp)

    @staticmethod
    def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
        member = archive.getinfo(name)
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            raise RejectedFile("not a regular file", "a link or a device in the archive")
        if member.flag_bits & _ENCRYPTED:
            raise RejectedFile("not a format that is read", "an encrypted member")
        with archive.open(member) as opened:
            return _limited(opened.read(min(member.file_size, MAX_FILE_BYTES) + 1))


def check_name(name: str) -> None:
    """Refuses a name that could lead out of its source.

    Raises:
        RejectedFile: Absolute, with `..`, a drive, a backslash or a control character.
    """
    parts = name.split("/")
    if _ODD.search(name) or name.startswith("/") or ".." in parts or ":" in parts[0]:
        raise RejectedFile("unsafe path", "it leads, or could lead, out of the source")


def _read_regular(folder: Path, name: str) -> bytes:
    path = f"{folder}/{name}"
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise RejectedFile("not a regular file", "a link, a pipe or a device")
    # Not followed and not waited for, should it become a link or a pipe in between.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb", buffering=0) as file:
        size = os.fstat(handle).st_size
        if size > MAX_FILE_BYTES:
            raise RejectedFile("too large", f"{size} bytes; at most {MAX_FILE_BYTES}")
        return _limited(file.read(size + 1) or b"")


def _limited(data: bytes) -> bytes:
    if len(data) > MAX_FILE_BYTES:
        raise RejectedFile("too large", f"more than {MAX_FILE_BYTES} bytes")
    return data
