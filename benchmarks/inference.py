# SPDX-License-Identifier: Apache-2.0
"""Encrypted inference: three processes on this machine, and SPU (ABY3) on the same networks.

usage: python benchmarks/inference.py [--out FILE] [--spu PYTHON] [--repeats 5] [--quick]

Prints JSON: for every network seconds online and offline, CPU seconds of every party (dealing,
preparing, computing and the operators' HTTPS together), bytes and rounds by party, estimates for
LAN and WAN, the largest logit error; batches of 1 to 32; and of SPU the same where PYTHON is an
interpreter that has it. Peers that are not there are named and left out.
"""

import argparse
import json
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
import numpy as np
import psutil
import torch
from matplotlib import pyplot as plt
from tests.adapters.inference.parties import card_of

from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.adapters.inference.publishing import Owned, publish
from consilium.errors import ConsiliumError
from consilium.inference import network as layers
from consilium.inference import ranges
from consilium.inference.compiler import compile_network
from consilium.inference.cost import LAN, WAN, cost_of
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing

NETWORKS = [
    ("squeezenet", 64),
    ("squeezenet", 224),
    ("nf-resnet18", 224),
    ("nf-resnet18", 64),
]
PYTHON = [sys.executable, "-c", "from consilium.cli.app import main; main()"]
PORTS = 29_310


def trained_like(name: str, side: int) -> tuple[Owned, layers.Network, torch.Tensor]:
    """A network with initial weights, and images; ranges calibrated on a few of them."""
    shape = (3, side, side)
    model = build(name, shape=shape, classes=5, seed=0).eval()
    images = torch.randn(64, *shape, generator=torch.Generator().manual_seed(1)).clamp(-2, 2)
    net = layers.read_network(model, shape)
    owned = Owned(
        model=model,
        name=f"{name}-{side}",
        classes=tuple("abcde"),
        shape=shape,
        preprocessing=Preprocessing(),
    )
    return owned, net, images


class Parties:
    """Three operators as processes."""

    def __init__(self, folder: Path, ring: int) -> None:
        self.ring = ring
        self.kits = folder / "kits"
        addresses = [Address("127.0.0.1", PORTS + 2 * k, PORTS + 2 * k + 1) for k in (0, 1)]
        make_kits(self.kits, Operators((addresses[0], addresses[1])))
        names = ("operator-0", "operator-1", "dealer")
        self.stock = 1
        self.processes = [self._start(k, name) for k, name in enumerate(names)]
        self.patient = Patient(self.kits)
        self._wait()

    def _start(self, party: int, name: str) -> subprocess.Popen[bytes]:
        command = ["inference", "operator", "--party", str(party), "--kit", str(self.kits / name)]
        extra = ["--stock", str(self.stock)] if party == 2 else []
        return subprocess.Popen([*PYTHON, *command, *extra])  # noqa: S603 - our own command

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

    def restock(self, stock: int) -> None:
        """A dealer that keeps `stock` images ahead."""
        self.processes[2].kill()
        self.processes[2].wait()
        self.stock = stock
        self.processes[2] = self._start(2, "dealer")

    def cpu(self) -> list[float]:
        times = [psutil.Process(one.pid).cpu_times() for one in self.processes]
        return [one.user + one.system for one in times]

    def offered(self, name: str, images: int) -> Offered:
        end = time.time() + 900
        while time.time() < end:
            for one in self.patient.models():
                if one.card.name == name and one.ready and one.images >= images:
                    return one
            time.sleep(0.3)
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


def measure(
    parties: Parties, owned: Owned, net: layers.Network, images: torch.Tensor, repeats: int
) -> dict[str, object]:
    bounds = ranges.calibrate_ranges(net, images[:4].repeat(16, 1, 1, 1))
    compiled = compile_network(net, bounds, parties.ring)
    publish(parties.kits / "owner", compiled, card_of(owned, compiled))
    offered = parties.offered(owned.name, parties.stock)
    parties.patient.ask(offered, images[:1].numpy())  # compiles the kernels, warms the link
    runs, error = [], 0.0
    for k in range(repeats):
        before = parties.settled()
        parties.offered(owned.name, 1)
        found = parties.patient.ask(offered, images[k : k + 1].numpy())
        after = parties.settled()
        with torch.no_grad():
            plain = owned.model(images[k : k + 1]).numpy()
        error = max(error, float(np.abs(found.logits - plain).max()))
        cpu = [b - a for a, b in zip(before, after, strict=True)]
        runs.append((found, cpu, int(found.logits.argmax() == plain.argmax())))
    cost = cost_of(compiled.program)
    middle = statistics.median
    return {
        "network": owned.name,
        "ring_bits": parties.ring,
        "online_seconds": middle(max(f["online_seconds"] for f in r[0].facts) for r in runs),
        "asked_seconds": middle(r[0].seconds for r in runs),
        "cpu_seconds_by_party": [middle(r[1][k] for r in runs) for k in range(3)],
        "cpu_seconds": middle(sum(r[1]) for r in runs),
        "sent_bytes_by_operator": [middle(r[0].facts[k]["bytes"] for r in runs) for k in (0, 1)],
        "dealer_bytes": cost.offline_bytes,
        "patient_bytes": runs[0][0].uploaded,
        "rounds": runs[0][0].facts[0]["rounds"],
        "comparisons": cost.comparisons,
        "lan_seconds_estimated": cost.online_seconds(LAN),
        "wan_seconds_estimated": cost.online_seconds(WAN),
        "largest_logit_error": error,
        "largest_logit": float(np.abs(runs[-1][0].logits).max()),
        "labels_agree": f"{sum(r[2] for r in runs)}/{repeats}",
    }


