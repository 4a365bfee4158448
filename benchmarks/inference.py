# SPDX-License-Identifier: Apache-2.0
"""Encrypted inference: three processes on this machine, and its peers on the same networks.

usage: python benchmarks/inference.py [--out FILE] [--plot FILE] [--spu PYTHON] [--crypten PYTHON]
                                      [--networks squeezenet-64 ...] [--repeats 5] [--kernels]

Prints JSON: for every network seconds online and offline, CPU seconds of every party (dealing,
preparing, computing and the operators' HTTPS together), bytes and rounds by party, the largest
logit error, and of each peer the same where PYTHON is an interpreter that has it; then batches of
1 to 32, and the answer over a line of 40 ms and 100 Mbit/s between the operators (`slow_line.py`).
Peers that are not there are named and left out. `--kernels` measures what `cost.py` reckons with.
"""

import argparse
import json
import math
import os
import pickle
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import msgspec
import numpy as np
import psutil
import torch
from matplotlib import pyplot as plt
from tests.adapters.inference.parties import card_of

from consilium.adapters.inference.asking import Found, Offered, Patient
from consilium.adapters.inference.kit import OPERATORS, Address, Operators, make_kits
from consilium.adapters.inference.publishing import Owned, publish
from consilium.errors import ConsiliumError
from consilium.inference import kernels, ranges
from consilium.inference import network as layers
from consilium.inference.compiler import compile_network
from consilium.inference.cost import LAN, WAN, Cost, Network, cost_of
from consilium.inference.dealer import Adopt, Deal, Dealing, Idle, dealer_step
from consilium.inference.messages import Exchange, InputShare, ModelShare
from consilium.inference.operator import (
    Appointed,
    Begin,
    Prepare,
    Publish,
    UseReceipt,
    operator_step,
)
from consilium.inference.program import Positive, Program, Truncate
from consilium.inference.ring import pack
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing

NETWORKS = (
    "squeezenet-64",
    "squeezenet-224",
    "squeezenet-average-64",
    "squeezenet-average-224",
    "nf-resnet18-64",
    "nf-resnet18-224",
)
FAR = ("squeezenet-224", "squeezenet-average-224", "nf-resnet18-224")  # over the slow line
BATCHES = (1, 2, 4, 8, 16, 32)
PYTHON = [sys.executable, "-c", "from consilium.cli.app import main; main()"]
PORTS = 29_310
PYSYFT_SECONDS = 313 / 2  # an image; function secret sharing, as PriMIA published it
KEYS_BYTES = 6.1e9  # of function secret sharing for ResNet-18 at 224 px, by its key sizes
PEER_SECONDS = 600.0


# -- Networks -------------------------------------------------------------------------


class Job:
    """A network with initial weights, and images; ranges calibrated on a few of them."""

    def __init__(self, name: str, ring: int) -> None:
        kind, side = name.rsplit("-", 1)
        shape = (3, int(side), int(side))
        self.name = name
        self.model = build(kind, shape=shape, classes=5, seed=0).eval()
        drawn = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1))
        self.images = drawn.clamp(-2, 2)
        self.network = layers.read_network(self.model, shape)
        bounds = ranges.calibrate_ranges(self.network, self.images[:4].repeat(16, 1, 1, 1))
        self.compiled = compile_network(self.network, bounds, ring)
        self.owned = Owned(
            model=self.model,
            name=name,
            classes=tuple("abcde"),
            shape=shape,
            preprocessing=Preprocessing(),
        )

    @property
    def cost(self) -> Cost:
        return cost_of(self.compiled.program)

    def plain(self, images: torch.Tensor) -> np.typing.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(self.model(images))

    def for_peers(self, repeats: int) -> bytes:
        """The same layers for a script that knows nothing of ours: NHWC, HWIO."""
        weights, described = [], []
        for layer in self.network.layers:
            one = {"kind": type(layer).__name__.lower(), "reads": list(layers.reads(layer))}
            match layer:
                case layers.Linear():
                    w = layer.weight.float().numpy()
                    one |= {"weight": len(weights), "flat": layer.flat}
                    one |= {"stride": layer.stride, "padding": layer.padding}
                    weights += [w.reshape(len(w), -1).T if layer.flat else w.transpose(2, 3, 1, 0)]
                    weights += [layer.bias.float().numpy()]
                case layers.Maximum():
                    one |= {k: getattr(layer, k) for k in ("size", "stride", "before", "after")}
                case layers.Average():
                    one |= {k: getattr(layer, k) for k in ("rows", "columns", "height", "width")}
                case layers.Scale():
                    one["factor"] = layer.factor
                case _:
                    pass
            described.append(one)
        job = {
            "layers": described,
            "image": np.ascontiguousarray(self.images[:1].permute(0, 2, 3, 1).numpy()),
            "weights": [np.ascontiguousarray(w) for w in weights],
            "repeats": repeats,
        }
        return pickle.dumps(job)


