# SPDX-License-Identifier: Apache-2.0
"""The ledger on disk: its chain, what a crash leaves, and that no receipt comes too early."""

import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.conftest import largest_file

from consilium.adapters import ledger_file
from consilium.adapters.ledger_file import FileLedger, count_charges, last_charged
from consilium.errors import BudgetExceeded, DataError
from consilium.federation.ledger import Charge, charge_digest

Lines = list[bytes]


def charge(number: int) -> Charge:
    return Charge(site=2, round=number, terms=b"t" * 32, mechanism="one step")


def written(path: Path, charges: int) -> Path:
    """Returns `path` with so many charges in it."""
    ledger = FileLedger(path, allowed=None)
    for number in range(1, charges + 1):
        ledger.append(charge(number))
    ledger.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "site-3.jsonl"


# -- Charges --------------------------------------------------------------------------


def test_a_receipt_names_the_charge_and_its_place(path: Path) -> None:
    ledger = FileLedger(path, allowed=None)

    receipts = [ledger.append(charge(number)) for number in (4, 7)]
    ledger.close()

    assert [receipt.sequence for receipt in receipts] == [1, 2]
    assert [receipt.charge for receipt in receipts] == [
        charge_digest(charge(4)),
        charge_digest(charge(7)),
    ]


def test_charges_are_counted_across_openings(path: Path) -> None:
    written(path, 3)

    ledger = FileLedger(path, allowed=None)
    receipt = ledger.append(charge(4))
    ledger.close()

    assert receipt.sequence == ledger.count() == count_charges(path) == 4


def test_the_last_round_is_read_again_by_its_terms(path: Path) -> None:
    written(path, 3)
    ledger = FileLedger(path, allowed=None)
    ledger.append(replace(charge(9), terms=b"u" * 32))
    ledger.append(charge(5))
    ledger.close()

    again = FileLedger(path, allowed=None)
    found = [again.last_round(terms * 32) for terms in (b"t", b"u", b"v")]
    again.close()

    assert found == [5, 9, 0]
    assert [ledger.last_round(terms * 32) for terms in (b"t", b"u", b"v")] == found
    assert [last_charged(path, terms * 32) for terms in (b"t", b"u", b"v")] == found


def test_an_absent_ledger_holds_no_charge(path: Path) -> None:
    assert count_charges(path) == 0
    assert not path.exists()


def test_the_last_round_is_read_back(path: Path) -> None:
    assert last_charged(path) == 0

    ledger = FileLedger(path, allowed=None)
    for number in (4, 7):
        ledger.append(charge(number))
    ledger.close()

    assert (last_charged(path), count_charges(path)) == (7, 2)


def test_a_charge_beyond_the_budget_writes_nothing(path: Path) -> None:
    before = written(path, 2).read_bytes()
    ledger = FileLedger(path, allowed=2)

    with pytest.raises(BudgetExceeded, match="pays for 2 steps and 2 were charged"):
        ledger.append(charge(3))
    ledger.close()

    assert path.read_bytes() == before


# -- The chain ------------------------------------------------------------------------

TAMPERED: dict[str, tuple[Callable[[Lines], Lines], int]] = {
    "a round changed": (lambda x: [x[0], x[1].replace(b'"round":2', b'"round":9'), *x[2:]], 2),
    "a word added": (lambda x: [x[0], x[1].replace(b"one step", b"no step!"), *x[2:]], 2),
    "the first line removed": (lambda x: x[1:], 1),
    "a middle line removed": (lambda x: [*x[:2], *x[3:]], 3),
    "two lines exchanged": (lambda x: [x[0], x[2], x[1], x[3]], 2),
    "a line repeated": (lambda x: [*x[:2], x[1], *x[2:]], 3),
    "a line of junk": (lambda x: [*x[:3], b"junk\n", x[3]], 4),
    "an empty line": (lambda x: [*x[:3], b"\n", x[3]], 4),
    "a negative site": (lambda x: [x[0].replace(b'"site":2', b'"site":-2'), *x[1:]], 1),
    "a number too large": (lambda x: [x[0].replace(b'"site":2', b'"site":9' + b"9" * 30)], 1),
    "a key added": (lambda x: [x[0].replace(b'"site":2', b'"site":2,"note":1'), *x[1:]], 1),
    "terms that are no hex": (lambda x: [x[0].replace(b"7474", b"zz74"), *x[1:]], 1),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_ledger_is_refused_by_line(path: Path, name: str) -> None:
    change, line = TAMPERED[name]
    lines = written(path, 4).read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(change(lines)))

    with pytest.raises(DataError, match=rf"^ledger site-3\.jsonl: line {line} .*restore a copy$"):
        FileLedger(path, allowed=None)
    with pytest.raises(DataError, match=f"line {line} "):
        count_charges(path)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0), st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, flip: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / "ledger", 3)
        data = bytearray(path.read_bytes())
        data[place % (len(data) - 1)] ^= flip  # the last byte ends the last line
        path.write_bytes(data)

        with pytest.raises(DataError, match="restore a copy"):
            count_charges(path)


