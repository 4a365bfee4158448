# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: they come back exactly, whole or not at all, and only to their own run."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.adapters.conftest import Full, largest_file

from consilium.adapters.checkpoints import load_progress, save_progress
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, DataError
from consilium.federation.progress import Agenda, Progress, Validation, begin, step_by_gradient
from consilium.learning.optimisers import Adam, Optimiser, Sgd
from consilium.learning.parameters import Vector
from consilium.learning.schedules import Constant

TERMS = b"t" * 32
LOOKS = (
    Validation(round=1, loss=0.1 + 0.2, auc=None, accuracy=0.5),
    Validation(round=2, loss=0.25, auc=2 / 3, accuracy=0.75),
)


def numbers(seed: int, count: int = 5) -> Vector:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def progress_of(optimiser: Optimiser, rounds: int) -> Progress:
    agenda = Agenda(
        rounds=9,
        schedule=Constant(0.1),
        optimiser=optimiser,
        average_decay=0.9,
        evaluate_every=1,
        patience=None,
    )
    progress = begin(agenda, numbers(0))
    for number in range(rounds):
        progress = step_by_gradient(agenda, progress, numbers(number + 1))
    return replace(progress, attempts=rounds + 2, history=LOOKS[:rounds])


SOME = progress_of(Sgd(0.9), 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    save_progress(path, SOME, terms=TERMS, seed=7)
    return path


# -- Round trip -----------------------------------------------------------------------

PROGRESSES: dict[str, Progress] = {
    "new": progress_of(Sgd(0.0), 0),
    "momentum": SOME,
    "adam": progress_of(Adam(), 2),
    "best kept": replace(SOME, best=numbers(9)),
}


@pytest.mark.parametrize("name", PROGRESSES)
def test_a_progress_comes_back_bit_for_bit(path: Path, name: str) -> None:
    save_progress(path, PROGRESSES[name], terms=TERMS, seed=7)
    first = path.read_bytes()

    loaded = load_progress(path, terms=TERMS, seed=7)
    save_progress(path, loaded, terms=TERMS, seed=7)

    assert path.read_bytes() == first


def test_every_field_comes_back(saved: Path) -> None:
    loaded = load_progress(saved, terms=TERMS, seed=7)

    assert (loaded.round, loaded.attempts, loaded.history) == (3, 5, LOOKS)
    assert loaded.weights.tolist() == SOME.weights.tolist()
    assert loaded.optimiser.first.tolist() == SOME.optimiser.first.tolist()
    assert loaded.average.weights().tolist() == SOME.average.weights().tolist()
    assert loaded.best is None


# -- Whole or nothing -----------------------------------------------------------------


@pytest.mark.parametrize("syncs", [0, 1])
def test_a_full_disk_leaves_a_whole_file(saved: Path, full_after: Full, syncs: int) -> None:
    later = replace(SOME, round=4)

    with full_after(syncs), pytest.raises(OSError, match="No space left"):
        save_progress(saved, later, terms=TERMS, seed=7)

    assert load_progress(saved, terms=TERMS, seed=7).round == 3 + syncs  # renamed after a sync
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


@pytest.mark.parametrize("size", [0, 1, 300])
def test_a_write_that_is_cut_leaves_the_old_file(saved: Path, size: int) -> None:
    before = saved.read_bytes()

    with largest_file(size), pytest.raises(OSError, match="File too large"):
        write_whole(saved, b"new" * 1000)

    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_what_a_killed_writer_left_is_replaced(saved: Path) -> None:
    saved.with_name(saved.name + ".part").write_bytes(b"half")

    save_progress(saved, replace(SOME, round=4), terms=TERMS, seed=7)

    assert load_progress(saved, terms=TERMS, seed=7).round == 4
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


# -- Refusals -------------------------------------------------------------------------


def foreign(path: Path) -> None:
    save_file({"weights": torch.zeros(5)}, path)


def other_type(path: Path) -> None:
    save_file({"weights": torch.zeros(5, dtype=torch.bfloat16)}, path, {"consilium": "{}"})


def small_float(path: Path) -> None:
    save_file({"weights": torch.zeros(5).to(torch.float8_e4m3fn)}, path, {"consilium": "{}"})


def replaced(old: bytes, new: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new))


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "absent": lambda path: path.unlink(),
    "pickle": lambda path: path.write_bytes(pickle.dumps({"weights": [1.0]})),
    "foreign": foreign,
    "another type": other_type,
    "a small float": small_float,
    "cut in its header": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "cut in its numbers": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "too long": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "another count of rounds": replaced(b'\\"round\\":3', b'\\"round\\":2'),
    "another look": replaced(b"0.75", b"0.85"),
    "another name": replaced(b'"optimiser.first"', b'"optimiser.third"'),
    "another version": replaced(b'\\"version\\":2', b'\\"version\\":1'),
    "another weight": replaced(SOME.weights.tobytes(), numbers(8).tobytes()),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_whole_checkpoint_is_refused(saved: Path, name: str) -> None:
    BAD[name](saved)

    with pytest.raises(DataError, match=r"^checkpoint \S+ (cannot|has|holds) .* expected .*: re"):
        load_progress(saved, terms=TERMS, seed=7)


@pytest.mark.parametrize(("terms", "seed"), [(b"u" * 32, 7), (TERMS, 8)])
def test_a_checkpoint_of_another_run_is_refused(saved: Path, terms: bytes, seed: int) -> None:
    with pytest.raises(ConfigError, match="another project, data, arm or seed"):
        load_progress(saved, terms=terms, seed=seed)