# -- Our three processes --------------------------------------------------------------


class Parties:
    """Three operators as processes; between the two that compute perhaps a slow line."""

    def __init__(self, folder: Path, line: Network | None = None) -> None:
        self.kits, self.stock = folder / "kits", 1
        addresses = [Address("127.0.0.1", PORTS + 2 * k, PORTS + 2 * k + 1) for k in (0, 1)]
        make_kits(self.kits, Operators((addresses[0], addresses[1])))
        self.processes = []
        if line is not None:
            far = PORTS + 9
            told = Operators((addresses[0], Address("127.0.0.1", far, addresses[1].port)))
            (self.kits / "operator-0" / OPERATORS).write_bytes(msgspec.json.encode(told))
            script = [sys.executable, str(Path(__file__).with_name("slow_line.py"))]
            says = [far, addresses[1].link, line.latency, line.rate]
            self.processes.append(subprocess.Popen([*script, *map(str, says)]))  # noqa: S603
        self.operators = [self._start(k, f"operator-{k}") for k in (0, 1)]
        self.dealer = self._start(2, "dealer")
        self.patient = Patient(self.kits)
        self._wait()

    def _start(self, party: int, name: str) -> subprocess.Popen[bytes]:
        command = ["inference", "operator", "--party", str(party), "--kit", str(self.kits / name)]
        extra = ["--stock", str(self.stock)] if party == 2 else []
        started = subprocess.Popen([*PYTHON, *command, *extra])  # noqa: S603 - our own command
        self.processes.append(started)
        return started

    def _wait(self) -> None:
        end = time.time() + 120
        while True:
            try:
                self.patient.models()
            except ConsiliumError:
                if time.time() > end:
                    raise
                time.sleep(0.5)
            else:
                return

    def publish(self, job: Job) -> Offered:
        card = card_of(job.owned, job.compiled)
        publish(self.kits / "owner", job.compiled, card)
        offered = self.offered(job.name, self.stock)
        self.patient.ask(offered, job.images[:1].numpy())  # compiles the kernels, warms the link
        return offered

    def restock(self, stock: int) -> None:
        """A dealer that keeps `stock` images ahead."""
        self.dealer.kill()
        self.dealer.wait()
        self.stock = stock
        self.dealer = self._start(2, "dealer")

    def cpu(self) -> list[float]:
        times = [psutil.Process(p.pid).cpu_times() for p in (*self.operators, self.dealer)]
        return [one.user + one.system for one in times]

    def offered(self, name: str, images: int) -> Offered:
        """Waits until there is material for `images`."""
        end = time.time() + 900
        while time.time() < end:
            for one in self.patient.models():
                if one.card.name == name and one.ready and one.images >= images:
                    return one
            time.sleep(0.05)
        raise TimeoutError(name)

    def settled(self) -> list[float]:
        """Waits until nobody computes."""
        before = self.cpu()
        while True:
            time.sleep(1.5)
            now = self.cpu()
            if sum(now) - sum(before) < 0.1:
                return now
            before = now

    def close(self) -> None:
        self.patient.close()
        for one in self.processes:
            one.kill()
            one.wait()


def online(found: Found) -> float:
    return max(facts["online_seconds"] for facts in found.facts)


