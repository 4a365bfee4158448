# SPDX-License-Identifier: Apache-2.0
"""A site's ledger as one append-only file: a line a charge, hash-chained, durable when it returns.

Guarantees: when `append` returns, the line is on the disk (fsync), whole, under a name that is
on the disk. A file that was changed, reordered or cut in the middle is refused when it is
opened. A half-written last line, as a crash leaves it, had no receipt yet and is removed. One
process at a time holds the file. Cutting off whole last lines is not detected here; that takes
other sites' signatures (governance).
"""

import errno
import fcntl
import os
import time
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final, final

import msgspec

from consilium.adapters.whole_files import sync_folder
from consilium.errors import DataError
from consilium.federation.ledger import Charge, Receipt, charge_digest, check_room
from consilium.wire import digest

_START: Final = bytes(32)
_PATIENCE: Final = 10.0  # seconds; the site of a run that was killed ends within one round
_PAUSE: Final = 0.02  # seconds


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sequence: int
    site: int
    round: int
    terms: str
    mechanism: str
    previous: str
    link: str


@final
@dataclass(frozen=True, slots=True)
class _Chain:
    """What a file holds: charges, the link of the last one, and the bytes of its whole lines.

    `rounds` is the highest round charged, by the terms in hexadecimal.
    """

    count: int
    last: bytes
    size: int
    rounds: dict[str, int]


@final
class FileLedger:
    """The ledger in the file at `path`; at most `allowed` charges, or any number with None.

    Raises:
        DataError: The file does not hold an unbroken chain, or another process holds the file.
    """

    def __init__(self, path: Path, *, allowed: int | None) -> None:
        self._path, self._allowed = path, allowed
        self._file = FileIO(path, "ab")
        try:
            _lock(self._file, path)
            chain = _verify(path)
            os.ftruncate(self._file.fileno(), chain.size)
            os.fsync(self._file.fileno())
            sync_folder(path.parent)
        except (DataError, OSError):
            self.close()
            raise
        self._count, self._last, self._rounds = chain.count, chain.last, chain.rounds

    def append(self, charge: Charge) -> Receipt:
        """Returns the receipt of `charge` once its line is on the disk.

        Raises:
            BudgetExceeded: It would be one step too many; nothing was written.
            OSError: The line is not on the disk, and there is no receipt.
            DataError: A line before could not be written; nothing was written.
        """
        if self._allowed is not None:
            check_room(made=self._count, allowed=self._allowed)
        if self._file.closed:
            raise DataError(
                f"ledger {self._path.name} could not be written before; expected a whole file: "
                "free space on the disk and resume"
            )
        line, link = _line(charge, self._count + 1, self._last)
        try:
            _write(self._file, msgspec.json.encode(line) + b"\n")
            os.fsync(self._file.fileno())
        except OSError:
            self.close()
            raise
        self._count, self._last = line.sequence, link
        _count_round(self._rounds, line)
        return Receipt(charge=charge_digest(charge), sequence=line.sequence)

    def last_round(self, terms: bytes) -> int:
        """Returns the highest round ever charged under these terms, 0 where there is none."""
        return self._rounds.get(terms.hex(), 0)

    def count(self) -> int:
        """Returns how many charges were ever made."""
        return self._count

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def count_charges(path: Path) -> int:
    """Returns how many charges the ledger at `path` holds, 0 where there is none; changes nothing.

    Raises:
        DataError: The file does not hold an unbroken chain.
    """
    return _verify(path).count


def last_charged(path: Path, terms: bytes | None = None) -> int:
    """Returns the highest round that the ledger at `path` has a charge of, 0 where there is none.

    Args:
        path: Of the file; it may be absent.
        terms: Only charges under these count; None: all do.

    Raises:
        DataError: The file does not hold an unbroken chain.
    """
    rounds = _verify(path).rounds
    return max(rounds.values(), default=0) if terms is None else rounds.get(terms.hex(), 0)


# -- The file -------------------------------------------------------------------------


def _lock(file: FileIO, path: Path) -> None:
    """Waits a little: a site whose coordinator was killed still ends its round."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DataError(
                    f"ledger {path.name} is held by another process; expected one run at a time: "
                    "wait for the other run or end it"
                ) from None
            time.sleep(_PAUSE)
        else:
            return


def _write(file: FileIO, data: bytes) -> None:
    """Writes all of `data`; a disk that is nearly full takes a part without complaint."""
    written = file.write(data)
    if written != len(data):
        raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: a ledger line was cut short")


# -- The chain ------------------------------------------------------------------------


def _line(charge: Charge, sequence: int, previous: bytes) -> tuple[_Line, bytes]:
    link = digest("ledger line", previous, sequence, charge_digest(charge))
    line = _Line(
        sequence=sequence,
        site=charge.site,
        round=charge.round,
        terms=charge.terms.hex(),
        mechanism=charge.mechanism,
        previous=previous.hex(),
        link=link.hex(),
    )
    return line, link


def _verify(path: Path) -> _Chain:
    """Returns the chain in the file; a half-written last line is not part of it."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    count, last, rounds = 0, _START, dict[str, int]()
    for text in whole.splitlines():
        line, last = _verify_line(path, text, count + 1, last)
        _count_round(rounds, line)
        count += 1
    return _Chain(count, last, len(whole), rounds)


def _count_round(rounds: dict[str, int], line: _Line) -> None:
    rounds[line.terms] = max(line.round, rounds.get(line.terms, 0))


def _verify_line(path: Path, text: bytes, sequence: int, previous: bytes) -> tuple[_Line, bytes]:
    try:
        found = msgspec.json.decode(text, type=_Line)
        charge = Charge(
            site=found.site,
            round=found.round,
            terms=bytes.fromhex(found.terms),
            mechanism=found.mechanism,
        )
        expected, link = _line(charge, sequence, previous)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        raise DataError(
            f"ledger {path.name}: line {sequence} is damaged; expected a charge: restore a copy"
        ) from None
    if found != expected:
        raise DataError(
            f"ledger {path.name}: line {sequence} does not continue the chain; it or a line "
            "before it was changed, removed or added: restore a copy"
        )
    return found, link
