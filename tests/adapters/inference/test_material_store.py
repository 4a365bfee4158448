# SPDX-License-Identifier: Apache-2.0
"""One-time material on disk: used once, whatever crashes."""

import os
from pathlib import Path

import pytest

from consilium.adapters.inference.material_store import MaterialStore
from consilium.errors import DataError
from consilium.inference.messages import Material
from consilium.inference.operator import UseReceipt

NAME = b"p" * 32


def store(folder: Path, *numbers: int) -> MaterialStore:
    made = MaterialStore(folder, NAME)
    for number in numbers:
        made.keep(Material(NAME, number, bytes(32), b"corrections"))
    return made


def test_what_is_marked_is_gone_after_a_restart(tmp_path: Path) -> None:
    receipts = store(tmp_path, 0, 1, 2).mark((0, 2))

    assert receipts == (UseReceipt(NAME, 0), UseReceipt(NAME, 2))
    assert MaterialStore(tmp_path, NAME).numbers() == (1,)


def test_a_number_is_never_marked_twice(tmp_path: Path) -> None:
    kept = store(tmp_path, 0, 1)
    kept.mark((0,))

    with pytest.raises(DataError, match="was used"):
        kept.mark((0,))
    with pytest.raises(DataError, match="was used"):
        kept.mark((1, 1))
    assert kept.numbers() == (1,)


def test_used_material_cannot_be_dealt_again(tmp_path: Path) -> None:
    store(tmp_path, 0).mark((0,))

    with pytest.raises(DataError, match="dealt before"):
        store(tmp_path, 0)


def test_a_crash_after_the_mark_loses_the_material(tmp_path: Path) -> None:
    store(tmp_path, 0, 1)
    (tmp_path / "used").write_bytes(b"0\n")

    assert MaterialStore(tmp_path, NAME).numbers() == (1,)
    assert not list(tmp_path.glob("*0000.material"))


def test_a_crash_in_the_middle_of_the_mark_gave_no_receipt(tmp_path: Path) -> None:
    store(tmp_path, 0, 1, 12)
    (tmp_path / "used").write_bytes(b"0\n1")

    kept = MaterialStore(tmp_path, NAME)

    assert kept.numbers() == (1, 12)
    assert (tmp_path / "used").read_bytes() == b"0\n"


def test_a_damaged_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "used").write_bytes(b"zero\n")

    with pytest.raises(DataError, match="damaged"):
        MaterialStore(tmp_path, NAME)


def test_material_of_another_publication_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="another publication"):
        store(tmp_path).keep(Material(b"q" * 32, 0, bytes(32), b""))


def test_the_mark_is_synced_before_material_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, synced = store(tmp_path, 0), list[bytes]()
    plain = os.fsync

    def fsync(handle: int) -> None:
        plain(handle)
        log = tmp_path / "used"
        if os.path.samestat(os.fstat(handle), log.stat()):
            synced.append(log.read_bytes())
            assert kept._path(0).exists()

    monkeypatch.setattr(os, "fsync", fsync)
    kept.mark((0,))

    assert synced == [b"0\n"]


def test_what_is_discarded_is_used(tmp_path: Path) -> None:
    kept = store(tmp_path, 0, 1, 2)

    kept.discard({0, 2, 7})

    assert kept.numbers() == MaterialStore(tmp_path, NAME).numbers() == (1,)
    with pytest.raises(DataError, match="was used"):
        kept.mark((0,))