def measure(parties: Parties, job: Job, repeats: int) -> dict[str, object]:
    offered = parties.publish(job)
    runs, error = [], 0.0
    for k in range(repeats):
        parties.offered(job.name, 1)
        before = parties.settled()
        found = parties.patient.ask(offered, job.images[k : k + 1].numpy())
        asked = time.perf_counter()
        parties.offered(job.name, 1)
        dealt = time.perf_counter() - asked
        after = parties.settled()
        plain = job.plain(job.images[k : k + 1])
        error = max(error, float(np.abs(found.logits - plain).max()))
        cpu = [b - a for a, b in zip(before, after, strict=True)]
        runs.append((found, cpu, int(found.logits.argmax() == plain.argmax()), dealt))
    middle, cost = statistics.median, job.cost
    whole = middle(r[0].seconds + r[3] for r in runs)
    return {
        "network": job.name,
        "ring_bits": job.compiled.program.ring_bits,
        "online_seconds": middle(online(r[0]) for r in runs),
        "asked_seconds": middle(r[0].seconds for r in runs),
        "dealt_seconds": middle(r[3] for r in runs),
        "cpu_seconds_by_party": [middle(r[1][k] for r in runs) for k in range(3)],
        "cpu_seconds": middle(sum(r[1]) for r in runs),
        "times_faster_than_156_s": PYSYFT_SECONDS / whole,
        "sent_bytes_by_operator": [middle(r[0].facts[k]["bytes"] for r in runs) for k in (0, 1)],
        "dealer_bytes": cost.offline_bytes,
        "of_function_secret_sharing_keys": cost.offline_bytes / KEYS_BYTES,
        "patient_bytes": runs[0][0].uploaded,
        "rounds": runs[0][0].facts[0]["rounds"],
        "comparisons": cost.comparisons,
        "lan_seconds_estimated": cost.online_seconds(LAN),
        "wan_seconds_estimated": cost.online_seconds(WAN),
        "largest_logit_error": error,
        "largest_logit": float(np.abs(runs[-1][0].logits).max()),
        "labels_agree": f"{sum(r[2] for r in runs)}/{repeats}",
    }


def batches(parties: Parties, job: Job, repeats: int) -> list[dict[str, float]]:
    """Seconds an image for batches, material being there."""
    offered = parties.publish(job)
    parties.restock(max(BATCHES))
    found = []
    for count in BATCHES:
        runs = []
        for _ in range(repeats):
            parties.offered(job.name, max(BATCHES))
            before = parties.settled()
            runs.append(parties.patient.ask(offered, job.images[:count].numpy()))
            cpu = sum(parties.settled()) - sum(before)
        middle = statistics.median
        found.append(
            {
                "images": count,
                "online_seconds_an_image": middle(online(r) for r in runs) / count,
                "cpu_seconds_an_image": cpu / count,
                "bytes_an_image": runs[0].facts[0]["bytes"] / count,
                "rounds_an_image": runs[0].facts[0]["rounds"] / count,
                "wan_seconds_an_image_estimated": job.cost.online_seconds(WAN, count) / count,
            }
        )
    return found


def far(folder: Path, name: str, ring: int, repeats: int) -> dict[str, object]:
    """Online seconds with the two that compute 40 ms and 100 Mbit/s from each other."""
    parties, job = Parties(folder / f"far-{name}", WAN), Job(name, ring)
    try:
        offered = parties.publish(job)
        seconds = []
        for k in range(repeats):
            parties.offered(job.name, 1)
            parties.settled()
            seconds.append(online(parties.patient.ask(offered, job.images[k : k + 1].numpy())))
    finally:
        parties.close()
    estimated = job.cost.online_seconds(WAN)
    return {"network": name, "seconds": statistics.median(seconds), "estimated": estimated}


# -- Peers ----------------------------------------------------------------------------


def peer(python: str | None, script: str, job: Job, folder: Path) -> dict[str, object]:
    """A peer's own figures for the same layers, or why there are none."""
    if python is None:
        return {"left_out": "no interpreter that has it was given"}
    place = folder / f"{job.name}.pkl"
    place.write_bytes(job.for_peers(2))
    command = [python, str(Path(__file__).with_name(script)), str(place)]
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command, capture_output=True, text=True, check=False, timeout=PEER_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"left_out": f"no answer within {PEER_SECONDS:.0f} s"}
    if done.returncode:
        return {"left_out": done.stderr[-400:]}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    plain = job.plain(job.images[:1])
    found["largest_logit_error"] = float(np.abs(np.array(found.pop("logits")) - plain).max())
    return found


