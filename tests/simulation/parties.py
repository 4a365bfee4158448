# SPDX-License-Identifier: Apache-2.0
"""Who takes part in a history: a small project, its data, its processes and its requests."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from tests.simulation.kernel import Process
from tests.simulation.script import COORDINATOR, PATIENTS
from tests.simulation.watch import LARGEST, Lineage

from consilium import wire
from consilium.adapters import dataset
from consilium.adapters.site_session import SiteSession, make_call
from consilium.errors import ConsiliumError
from consilium.federation.enrolment import Call
from consilium.federation.messages import FROM_COORDINATOR
from consilium.federation.project import Data, parse_project
from consilium.federation.results import RunResult
from consilium.federation.setup import Setup

RUN: Final = "run-1"

PROJECT: Final = """
name = "simulated"
[data]
source = "own.npz"
[sites]
count = 3
[model]
name = "logistic"
[learning_rate]
initial = 0.05
[training]
rounds = 3
local_batch = 16
[dp]
noise_multiplier = 1.0
delta = 1e-3
expected_batch = 10
accountant = "rdp"
"""


def make_data(folder: Path, names: tuple[str, ...]) -> None:
    """Writes a small archive for each site and for the coordinator."""
    for number, name in enumerate((COORDINATOR, *names)):
        rng = np.random.default_rng(number)
        arrays: dict[str, np.ndarray[Any, Any]] = {"classes": np.array(["well", "ill"])}
        for split, count in {"train": 2 * PATIENTS, "val": 8, "test": 8}.items():
            arrays[f"{split}_images"] = rng.integers(0, 255, (count, 4, 4), dtype=np.uint8)
            arrays[f"{split}_labels"] = np.arange(count) % 2
            arrays[f"{split}_groups"] = np.array([f"{name}-{split}-{i // 2}" for i in range(count)])
        (folder / name).mkdir()
        np.savez(folder / name / "own.npz", allow_pickle=False, **arrays)


def identity(name: str) -> bytes:
    """Returns the Ed25519 private key of a site."""
    return wire.digest("simulated identity", name)


@cache
def call_of(arm: str, changes: tuple[tuple[str, str], ...]) -> Call:
    return make_call(parse_project(PROJECT, dict(changes)).resolved(), arm, 0, RUN)


@cache
def dataset_of(settings: Data, folder: Path | None) -> dataset.Dataset:
    return dataset.read_dataset(settings, folder)


# -- Processes ------------------------------------------------------------------------


@final
@dataclass
class SiteProcess:
    """One process of a site, in one job."""

    name: str
    process: Process
    session: SiteSession
    computed: dict[int, Any] = field(default_factory=dict)  # vectors by round

    def call(self, kind: str, data: bytes) -> list[bytes]:
        match kind:
            case "enrol":
                return self.session.enrol()
            case "standing":
                return self.session.enrol()[1:]
            case "join":
                return self.session.join(data)
            case _:
                return self.session.handle(data)


@final
@dataclass
class Job:
    """One start of the coordinator, and the processes of its sites."""

    number: int
    folder: Path
    process: Process
    sites: dict[str, SiteProcess] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    setup: Setup | None = None
    outcome: RunResult | str | None = None
    stopped: bool = False


@final
@dataclass(frozen=True)
class Request:
    """One request on its way."""

    job: Job
    site: str
    kind: str
    data: bytes

    @property
    def what(self) -> str:
        return type_of(self.data, FROM_COORDINATOR) if self.kind == "handle" else self.kind


def type_of(data: bytes, decoder: Any) -> str:  # noqa: ANN401 - of one of two unions
    try:
        return type(wire.decode(data, decoder, limit=LARGEST)).__name__
    except ConsiliumError:
        return "nonsense"
