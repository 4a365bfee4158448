# SPDX-License-Identifier: Apache-2.0
"""A real federation over HTTPS and websockets trains the model of one machine."""

from pathlib import Path

import pytest
from tests.adapters.conftest import make_run, same_seeds

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.stage import MODEL, NobodyWatches
from consilium.adapters.training import train_arm

pytest.importorskip("nvflare")

from tests.engine.machines import ARM, NAMES, THREE, federation, train

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    # NVFlare 2.9 calls aiohttp in an old way.
    pytest.mark.filterwarnings("ignore:ssl_context is deprecated:DeprecationWarning"),
]


def test_websockets_carry_the_same_run(tmp_path: Path) -> None:
    with federation(tmp_path / "chest", "--driver", "http") as machines:
        there, many = train(machines, tmp_path, 4)
        clocks = [machines.said(name, "coordinator's, by its answer just now") for name in NAMES]
        websockets = [machines.said(name, "server: http://localhost") for name in NAMES]

    here = make_run(tmp_path / "here", ARM, THREE)
    digits: Dataset = read_dataset(here.project.data, None)
    one = train_arm(here, digits, NobodyWatches(), same_seeds(3))

    assert (there.folder / MODEL).read_bytes() == (here.folder / MODEL).read_bytes()
    assert many.traffic == one.traffic
    assert all(clocks)
    assert all(websockets)
