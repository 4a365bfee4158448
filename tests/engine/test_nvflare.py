# SPDX-License-Identifier: Apache-2.0
"""A real federation on this machine: NVFlare, mutual TLS, three sites as processes, one dies.

One federation serves all tests of this file in their order; they run on one worker
(`make test` calls them by themselves).
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

import psutil
import pytest
from tests.adapters.conftest import make_run, same_seeds

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.stage import MODEL, NobodyWatches, Run
from consilium.adapters.training import train_arm
from consilium.errors import RoundAborted
from consilium.federation.results import RunResult

pytest.importorskip("nvflare")

from consilium.adapters.nvflare.submission import train_there

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

NAMES = ("a", "b", "c")
ARM = "federated-dp"
ROUNDS = 200  # enough for a site to come back
THREE = {"sites.count": "3", "sites.colluders": "0", "training.rounds": "4"}
MAIN = "from consilium.cli.app import main; main()"
HERE = Path(__file__).parent
FREELY = ("--part-of-shared-source", "--approve-every-project", "--trust-first-roster")


@dataclass
class Machines:
    """The processes of one federation."""

    folder: Path
    running: dict[str, subprocess.Popen[bytes]] = field(
        default_factory=dict[str, subprocess.Popen[bytes]]
    )
    logs: list[IO[bytes]] = field(default_factory=list[IO[bytes]])

    def kit(self, name: str) -> Path:
        return self.folder / "kits" / name

    def start(self, name: str, *words: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.logs.append(log)
        self.running[name] = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", MAIN, *words],
            env=environment(name),
            stdout=log,
            stderr=log,
        )

    def coordinate(self) -> None:
        kit = str(self.kit("coordinator"))
        self.start("coordinator", "coordinator", "serve", kit, "--quorum-seconds", "8")

    def join(self, name: str) -> None:
        self.start(name, "site", "join", str(self.kit(name)), *FREELY)

    def kill(self, name: str) -> None:
        """Ends a party with everything it started, at once."""
        process = self.running.pop(name)
        family = [psutil.Process(process.pid)]
        family += family[0].children(recursive=True)
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=10)
        process.wait()

    def kill_job(self, name: str) -> None:
        """Ends only the process that takes part in the run."""
        for one in psutil.Process(self.running[name].pid).children(recursive=True):
            if "worker_process" in " ".join(one.cmdline()):
                one.kill()

    def said(self, name: str, words: str) -> bool:
        return words in (self.folder / f"{name}.log").read_text(errors="replace")

    def rounds(self, name: str, run: Run) -> list[int]:
        note = json.loads((run.folder / "federation.json").read_bytes())
        path = self.kit(name) / "consilium" / "ledger" / f"{note['run']}.jsonl"
        return [json.loads(line)["round"] for line in path.read_text().splitlines()]


def environment(name: str) -> dict[str, str]:
    """Returns what a party's process sees: a site's randomness is recorded."""
    paths = [str(HERE / "recorded"), *filter(None, sys.path)]
    own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    if name in NAMES:
        own["CONSILIUM_TEST_RECORDED"] = same_seeds(3)[NAMES.index(name)]().hex()
    return {**os.environ, **own}


def until(there: Callable[[], bool], seconds: float = 150.0) -> None:
    """Waits."""
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder, port = tmp_path_factory.mktemp("federation") / "chest", free_port()
    words = ["federation", "init", "chest", "--sites", "a,b,c", "--port", str(port)]
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", MAIN, *words, "--out", str(folder)],
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


def train(
    machines: Machines,
    folder: Path,
    rounds: int,
    watch: Callable[[Mapping[str, object]], None] = lambda _seen: None,
) -> tuple[Run, RunResult]:
    run = make_run(folder / "there", ARM, {**THREE, "training.rounds": str(rounds)})
    return run, train_there(run, machines.kit("researcher"), watch)


@dataclass
class Once:
    """Does something as soon as a round is done."""

    round: int
    act: Callable[[], None]
    done: bool = False

    def __call__(self, seen: Mapping[str, object]) -> None:
        if not self.done and int(str(seen.get("round", 0))) >= self.round:
            self.done = True
            self.act()


# -- The same as on one machine -------------------------------------------------------


def test_a_federation_trains_the_model_of_one_machine(machines: Machines, tmp_path: Path) -> None:
    there, many = train(machines, tmp_path, 4)

    here = make_run(tmp_path / "here", ARM, THREE)
    digits: Dataset = read_dataset(here.project.data, None)
    one = train_arm(here, digits, NobodyWatches(), same_seeds(3))

    assert (there.folder / MODEL).read_bytes() == (here.folder / MODEL).read_bytes()
    assert (many.statement, many.curve, many.test) == (one.statement, one.curve, one.test)
    assert many.traffic == one.traffic
    assert [machines.rounds(name, there) for name in NAMES] == [[1, 2, 3, 4]] * 3


# -- A site that is killed, and comes back --------------------------------------------


def test_a_site_that_is_killed_takes_part_again_in_the_same_run(
    machines: Machines, tmp_path: Path
) -> None:
    """Its job's process dies in one run; all of its processes in the other."""
    for number, kill in enumerate((machines.kill_job, machines.kill)):
        at_once = Once(3, partial(kill, "c"))

        def watch(seen: Mapping[str, object], at_once: Once = at_once) -> None:
            at_once(seen)
            if "c" not in machines.running:
                machines.join("c")

        run, result = train(machines, tmp_path / str(number), ROUNDS, watch)

        charged = machines.rounds("c", run)
        assert at_once.done
        assert result.attempts == ROUNDS
        assert machines.rounds("a", run) == machines.rounds("b", run) == [*range(1, ROUNDS + 1)]
        assert charged == sorted(set(charged))
        assert charged[-1] == ROUNDS  # it took part again
        assert result.sites[2].charges == len(charged)


