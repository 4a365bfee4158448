# SPDX-License-Identifier: Apache-2.0
"""A real federation over HTTPS and websockets trains the model of one machine."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.conftest import make_run, same_seeds
from tests.engine.test_nvflare import (
    ARM,
    MAIN,
    NAMES,
    THREE,
    Machines,
    environment,
    free_port,
    listens,
    until,
)

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.stage import MODEL, NobodyWatches
from consilium.adapters.training import train_arm

pytest.importorskip("nvflare")

from consilium.adapters.nvflare.submission import train_there

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    folder, port = tmp_path / "chest", free_port()
    words = ["federation", "init", "chest", "--sites", "a,b,c", "--port", str(port)]
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", MAIN, *words, "--driver", "http", "--out", str(folder)],
        env=environment("researcher"),
        check=True,
        capture_output=True,
    )
    made = Machines(folder)
    try:
        made.coordinate()
        until(lambda: listens(port))
        for name in NAMES:
            made.join(name)
        until(lambda: all(made.said(name, "Successfully registered") for name in NAMES))
        yield made
    finally:
        for name in list(made.running):
            made.kill(name)
        for log in made.logs:
            log.close()


def test_websockets_carry_the_same_run(machines: Machines, tmp_path: Path) -> None:
    there = make_run(tmp_path / "there", ARM, THREE)
    many = train_there(there, machines.kit("researcher"), lambda _seen: None)

    here = make_run(tmp_path / "here", ARM, THREE)
    digits: Dataset = read_dataset(here.project.data, None)
    one = train_arm(here, digits, NobodyWatches(), same_seeds(3))

    assert (there.folder / MODEL).read_bytes() == (here.folder / MODEL).read_bytes()
    assert many.traffic == one.traffic
    assert all(machines.said(name, "clock: 0 s") for name in NAMES)
    assert machines.said("coordinator", "https://")
