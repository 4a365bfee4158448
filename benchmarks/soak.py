# SPDX-License-Identifier: Apache-2.0
"""A long run among many sites: does anything grow, and what does a round cost?

    python benchmarks/soak.py --sites 3 --rounds 1000
    python benchmarks/soak.py --sites 30 --rounds 50
    python benchmarks/soak.py --sites 3 --rounds 12 --task squeezenet224

A real federation on this machine through the commands that people type. Every party's memory
(proportional share of pages, so what processes share counts once) and open files are read while
the run goes on; at the end it prints what a round took, how much of that the sites computed, and
for each kind of party the first and the last quarter of the readings. Writes
benchmarks/out/soak-SITES-ROUNDS.json.
"""

import argparse
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from engine import free_port
from recipes import commit, processor

from consilium.adapters.health import FILE, Health, read_health

HERE = Path(__file__).parent
MAIN = "from consilium.cli.app import main; main()"
FREELY = ("--part-of-shared-source", "--approve-every-project", "--trust-first-roster")
SQUEEZENET = """
name = "squeezenet224"
[data]
source = "noise.npz"
[model]
name = "squeezenet"
[training]
rounds = 10
[dp]
target_epsilon = 90.0
delta = 1e-4
expected_batch = 48
"""  # expected_batch is set to 16 a site
WARM = 2  # rounds that are not counted: pages, caches, first prices


@dataclass(frozen=True)
class Reading:
    """One party at one moment: seconds since the start, MiB, open files, threads."""

    party: str
    when: float
    memory: float
    files: int
    threads: int


@dataclass
class Watch:
    """Reads the processes of a federation's jobs."""

    folder: Path
    began: float = field(default_factory=time.monotonic)
    readings: list[Reading] = field(default_factory=list[Reading])
    rounds: dict[int, float] = field(default_factory=dict[int, float])
    computed: dict[int, list[float]] = field(default_factory=dict[int, list[float]])

    def look_at_round(self) -> None:
        """Notes when a round was first seen done, and what each site has computed until then."""
        seen = read_health(self.folder / "kits" / "coordinator" / "consilium" / FILE)
        if seen.round and seen.round not in self.rounds:
            self.rounds[seen.round] = time.monotonic() - self.began
            paths = sorted(self.folder.glob(f"kits/site-*/consilium/{FILE}"))
            sites = [read_health(path) for path in paths]
            self.computed[seen.round] = [site.seconds.get("computing", 0.0) for site in sites]

    def look(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or ())
            if str(self.folder) not in words:
                continue
            try:
                self._read(process, words)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue

    def _read(self, process: psutil.Process, words: str) -> None:
        kinds = {
            "runner_process": "coordinator's run",
            "worker_process": "site's run",
            "server_train": "coordinator",
            "client_train": "site",
        }
        kind = next((name for word, name in kinds.items() if word in words), None)
        if kind is not None:
            self.readings.append(
                Reading(
                    party=f"{kind} {process.pid}",
                    when=time.monotonic() - self.began,
                    memory=process.memory_full_info().pss / 2**20,
                    files=process.num_fds(),
                    threads=process.num_threads(),
                )
            )


