# SPDX-License-Identifier: Apache-2.0
"""Machines of a real federation: each party a family of processes here, which may be killed."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
from tests.adapters.conftest import make_run, same_seeds

from consilium.adapters.nvflare.submission import train_there
from consilium.adapters.stage import Run
from consilium.federation.results import RunResult

NAMES = ("a", "b", "c")
ARM = "federated-dp"
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
        self.run(name, MAIN, *words)

    def run(self, name: str, program: str, *words: str) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        self.logs.append(log)
        self.running[name] = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", program, *words],
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
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a full disk cuts a line short; it counts for nothing
        return [json.loads(line)["round"] for line in whole.splitlines()]


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


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Returns how a command of ours ended."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-c", MAIN, *words],
        env=environment("researcher"),
        check=False,
        capture_output=True,
        text=True,
    )


@contextmanager
def federation(folder: Path, *options: str) -> Iterator[Machines]:
    """A coordinator and three sites, connected; the options are those of `federation init`."""
    port = free_port()
    made = command("federation", "init", "chest", "--sites", "a,b,c", "--port", str(port),
                   "--out", str(folder), *options)  # fmt: skip
    assert made.returncode == 0, made.stderr
    machines = Machines(folder)
    try:
        machines.coordinate()
        until(lambda: listens(port))
        for name in NAMES:
            machines.join(name)
        until(lambda: all(machines.said(name, "Successfully registered") for name in NAMES))
        yield machines
    finally:
        for name in list(machines.running):
            machines.kill(name)
        for log in machines.logs:
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