# -- Figures of this machine ----------------------------------------------------------


def kernel_rates() -> dict[str, float]:
    """Products and comparisons a second of one core of one operator, in a ring of 40 bits."""
    random = np.random.default_rng(0)
    left = random.integers(0, 1 << 40, (3136, 576), dtype=np.uint64)
    right = random.integers(0, 1 << 40, (576, 64), dtype=np.uint64)
    out = np.empty((3136, 64), np.uint64)
    products = timed(lambda: kernels.matmul(left, right, out))
    program = Program(
        ring_bits=40,
        image=(512, 512, 1),
        image_fraction=12,
        weights=(),
        steps=(Truncate(0, 8), Positive(1)),
        unit=1.0,
    )
    return {
        "products_a_second": left.size * 64 / products,
        "comparisons_a_second": 512 * 512 / statistics.median(compared(program) for _ in range(9)),
    }


def compared(program: Program) -> float:
    """Seconds of one operator online: what it does between its share and its answer."""
    spent, name = [0.0, 0.0], bytes(32)
    _, seeds = dealer_step(
        Idle(), Adopt(publication=name, program=program, seeds=(b"0" * 32, b"1" * 32))
    )
    dealer = Dealing(publication=name, program=program, masks=(), number=0)
    _, both = dealer_step(dealer, Deal((b"2" * 32, b"3" * 32, b"4" * 32)))
    states, said = [], []
    for k in (0, 1):
        share = ModelShare(name, program, b"")
        state, (opening,) = operator_step(Appointed(first=k == 0), Publish(share, seeds[k]))
        state, _ = operator_step(state, opening)
        state, _ = operator_step(state, Prepare((both[k],)))
        words = InputShare(name, bytes(16), 1, random_words(program, k))
        state, (first,) = operator_step(state, Begin(words, (UseReceipt(name, 0),)))
        states.append(state)
        said.append(first)
    while isinstance(said[0], Exchange):
        told = (said[1], said[0])
        for k in (0, 1):
            begun = time.process_time()
            states[k], (said[k],) = operator_step(states[k], told[k])
            spent[k] += time.process_time() - begun
    return max(spent)


def random_words(program: Program, seed: int) -> bytes:
    count = math.prod(program.image)
    drawn = np.random.default_rng(seed).integers(0, 1 << 40, count, dtype=np.uint64)
    return pack(drawn, program.ring_bits)


def timed(work: object) -> float:
    work()
    seconds = []
    for _ in range(15):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return statistics.median(seconds)


def plot(found: list[dict[str, float]], path: Path) -> None:
    """Draws what an image costs in a batch."""
    figure, axes = plt.subplots(figsize=(6, 4))
    counts = [b["images"] for b in found]
    for key, words in (
        ("online_seconds_an_image", "online, by the clock"),
        ("cpu_seconds_an_image", "all parties, processor"),
        ("wan_seconds_an_image_estimated", "online over 40 ms and 100 Mbit/s, reckoned"),
    ):
        axes.loglog(counts, [b[key] for b in found], "o-", label=words)
    axes.set(xlabel="images in a batch", ylabel="seconds an image")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    figure.tight_layout()
    figure.savefig(path)


def run(asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    report: dict[str, object] = {
        "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "kernels": kernel_rates(),
    }
    if asked.kernels:
        return report
    parties = Parties(folder)
    try:
        runs = report["runs"] = []
        for name in asked.networks:
            job = Job(name, asked.ring)
            runs.append({"ours": measure(parties, job, asked.repeats)})
            runs[-1]["spu"] = peer(asked.spu, "spu_peer.py", job, folder)
            runs[-1]["crypten"] = peer(asked.crypten, "crypten_peer.py", job, folder)
            print(json.dumps(runs[-1]), flush=True)
        if asked.plot:
            report["batches"] = batches(parties, Job(NETWORKS[0], asked.ring), 3)
            plot(report["batches"], asked.plot)
    finally:
        parties.close()
    names = [name for name in FAR if name in asked.networks]
    report["far"] = [far(folder, name, asked.ring, asked.repeats) for name in names]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--spu")
    parser.add_argument("--crypten")
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ring", type=int, default=40)
    parser.add_argument("--kernels", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        report = run(asked, Path(name))
    print(json.dumps(report, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