def main() -> None:
    """Runs, watches, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--task", choices=("digits", "squeezenet224"), default="digits")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between readings")
    asked = parser.parse_args()
    names = [f"site-{k:02d}" for k in range(asked.sites)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "soak"
        with _federation(folder, names):
            watch = Watch(folder)
            seconds = _train(asked, folder, watch)
        sites = [read_health(folder / "kits" / name / "consilium" / FILE) for name in names]
        coordinator = read_health(folder / "kits" / "coordinator" / "consilium" / FILE)
    facts = {
        "commit": commit(),
        "machine": processor(),
        "sites": asked.sites,
        "rounds": asked.rounds,
        "task": asked.task,
        "seconds_in_all": seconds,
        "attempts": coordinator.attempts,
        "seconds_a_round": _a_round(watch.rounds),
        "slowest_site_computes": _slowest(watch.computed),
        "coordinator_seconds": coordinator.seconds,
        "site_seconds": _median_phases(sites),
        "growth": _growth(watch.readings),
    }
    (HERE / "out").mkdir(exist_ok=True)
    out = HERE / "out" / f"soak-{asked.sites}-{asked.rounds}.json"
    out.write_text(json.dumps(facts, indent=2) + "\n")
    print(json.dumps(facts, indent=2))


# -- The federation -------------------------------------------------------------------


@contextmanager
def _federation(folder: Path, names: Sequence[str]) -> Iterator[None]:
    running: list[subprocess.Popen[bytes]] = []
    port = str(free_port())
    words = ["init", "soak", "--sites", ",".join(names), "--port", port, "--out", str(folder)]
    subprocess.run([*_us(), "federation", *words], check=True, env=_environment())  # noqa: S603
    kits = folder / "kits"

    def start(name: str, *words: str) -> None:
        log = (folder / f"{name}.log").open("wb")
        running.append(
            subprocess.Popen([*_us(), *words], stdout=log, stderr=log, env=_environment())  # noqa: S603
        )

    try:
        start("coordinator", "coordinator", "serve", str(kits / "coordinator"),
              "--data", str(folder))  # fmt: skip
        _until(lambda: _listens(int(port)))
        for name in names:
            start(name, "site", "join", str(kits / name), "--data", str(folder), *FREELY)
        _until(lambda: all(_said(folder, name, "Successfully registered") for name in names))
        yield
    finally:
        for process in running:
            for one in (*psutil.Process(process.pid).children(recursive=True), process):
                one.kill()
            process.wait()


def _train(asked: argparse.Namespace, folder: Path, watch: Watch) -> float:
    changes = {
        "sites.count": str(asked.sites),
        "sites.colluders": "0" if asked.sites < 4 else "1",
        "sites.missing_classes": "allow",  # digits among many sites
        "training.rounds": str(asked.rounds),
        "dp.target_epsilon": "90",
        "training.evaluate_every": str(max(1, asked.rounds // 5)),
    }
    if asked.task == "squeezenet224":
        changes["dp.expected_batch"] = str(16 * asked.sites)
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    began = time.monotonic()
    project, kit = _project(asked.task, folder), folder / "kits" / "researcher"
    words = ["train", project, "--federation", kit, "--out", folder / "run", *sets]
    training = subprocess.Popen(  # noqa: S603
        [*_us(), *map(str, words), "--arms", "federated-dp"], env=_environment()
    )
    due = began
    while training.poll() is None:
        if time.monotonic() >= due:
            watch.look()
            due = time.monotonic() + asked.every
        watch.look_at_round()
        time.sleep(0.02)
    assert training.returncode == 0, "the run failed"
    return time.monotonic() - began


def _project(task: str, folder: Path) -> Path:
    """Returns the project file; images of noise stand beside it, where it needs some."""
    if task == "digits":
        return HERE.parent / "recipes" / "digits.toml"
    draw, arrays = np.random.default_rng(0), {"classes": np.array(["well", "ill"])}
    for split, count in {"train": 480, "val": 8, "test": 8}.items():
        arrays[f"{split}_images"] = draw.integers(0, 255, (count, 3, 224, 224), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count) % 2
        arrays[f"{split}_groups"] = np.array([f"{split}-{k}" for k in range(count)])
    np.savez(folder / "noise.npz", allow_pickle=False, **arrays)
    path = folder / "squeezenet224.toml"
    path.write_text(SQUEEZENET)
    return path


def _us() -> list[str]:
    return [sys.executable, "-c", MAIN]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _said(folder: Path, name: str, words: str) -> bool:
    return words in (folder / f"{name}.log").read_text(errors="replace")


def _until(there: Callable[[], bool], seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


# -- Figures --------------------------------------------------------------------------


def _a_round(rounds: Mapping[int, float]) -> float | None:
    """Returns the median seconds of a round, from when each was first seen done."""
    seen = sorted((number, when) for number, when in rounds.items() if number > WARM)
    taken = [
        (later - sooner) / (last - first)
        for (first, sooner), (last, later) in itertools.pairwise(seen)
    ]
    return statistics.median(taken) if taken else None


def _slowest(computed: Mapping[int, Sequence[float]]) -> float | None:
    """Returns the median over rounds of the seconds that the slowest site computed."""
    seen = sorted(one for one in computed.items() if one[0] > WARM)
    taken = [
        max(after - before for before, after in zip(first, second, strict=True))
        for (one, first), (two, second) in itertools.pairwise(seen)
        if two == one + 1
    ]
    return statistics.median(taken) if taken else None


def _median_phases(sites: Sequence[Health]) -> dict[str, float]:
    phases = sorted({phase for site in sites for phase in site.seconds})
    return {p: statistics.median(site.seconds.get(p, 0.0) for site in sites) for p in phases}


def _growth(readings: Sequence[Reading]) -> dict[str, dict[str, list[float]]]:
    """Returns for each kind of party: medians of the second and of the last quarter."""
    by_kind: dict[str, list[Reading]] = {}
    for one in readings:
        by_kind.setdefault(one.party.rsplit(" ", 1)[0], []).append(one)
    grown = {}
    for kind, of_kind in by_kind.items():
        of_kind.sort(key=lambda one: one.when)
        quarter = max(1, len(of_kind) // 4)
        second, last = of_kind[quarter : 2 * quarter] or of_kind, of_kind[-quarter:]
        grown[kind] = {
            what: [
                round(statistics.median(getattr(one, what) for one in part), 1)
                for part in (second, last)
            ]
            for what in ("memory", "files", "threads")
        }
    return grown


if __name__ == "__main__":
    main()
