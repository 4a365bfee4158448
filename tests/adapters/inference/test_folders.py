# SPDX-License-Identifier: Apache-2.0
"""A folder keeps the answers that it got, whatever happens to the rest of it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.adapters.inference.parties import card_of, owned
from tests.data.made import encoded, picture

from consilium.adapters.inference import folders
from consilium.adapters.inference.asking import Found, Offered, Patient
from consilium.adapters.inference.folders import BATCH, ask_all
from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.adapters.inference.publishing import compile_owned
from consilium.errors import RoundAborted

FACTS = {"online_seconds": 0.0, "offline_seconds": 0.0, "bytes": 0.0, "rounds": 0.0}


@dataclass(slots=True)
class Played:
    """Operators that have so much material at each look, and fail at the `failing`-th batch."""

    room: list[int]
    failing: int = 99
    sizes: list[int] = field(default_factory=list)

    def images_left(self, _: str) -> int:
        return self.room.pop(0) if len(self.room) > 1 else self.room[0]

    def ask(self, _: Offered, images: NDArray[np.float32]) -> Found:
        if len(self.sizes) == self.failing:
            raise RoundAborted("operator 1 does not answer")
        self.sizes.append(len(images))
        logits = np.zeros((len(images), 3))
        return Found(logits=logits, facts=(FACTS, FACTS), seconds=0.0, uploaded=0)


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Patient]:
    first, second = (Address("127.0.0.1", 1 + 2 * k, 2 + 2 * k) for k in (0, 1))
    make_kits(tmp_path / "kits", Operators((first, second)))
    made = Patient(tmp_path / "kits")
    yield made
    made.close()


def offered() -> Offered:
    compiled = compile_owned(owned(), None)
    card = card_of(owned(), compiled)
    return Offered("ab" * 32, card, ready=True, images=1, program=compiled.program)


def clinic(folder: Path, count: int, *damaged: int) -> list[Path]:
    files = [folder / f"{k:03d}.png" for k in range(count)]
    for k, file in enumerate(files):
        data = encoded(picture(k), "PNG")
        file.write_bytes(data[:70] if k in damaged else data)
    return files


def play(
    patient: Patient, played: Played, files: list[Path], patch: pytest.MonkeyPatch
) -> tuple[list[str], list[str]]:
    """Returns the names of files with and without an answer."""
    patch.setattr(folders, "_LOOK", 0.01)
    patch.setattr(Patient, "images_left", lambda _, name: played.images_left(name))
    patch.setattr(Patient, "ask", lambda _, one, images: played.ask(one, images))
    asked = ask_all(patient, offered(), files)
    good = [file.name for part, _ in asked.batches for file in part]
    return good, [one.file.name for one in asked.unanswered]


def test_a_damaged_file_costs_its_own_answer_only(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, played = clinic(tmp_path, BATCH + 4, 2, BATCH + 1), Played([64])

    good, bad = play(patient, played, files, monkeypatch)

    assert bad == ["002.png", f"{BATCH + 1:03d}.png"]
    assert good == [one.name for one in files if one.name not in bad]
    assert played.sizes == [BATCH - 1, 3]


def test_an_operator_that_stops_costs_the_rest_and_no_answer_before(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = clinic(tmp_path, 3 * BATCH, BATCH)

    good, bad = play(patient, Played([64], failing=1), files, monkeypatch)

    assert good == [one.name for one in files[:BATCH]]
    assert sorted(bad) == [one.name for one in files[BATCH:]]


def test_batches_are_as_large_as_the_material(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played([3, 0, 0, 1, 64])

    good, bad = play(patient, played, clinic(tmp_path, 7), monkeypatch)

    assert played.sizes == [3, 1, 3]
    assert (len(good), bad) == (7, [])


def test_a_dealer_that_never_comes_is_not_waited_for_for_ever(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "DEALER", 0.1)

    good, bad = play(patient, Played([0]), clinic(tmp_path, 2), monkeypatch)

    assert (good, len(bad)) == ([], 2)


def test_a_folder_of_damage_is_asked_of_nobody(
    patient: Patient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = Played([64])

    good, bad = play(patient, played, clinic(tmp_path, 2, 0, 1), monkeypatch)

    assert (good, len(bad), played.sizes) == ([], 2, [])