def batches(parties: Parties, owned: Owned, images: torch.Tensor) -> list[dict[str, float]]:
    """Seconds an image for batches, material being there."""
    parties.restock(40)
    found = []
    for count in (1, 2, 4, 8, 16, 32):
        offered = parties.offered(owned.name, 40)
        parties.settled()
        asked = parties.patient.ask(offered, images[:count].numpy())
        online = max(f["online_seconds"] for f in asked.facts)
        found.append(
            {
                "images": count,
                "online_seconds_an_image": online / count,
                "bytes_an_image": asked.facts[0]["bytes"] / count,
            }
        )
    return found


def spu(
    python: str | None, net: layers.Network, images: torch.Tensor, folder: Path, repeats: int
) -> dict[str, object]:
    """SPU's own figures for the same layers, or why there are none."""
    if python is None:
        return {"left_out": "no interpreter with spu was given (--spu PYTHON)"}
    weights, described = [], []
    for layer in net.layers:
        one = {"kind": type(layer).__name__.lower(), "reads": list(layers.reads(layer))}
        if isinstance(layer, layers.Linear):
            w = layer.weight.float().numpy()
            one |= {"weight": len(weights), "flat": layer.flat}
            one |= {"stride": layer.stride, "padding": layer.padding}
            weights += [w.reshape(len(w), -1).T if layer.flat else w.transpose(2, 3, 1, 0)]
            weights += [layer.bias.float().numpy()]
        elif isinstance(layer, layers.Maximum):
            one |= {k: getattr(layer, k) for k in ("size", "stride", "before", "after")}
        elif isinstance(layer, layers.Scale):
            one["factor"] = layer.factor
        described.append(one)
    job = {
        "layers": described,
        "image": np.ascontiguousarray(images[:1].permute(0, 2, 3, 1).numpy()),
        "weights": [np.ascontiguousarray(w) for w in weights],
        "repeats": repeats,
    }
    place = folder / "spu.pkl"
    place.write_bytes(pickle.dumps(job))
    script = str(Path(__file__).with_name("spu_peer.py"))
    command = [python, script, str(place)]
    try:
        done = subprocess.run(  # noqa: S603 - our own script
            command, capture_output=True, text=True, check=False, timeout=240
        )
    except subprocess.TimeoutExpired:
        return {"left_out": "no answer within 240 s"}
    if done.returncode:
        return {"left_out": done.stderr[-400:]}
    found = json.loads(done.stdout.strip().splitlines()[-1])
    plain = layers.evaluate(net, images[:1])[-1].flatten().numpy()
    found["largest_logit_error"] = float(np.abs(np.array(found.pop("logits")) - plain).max())
    return found


def plot(found: list[dict[str, float]], path: Path) -> None:

    figure, axes = plt.subplots(figsize=(5, 3))
    axes.loglog([b["images"] for b in found], [b["online_seconds_an_image"] for b in found], "o-")
    axes.set(xlabel="images in a batch", ylabel="online seconds an image")
    figure.tight_layout()
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--spu")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ring", type=int, default=40)
    parser.add_argument("--networks", type=int, default=len(NETWORKS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    report = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    report["runs"], report["left_out"] = [], ["CrypTen: was not installed"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parties = Parties(folder, asked.ring)
        try:
            for network, side in NETWORKS[: asked.networks]:
                owned, net, images = trained_like(network, side)
                ours = measure(parties, owned, net, images, asked.repeats)
                print(json.dumps(ours), flush=True)
                peer = spu(asked.spu, net, images, folder, 2)
                report["runs"].append({"ours": ours, "spu_aby3": peer})
                print(json.dumps(report["runs"][-1]), flush=True)
            owned, _, images = trained_like(*NETWORKS[0])
            report["batches"] = batches(parties, owned, images)
        except ConsiliumError as error:
            report["failed"] = str(error)
        finally:
            parties.close()
    print(json.dumps(report, indent=1))
    if asked.out:
        asked.out.write_text(json.dumps(report, indent=1) + "\n")
    if asked.plot and "batches" in report:
        plot(report["batches"], asked.plot)


if __name__ == "__main__":
    main()
