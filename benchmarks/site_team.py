# SPDX-License-Identifier: Apache-2.0
"""What several processes inside a site bring: seconds of a clipped sum, one beside two or more.

    python benchmarks/site_team.py [--model squeezenet] [--side 64] [--patients 32]
                                   [--processes 2] [--repeats 15]

Each way has one thread a process and takes turns with the other, so that a noisy machine hurts
both; medians are written down. `share` is one process with one part of the patients. What others
take of the machine is not in `busy`: seconds of CPU a sum, of one process, of the busiest of the
team, and of the site's own process beside it. On free cores the wall's seconds come near those of
the busiest and the site's own together. Writes benchmarks/out/site_team.json.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil
import torch

from consilium.adapters.machine import keep_freed_memory
from consilium.adapters.site_team import SiteTeam
from consilium.adapters.site_team_line import Blueprint
from consilium.federation.contribution import Trainee
from consilium.learning.parameters import Vector, flatten

HERE = Path(__file__).parent
PROJECT = """
name = "site-team"
[data]
source = "made-up.npz"
[model]
name = "{model}"
[training]
rounds = 1
[dp]
noise_multiplier = 1.0
delta = 1e-4
expected_batch = 32
"""


def make_trainee(plan: Blueprint, patients: int) -> Trainee:
    """Returns one made-up image of each patient."""
    networks = plan.networks()
    return Trainee(
        model=networks.trained,
        task=networks.task,
        inputs=torch.randn(patients, *plan.shape, generator=torch.Generator().manual_seed(0)),
        labels=torch.arange(patients) % plan.classes,
        rows=tuple(np.arange(k, k + 1) for k in range(patients)),
    )


def seconds(work: Callable[[], Vector]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def busy(processes: Sequence[psutil.Process], work: Callable[[], Vector], repeats: int) -> float:
    """Returns the CPU seconds of one `work` in the busiest of `processes`."""
    before = [sum(one.cpu_times()[:2]) for one in processes]
    for _ in range(repeats):
        work()
    after = [sum(one.cpu_times()[:2]) for one in processes]
    return max(np.subtract(after, before)) / repeats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="squeezenet")
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    keep_freed_memory()
    plan = Blueprint(
        project=PROJECT.format(model=asked.model),
        arm="federated-dp",
        shape=(1, asked.side, asked.side),
        classes=3,
        seed=0,
    )
    one = make_trainee(plan, asked.patients)
    weights = flatten(one.model)
    began = time.perf_counter()
    team = SiteTeam(one, plan, processes=asked.processes, seconds=600)
    try:
        team.clipped_sum(weights, one.rows, 1.0)
        start = time.perf_counter() - began
        ways: dict[str, Callable[[], Vector]] = {
            "one": lambda: one.clipped_sum(weights, one.rows, 1.0),
            "team": lambda: team.clipped_sum(weights, one.rows, 1.0),
            "share": lambda: one.clipped_sum(weights, one.rows[:: asked.processes], 1.0),
            "team, one patient each": lambda: team.clipped_sum(
                weights, one.rows[: asked.processes], 1.0
            ),
            "one patient": lambda: one.clipped_sum(weights, one.rows[:1], 1.0),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(asked.repeats):
            for name, way in ways.items():
                taken[name].append(seconds(way))
        me = psutil.Process()
        team_of = [one for torchrun in me.children() for one in torchrun.children()]
        cpu = {
            "one": busy([me], ways["one"], asked.repeats),
            "busiest of the team": busy(team_of, ways["team"], asked.repeats),
            "the site beside the team": busy([me], ways["team"], asked.repeats),
        }
    finally:
        team.close()
    medians = {name: round(statistics.median(each), 4) for name, each in taken.items()}
    facts = {
        **vars(asked),
        "seconds": medians,
        "busy": {name: round(each, 4) for name, each in cpu.items()},
        "start": round(start, 1),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.machine(),
        "torch": torch.__version__,
    }
    print(json.dumps(facts))
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "site_team.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
