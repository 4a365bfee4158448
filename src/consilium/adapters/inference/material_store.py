# SPDX-License-Identifier: Apache-2.0
"""Material on disk, each image's used once: marked before use, then gone.

    keep    beside, synced, renamed: whole or not there
    take    the number is appended to `used` and synced; then the file is removed; only then do
            material and receipt leave this module

Guarantees: whatever crashes, and whatever is tried again, no material leaves twice. What was
marked and not used is lost, which costs a little work. A number that was ever used is refused.
When it fails: a disk that is set back to an older state; the other operator's store then refuses
the numbers, as both must have them unused. Two disks set back together are not noticed.
"""

import os
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Final, final

from msgspec.msgpack import Decoder

from consilium import wire
from consilium.adapters.inference.links import LARGEST
from consilium.adapters.whole_files import sync_folder, write_whole
from consilium.errors import DataError
from consilium.inference.messages import Material
from consilium.inference.operator import UseReceipt

_MATERIAL: Final[Decoder[Material]] = Decoder(Material)
_SUFFIX: Final = ".material"


@final
class MaterialStore:
    """The material of one publication, in a folder of its own.

    Raises:
        DataError: The list of used numbers is damaged.
    """

    def __init__(self, folder: Path, publication: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._publication = folder, publication
        self._lock = threading.Lock()
        self._used = self._read_used()
        for number in self._on_disk():
            if number in self._used:
                self._path(number).unlink()
        self._waiting = sorted(self._on_disk())

    def keep(self, material: Material) -> None:
        """Keeps material for later.

        Raises:
            DataError: Of another publication, or its number was used or is kept already.
        """
        if material.publication != self._publication:
            raise DataError("material of another publication; deal for this one")
        with self._lock:
            if material.number in self._used or material.number in self._waiting:
                raise DataError(f"material {material.number} was dealt before; deal a new one")
            write_whole(self._path(material.number), wire.encode(material))
            self._waiting = sorted([*self._waiting, material.number])

    def numbers(self) -> tuple[int, ...]:
        """Returns the numbers that were never used, in order."""
        with self._lock:
            return tuple(self._waiting)

    def look(self, number: int) -> Material:
        """Returns unused material, to prepare with; what is said needs its receipt.

        Raises:
            DataError: It is not here.
        """
        with self._lock:
            if number not in self._waiting:
                raise DataError(f"material {number} is not here, or was used; take another")
            return wire.decode(self._path(number).read_bytes(), _MATERIAL, limit=LARGEST)

    def mark(self, numbers: tuple[int, ...]) -> tuple[UseReceipt, ...]:
        """Returns the receipts of numbers that are, from now on and for ever, used.

        Raises:
            DataError: One of them was used before, or is not here; none is marked then.
        """
        with self._lock:
            if not set(numbers) <= set(self._waiting) or len(set(numbers)) != len(numbers):
                raise DataError(f"material {numbers} is not here, or was used; take others")
            self._mark(numbers)
        return tuple(UseReceipt(self._publication, number) for number in numbers)

    def discard(self, numbers: Collection[int]) -> None:
        """Marks what no session can use: damaged, or not at the other operator."""
        with self._lock:
            lost = tuple(number for number in self._waiting if number in numbers)
            if lost:
                self._mark(lost)

    def _mark(self, numbers: tuple[int, ...]) -> None:
        with self._log().open("ab") as log:
            log.write(b"".join(b"%d\n" % number for number in numbers))
            log.flush()
            os.fsync(log.fileno())
        sync_folder(self._folder)
        self._used |= set(numbers)
        self._waiting = [number for number in self._waiting if number not in numbers]
        for number in numbers:
            self._path(number).unlink(missing_ok=True)
        sync_folder(self._folder)

    def _log(self) -> Path:
        return self._folder / "used"

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{_SUFFIX}"

    def _on_disk(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob(f"*{_SUFFIX}")]

    def _read_used(self) -> set[int]:
        """Returns the numbers in the log; a half line, as a crash leaves it, had no receipt."""
        if not self._log().exists():
            return set()
        text = self._log().read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            write_whole(self._log(), whole)
        return self._parsed(whole)

    def _parsed(self, text: bytes) -> set[int]:
        try:
            return {int(line) for line in text.split()}
        except ValueError:
            raise DataError(
                f"{self._log()} is damaged; expected a number a line: remove the folder and deal "
                "new material"
            ) from None