def test_a_site_that_stays_away_does_not_end_the_run(machines: Machines, tmp_path: Path) -> None:
    run, result = train(machines, tmp_path, 40, Once(3, partial(machines.kill, "c")))

    charged = machines.rounds("c", run)
    assert result.attempts == 40
    assert machines.rounds("a", run) == machines.rounds("b", run) == list(range(1, 41))
    assert charged == list(range(1, len(charged) + 1))
    assert 3 <= len(charged) < 40
    assert result.sites[2].charges == 40  # it is away: the most that it can have paid


def test_a_site_that_comes_back_takes_part_in_the_next_run(
    machines: Machines, tmp_path: Path
) -> None:
    (machines.folder / "c.log").write_bytes(b"")
    machines.join("c")
    until(lambda: machines.said("c", "Successfully registered"))

    run, result = train(machines, tmp_path, 2)

    assert result.rounds == 2
    assert [machines.rounds(name, run) for name in NAMES] == [[1, 2]] * 3


# -- A coordinator that is killed -----------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_on_after_its_coordinator_was_killed(machines: Machines, tmp_path: Path) -> None:
    def kill_in_the_middle(seen: Mapping[str, object]) -> None:
        if int(str(seen.get("round", 0))) >= 5:
            machines.kill("coordinator")

    with pytest.raises(RoundAborted, match="fetch its result later with --resume"):
        train(machines, tmp_path, 60, kill_in_the_middle)
    (machines.folder / "coordinator.log").write_bytes(b"")
    machines.coordinate()
    until(lambda: machines.said("coordinator", "Server started"))

    run = make_run(tmp_path / "there", ARM, {**THREE, "training.rounds": "60"})
    result = train_there(replace(run, resume=True), machines.kit("researcher"), lambda _seen: None)

    assert result.attempts == 60
    assert [machines.rounds(name, run) for name in NAMES] == [list(range(1, 61))] * 3


# -- What is left behind --------------------------------------------------------------


def test_no_process_outlives_its_party(machines: Machines) -> None:
    for name in list(machines.running):
        machines.kill(name)

    def nobody() -> bool:
        return not any(
            str(machines.folder) in " ".join(one.info["cmdline"] or ())
            for one in psutil.process_iter(["cmdline"])
        )

    until(nobody, 30)