# -- Crashes --------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 40, -2, -1])
def test_a_torn_last_line_is_cut_off(path: Path, kept: int) -> None:
    whole = written(path, 2).read_bytes()
    torn = written(path, 1).read_bytes()[len(whole) :]
    path.write_bytes(whole + torn[:kept])

    assert count_charges(path) == 2
    assert written(path, 1).read_bytes() == whole + torn


def test_counting_changes_nothing(path: Path) -> None:
    torn = written(path, 2).read_bytes()[:-5]
    path.write_bytes(torn)

    assert count_charges(path) == 1
    assert path.read_bytes() == torn


def test_the_line_is_synced_before_the_receipt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger, synced = FileLedger(path, allowed=None), list[int]()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))

    ledger.append(charge(1))
    after_receipt = list(synced)
    ledger.close()

    assert after_receipt == [path.stat().st_size]


def test_the_name_of_a_new_ledger_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = list[bool]()
    monkeypatch.setattr(
        os, "fsync", lambda handle: kinds.append(stat.S_ISDIR(os.fstat(handle).st_mode))
    )

    FileLedger(path, allowed=None).close()

    assert kinds == [False, True]


def test_a_line_that_was_cut_short_gets_no_receipt(path: Path) -> None:
    size = written(path, 2).stat().st_size
    ledger = FileLedger(path, allowed=None)

    with largest_file(size + 100), pytest.raises(OSError, match="cut short"):
        ledger.append(charge(3))
    with pytest.raises(DataError, match="free space on the disk and resume"):
        ledger.append(charge(3))

    assert ledger.count() == count_charges(path) == 2
    assert written(path, 1).stat().st_size > size


def test_a_sync_that_fails_gets_no_receipt(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = FileLedger(written(path, 1), allowed=None)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fail)
        with pytest.raises(OSError, match="no space"):
            ledger.append(charge(2))

    assert ledger.count() == 1
    assert count_charges(path) == 2  # the charge stands: a crash costs budget, never privacy


def _fail(_handle: int) -> None:
    raise OSError("no space")


WRITER = """
import sys
from pathlib import Path
from consilium.adapters.ledger_file import FileLedger
from consilium.federation.ledger import Charge
ledger = FileLedger(Path(sys.argv[1]), allowed=None)
for number in range(1, 100_000):
    charge = Charge(site=2, round=number, terms=b"t" * 32, mechanism="one step")
    sys.stdout.write(f"{ledger.append(charge).sequence}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("seen", [1, 17, 60])
def test_a_killed_site_loses_no_charge_it_had_a_receipt_of(path: Path, seen: int) -> None:
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:  # noqa: S603
        assert writer.stdout is not None
        for _ in range(seen):
            writer.stdout.readline()
        writer.kill()
        acknowledged = seen + len(writer.stdout.read().splitlines())

    assert count_charges(path) in (acknowledged, acknowledged + 1)
    assert written(path, 1).exists()


# -- One holder -----------------------------------------------------------------------


def test_a_second_holder_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "_PATIENCE", 0.0)
    first = FileLedger(path, allowed=None)

    with pytest.raises(DataError, match="held by another process"):
        FileLedger(path, allowed=None)
    first.close()

    FileLedger(path, allowed=None).close()


def test_a_site_that_is_ending_is_waited_for(path: Path) -> None:
    first = FileLedger(path, allowed=None)
    timer = threading.Timer(0.1, first.close)
    timer.start()

    second = FileLedger(path, allowed=None)
    second.close()
    timer.join()

    assert second.count() == 0
