# SPDX-License-Identifier: Apache-2.0
"""Real files, and what a kill, a power cut or a full disk leaves of them.

A process that is killed loses nothing that it has written. A machine without power loses what
was not synced: the end of a file, or a rename whose folder was not synced.
"""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from random import Random
from typing import Any, Final, final

from tests.simulation.kernel import Kernel, Process
from tests.simulation.script import FULL, KILL, POWER, Fault

REAL_FSYNC: Final = os.fsync
REAL_REPLACE: Final = os.replace
LEDGER: Final = ".jsonl"


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@final
@dataclass
class Disk:
    """The files of all machines. `come_to(point)` says what goes wrong there."""

    kernel: Kernel
    random: Random
    come_to: Callable[[str], Fault | None]
    crash: Callable[[Fault], None]
    synced: dict[Path, int] = field(default_factory=dict)  # bytes that survive a power cut
    renamed: dict[Path, bytes | None] = field(default_factory=dict)  # what a power cut brings back

    def open_file(self, path: Path, mode: str) -> "SimFile":
        """Stands for `FileIO`."""
        file = SimFile(self, path, mode)
        self.kernel.me().process.on_end.append(file.close)
        return file

    def fsync(self, handle: int) -> None:
        """Stands for `os.fsync`."""
        if self.kernel.current is None:
            return
        path = Path(f"/proc/self/fd/{handle}").readlink()
        point = "fsync folder" if path.is_dir() else "fsync part"
        fault = self.come_to("ledger fsync" if path.suffix == LEDGER else point)
        if fault is not None and path.is_file() and path.suffix != LEDGER:
            os.truncate(path, self.random.randint(0, path.stat().st_size))
        self._fail(fault)
        self.kernel.sleep(0.001)
        if path.is_dir():
            self.renamed = {k: v for k, v in self.renamed.items() if k.parent != path}
        elif path.exists():
            self.synced[path] = path.stat().st_size

    def replace(self, source: Path, target: Path) -> None:
        """Stands for `os.replace`."""
        if self.kernel.current is None:
            REAL_REPLACE(source, target)
            return
        self._fail(self.come_to("replace"))
        target = Path(target)
        self.renamed.setdefault(target, target.read_bytes() if target.exists() else None)
        REAL_REPLACE(source, target)
        self._fail(self.come_to("replaced"))

    def write(self, file: "SimFile", data: bytes) -> int:
        """A write of a ledger line: whole, a part of it, or the end of the process."""
        fault = self.come_to("ledger write")
        if fault is None:
            return file.write_all(data)
        written = self.random.randint(0, len(data) - 1)
        file.write_all(data[:written])
        if fault.what == FULL and self.random.random() < 0.5:
            return written
        self._fail(fault)
        return written

    def cut_power(self, machine: Path) -> None:
        """Takes from the files of a machine what was not on the disk yet."""
        for path in sorted(machine.rglob(f"*{LEDGER}")):
            kept = self.random.randint(
                min(self._synced(path), path.stat().st_size), path.stat().st_size
            )
            os.truncate(path, kept)
            self.synced[path] = kept
        for target, before in list(self.renamed.items()):
            if target.is_relative_to(machine):
                del self.renamed[target]
                if self.random.random() < 0.5:
                    self._bring_back(target, before)

    def whole_lines(self, path: Path) -> bytes:
        """Returns the lines of a ledger that survive a power cut now."""
        data = path.read_bytes()[: self._synced(path)] if path.exists() else b""
        return data[: data.rfind(b"\n") + 1]

    def _synced(self, path: Path) -> int:
        return self.synced.get(path, 0)

    def _bring_back(self, target: Path, before: bytes | None) -> None:
        if before is None:
            target.unlink(missing_ok=True)
        else:
            target.write_bytes(before)

    def _fail(self, fault: Fault | None) -> None:
        match fault:
            case None:
                return
            case Fault(what="disk full"):
                raise no_space()
            case Fault(what=what) if what in (KILL, POWER):
                self.crash(fault)
            case _:
                raise AssertionError(fault)


@final
class SimFile(FileIO):
    """Stands for `FileIO`: a file whose process may end."""

    def __init__(self, disk: Disk, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._disk = disk

    def write(self, data: Any) -> int:  # noqa: ANN401 - as FileIO says
        return self._disk.write(self, bytes(data))

    def write_all(self, data: bytes) -> int:
        return super().write(data)


def machine_of(process: Process, folder: Path) -> Path:
    """Returns where the files of a process's machine lie."""
    return folder / process.machine
