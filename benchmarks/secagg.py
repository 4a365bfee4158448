# SPDX-License-Identifier: Apache-2.0
"""What the secure sum costs: CPU time, bytes and memory, beside Flower's SecAgg+ and bare AES.

    python benchmarks/secagg.py [--parts flower linear memory] [--small]

One process and one thread; every way runs in turn with the others on the same vector, in CPU
time (`process_time`), and what is written down is the median. Without drop-outs, without
transport and encoding on either side. Flower agrees on keys in every round, which is in its
figures; ours does once a session, which is not in a round.

"ours" is all that one site does in a round: round to the lattice, mask, share out the secrets of
the next round, open. "noised" has the exact noise of `federated-dp` (clamp, scale, sample, round)
in place of plain rounding; Flower has no noise. "floor" is AES alone: the keystream of as many
masks of that length, written and not used. Server: add, unmask, and turn the sum into float32.

Memory that is freed stays in the process, for both (glibc's thresholds are raised): else the page
faults of a virtual machine are most of what is measured, and differ from minute to minute.

Flower's functions come from the `bench` extra; without it that part is left out. Memory is the
growth of the peak of a process that plays the coordinator only, while another plays all sites.
Writes benchmarks/out/secagg.json and benchmarks/plots/secagg.svg.
"""

import argparse
import json
import math
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from consilium import wire
from consilium.dp.plan import NoiseShares, Plan
from consilium.keystream import BLOCK, TAG_BYTES, Keystream
from consilium.secagg import coordinator as server
from consilium.secagg.job import SumJob, smallest_threshold
from consilium.secagg.masks import add_masks
from consilium.secagg.messages import FROM_SITE, Roster, Survivors, Upload
from consilium.secagg.messages import Plan as RoundPlan
from consilium.secagg.site import Begin, Contribute, Invited, Open, Prepare, SiteState, site_step
from consilium.secagg.traffic import largest_message

HERE = Path(__file__).parent
MODEL = wire.digest("benchmark model")
SCALE = np.float32(100.0)
BATCH, CLIP, NOISE = 256.0, 1.0, 1.0
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**36)}
CASES = ((10, 740_000, 7), (10, 11_200_000, 5), (10, 31_000_000, 3), (100, 740_000, 2))
SMALL = ((3, 10_000, 3), (4, 20_000, 3))
LENGTHS = (500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000, 16_000_000)
SITES = (5, 10, 20, 40, 80)
clock = time.process_time

Vector = NDArray[np.float32]
Times = dict[str, float]

# -- Ours -----------------------------------------------------------------------------


def make_job(sites: int, length: int) -> tuple[SumJob, list[bytes]]:
    """Returns a job that one colluder and one drop-out are counted in, and its private keys."""
    privates = [wire.digest("benchmark identity", k) for k in range(sites)]
    publics = [Ed25519PrivateKey.from_private_bytes(key).public_key() for key in privates]
    threshold = smallest_threshold(sites, 1)
    job = SumJob(
        name="benchmark",
        identities=tuple(key.public_bytes_raw() for key in publics),
        threshold=threshold,
        colluders=1,
        tolerated_drops=min(1, sites - threshold),
        length=length,
        bits=16,
        terms=wire.digest("benchmark terms"),
    )
    return job, privates


def fresh() -> bytes:
    return os.urandom(32)


def only(sent: tuple[object, ...]) -> object:
    (one,) = sent
    return one


@dataclass
class Session:
    """All parties of one job, prepared for round `number`."""

    job: SumJob
    privates: list[bytes]
    number: int = 1
    sites: list[SiteState] = field(default_factory=list[SiteState])
    state: server.CoordinatorState = field(init=False)

    def __post_init__(self) -> None:
        self.state = server.Gathering(job=self.job)
        for k, key in enumerate(self.privates):
            invited = Invited(job=self.job, site=k, identity=key)
            state, (hello,) = site_step(invited, Begin(fresh()))
            self.sites.append(state)
            self.tell(hello)
        roster = only(self.tell(server.CloseRoster()))
        assert isinstance(roster, Roster)
        for k, state in enumerate(self.sites):
            joined, _ = site_step(state, roster)
            self.sites[k], (prekeys,) = site_step(joined, Prepare(round=1, secret=fresh()))
            self.tell(prekeys)

    def tell(self, event: server.CoordinatorEvent) -> tuple[server.Outcome, ...]:
        self.state, sent = server.coordinator_step(self.state, event)
        return sent

    def round(self, values: Vector, encode: Callable[[Vector], NDArray[np.uint16]]) -> Times:
        """Plays a round in which every site has `values`; times site 0 and the coordinator."""
        start = clock()
        plan = only(self.tell(server.StartRound(round=self.number, model=MODEL)))
        at_server = clock() - start
        assert isinstance(plan, RoundPlan)
        at_site, upload_bytes, own = 0.0, 0, np.zeros(0, np.uint16)
        for k in range(len(self.sites)):
            start = clock()
            vector = encode(values) if k == 0 else own
            event = Contribute(plan=plan, vector=vector, next_secret=fresh())
            self.sites[k], (upload,) = site_step(self.sites[k], event)
            at_site += clock() - start if k == 0 else 0.0
            own = vector
            start = clock()
            self.tell(upload)
            at_server += clock() - start
            assert isinstance(upload, Upload)
            upload_bytes = len(upload.vector)
            del upload
        start = clock()
        survivors = only(self.tell(server.CloseUploads()))
        assert isinstance(survivors, Survivors)
        at_server += clock() - start
        for k in range(len(self.sites)):
            start = clock()
            ask = Open(survivors=survivors, secret=fresh())
            self.sites[k], (opening,) = site_step(self.sites[k], ask)
            at_site += clock() - start if k == 0 else 0.0
            start = clock()
            self.tell(opening)
            at_server += clock() - start
        start = clock()
        total = only(self.tell(server.Finish()))
        assert isinstance(total, server.Total)
        np.multiply(total.vector.view(np.int16), np.float32(1 / SCALE), dtype=np.float32)
        at_server += clock() - start
        assert np.array_equal(total.vector, own * np.uint16(len(self.sites)))
        self.number += 1
        return {"site": at_site, "server": at_server, "upload_bytes": float(upload_bytes)}


def rounded(values: Vector) -> NDArray[np.uint16]:
    """Returns the values on a lattice of 16 bits, without noise."""
    out, buffer = np.empty(values.size, np.int16), np.empty(1 << 16, np.float32)
    for start in range(0, values.size, buffer.size):
        part = buffer[: values.size - start]
        np.multiply(values[start : start + buffer.size], SCALE, out=part)
        np.rint(part, out=part)
        np.copyto(out[start : start + buffer.size], part, casting="unsafe")
    return out.view(np.uint16)


def noised(job: SumJob) -> Callable[[Vector], NDArray[np.uint16]]:
    """Returns what a site of `federated-dp` does to its sum of gradients."""
    sites = len(job.identities)
    plan = Plan(
        sampling_probability=0.01,
        patients=int(BATCH * 100),
        l2_clip_norm=CLIP,
        noise_multiplier=NOISE,
        steps=100,
        delta=1e-5,
        dimension=job.length,
        shares=NoiseShares(members=sites, least=job.least(sites), colluders=job.colluders),
        accountant="rdp",
    )
    lattice = plan.lattice(plan.shares)

    def encode(values: Vector) -> NDArray[np.uint16]:
        return lattice.encode(values, Keystream(fresh())).astype(np.uint16, copy=False)

    return encode


def floor(masks: int, size: int) -> float:
    """Returns the CPU seconds of the keystreams of `masks` vectors of `size` bytes."""
    streams, out = [Keystream(fresh()) for _ in range(masks)], np.empty(BLOCK + TAG_BYTES, np.uint8)
    start = clock()
    for index in range(-(-size // BLOCK)):
        target = out[: min(BLOCK, size - index * BLOCK) + TAG_BYTES]
        for stream in streams:
            stream.block_into(index, target)
    return clock() - start


def masks_only(masks: int, length: int) -> float:
    """Returns the CPU seconds of adding that many masks to a vector."""
    vector, keys = np.zeros(length, np.uint16), [fresh() for _ in range(masks)]
    start = clock()
    add_masks(vector, add=keys[: masks // 2], subtract=keys[masks // 2 :])
    return clock() - start


# -- Beside Flower --------------------------------------------------------------------


def layers(values: Vector) -> list[Vector]:
    """Returns the values as the arrays of a small model."""
    cuts = (values.size // 2, values.size // 2 + values.size // 4)
    return [part.copy() for part in np.split(values, cuts)]


def turns(sites: int, length: int, *, flower: bool) -> Iterator[tuple[str, Times]]:
    """Yields the times of each way, over and over, in turn."""
    values = (np.random.default_rng(0).standard_normal(length) * 0.01).astype(np.float32)
    job, privates = make_job(sites, length)
    session, noisy = Session(job, privates), noised(job)
    if flower:
        import flower_secagg  # noqa: PLC0415 - needs the bench extra
    while True:
        yield "floor", {"site": floor(sites, job.vector_bytes)}
        yield "masks", {"site": masks_only(sites, length)}
        yield "ours", session.round(values, rounded)
        yield "noised", session.round(values, noisy)
        if flower:
            yield "flower", flower_secagg.Round(sites, layers(values)).play()


def medians(sites: int, length: int, repeats: int, *, flower: bool) -> dict[str, Times]:
    seen: dict[str, list[Times]] = {}
    ways = 5 if flower else 4
    for turn, (way, times) in enumerate(turns(sites, length, flower=flower), 1):
        seen.setdefault(way, []).append(times)
        if turn == ways * (repeats + 1):  # the first of each warms caches up
            break
    return {
        way: {key: statistics.median(row[key] for row in rows[1:]) for key in rows[0]}
        for way, rows in seen.items()
    }


def compared(sites: int, length: int, repeats: int, *, flower: bool) -> dict[str, object]:
    found = medians(sites, length, repeats, flower=flower)
    bare = found["floor"]["site"]
    row: dict[str, object] = {
        "sites": sites,
        "length": length,
        "repeats": repeats,
        "seconds": found,
        "masks_over_floor": round(found["masks"]["site"] / bare, 2),
        "site_over_floor": round(found["ours"]["site"] / bare, 2),
        "noised_site_over_floor": round(found["noised"]["site"] / bare, 2),
    }
    if flower:
        for key in ("site", "server", "upload_bytes"):
            row[f"flower_over_ours_{key}"] = round(found["flower"][key] / found["ours"][key], 1)
    return row


# -- Memory ---------------------------------------------------------------------------


def peak_kib() -> int:
    """Returns the peak of this process since it began; `getrusage` knows its parent's too."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def play_sites(pipe: Connection, sites: int, length: int) -> None:
    """Plays every site of one round over a pipe; runs in a process of its own."""
    job, privates = make_job(sites, length)
    states: list[SiteState] = []
    for k, key in enumerate(privates):
        state, (hello,) = site_step(Invited(job=job, site=k, identity=key), Begin(fresh()))
        states.append(state)
        pipe.send_bytes(wire.encode(hello))
    roster = pipe.recv()
    for k in range(sites):
        joined, _ = site_step(states[k], roster)
        states[k], (prekeys,) = site_step(joined, Prepare(round=1, secret=fresh()))
        pipe.send_bytes(wire.encode(prekeys))
    plan, vector = pipe.recv(), np.ones(length, np.uint16)
    for k in range(sites):
        states[k], (upload,) = site_step(states[k], Contribute(plan=plan, vector=vector))
        pipe.send_bytes(wire.encode(upload))
    survivors = pipe.recv()
    for k in range(sites):
        states[k], (opening,) = site_step(states[k], Open(survivors=survivors, secret=fresh()))
        pipe.send_bytes(wire.encode(opening))


def print_peak(sites: int, length: int) -> None:
    """Plays the coordinator of one round and prints by how many MiB its peak grew."""
    job, _ = make_job(sites, length)
    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    context.Process(target=play_sites, args=(there, sites, length), daemon=True).start()
    state: server.CoordinatorState = server.Gathering(job=job)
    limit = largest_message(job)

    def hear(state: server.CoordinatorState) -> server.CoordinatorState:
        for _ in range(sites):
            message = wire.decode(here.recv_bytes(), FROM_SITE, limit=limit)
            state, _ = server.coordinator_step(state, message)
        return state

    def ask(event: server.CoordinatorEvent) -> None:
        nonlocal state
        state, sent = server.coordinator_step(state, event)
        here.send(only(sent))

    state = hear(state)
    ask(server.CloseRoster())
    state = hear(state)
    before = peak_kib()
    ask(server.StartRound(round=1, model=MODEL))
    state = hear(state)
    ask(server.CloseUploads())
    state = hear(state)
    state, (total,) = server.coordinator_step(state, server.Finish())
    assert isinstance(total, server.Total)
    assert (total.vector == sites).all()
    print((peak_kib() - before) / 1024)


def peak_growth(sites: int, length: int) -> float:
    command = [sys.executable, __file__, "--peak", str(sites), str(length)]
    plain = {name: text for name, text in os.environ.items() if name not in KEEP_MEMORY}
    done = subprocess.run(command, check=True, capture_output=True, env=plain)  # noqa: S603
    return float(done.stdout)


# -- The plot -------------------------------------------------------------------------


def slope(points: list[tuple[float, float]]) -> float:
    """Returns the exponent of the best power law through the points; 1 is linear."""
    x, y = np.log(np.array(points)).T
    return float(np.polyfit(x, y, 1)[0])


def draw(rows: list[dict[str, object]], by: str, axis: object, title: str) -> None:
    """Draws cost against `by`, with the cost proportional to the largest point as a line."""
    lines = (("noised", "site", "site, with exact noise"), ("ours", "site", "site"),
             ("ours", "server", "coordinator"), ("floor", "site", "AES alone"))  # fmt: skip
    for (way, who, label), marker in zip(lines, "osD^", strict=True):
        points = [(float(row[by]), row["seconds"][way][who] * 1e3) for row in rows]  # type: ignore[index,arg-type]
        shown = f"{label} (exponent {slope(points):.2f})"
        axis.loglog(*zip(*points, strict=True), marker=marker, label=shown)  # type: ignore[attr-defined]
    ticks = [row[by] for row in rows]
    axis.set_xticks(ticks, [f"{tick:,}" if by == "sites" else f"{tick / 1e6:g}M" for tick in ticks])  # type: ignore[attr-defined,operator]
    axis.minorticks_off()  # type: ignore[attr-defined]
    axis.set_xlabel(title)  # type: ignore[attr-defined]
    axis.set_ylabel("CPU milliseconds a round")  # type: ignore[attr-defined]
    axis.grid(visible=True, which="both", alpha=0.25)  # type: ignore[attr-defined]
    axis.legend(fontsize=8, frameon=False)  # type: ignore[attr-defined]


def plot(by_length: list[dict[str, object]], by_sites: list[dict[str, object]]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - heavy

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), sharey=False)
    draw(by_length, "length", left, "coordinates of a vector, 10 sites")
    draw(by_sites, "sites", right, f"sites, {by_sites[0]['length']:,} coordinates")
    figure.suptitle("The secure sum: cost of a round, no drop-outs")
    figure.tight_layout()
    folder = HERE / "plots"
    folder.mkdir(exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "consilium", "svg.fonttype": "none"}):
        figure.savefig(folder / "secagg.svg", metadata={"Date": None})
    figure.savefig(HERE / "out" / "secagg.png", dpi=110)


# -- The run --------------------------------------------------------------------------


def commit() -> str:
    """Returns the commit that is measured, with a plus where files differ from it."""
    ask = ["git", "-C", str(HERE), "describe", "--always", "--dirty=+"]
    return subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def facts() -> dict[str, object]:
    packages = ["numpy", "cryptography"] + (["flwr"] if find_spec("flwr") else [])
    return {
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("flower", "linear", "memory")
    parser.add_argument("--parts", nargs="+", default=list(parts), choices=parts)
    parser.add_argument(
        "--sites", nargs="+", type=int, default=[10, 100], help="cases beside Flower"
    )
    parser.add_argument("--small", action="store_true", help="tiny cases, to try the script")
    parser.add_argument("--peak", nargs=2, type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peak:
        print_peak(*asked.peak)
        return
    if not KEEP_MEMORY.items() <= os.environ.items():
        again = [sys.executable, *sys.argv]
        os.execve(sys.executable, again, {**os.environ, **KEEP_MEMORY})  # noqa: S606 - itself
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    found: dict[str, object] = facts()
    if "flower" in asked.parts:
        found["cases"] = []
        for case in SMALL if asked.small else [case for case in CASES if case[0] in asked.sites]:
            row = compared(*case, flower=find_spec("flwr") is not None)
            found["cases"].append(row)  # type: ignore[attr-defined]
            print(json.dumps(row), flush=True)
    if "linear" in asked.parts:
        shrink = 50 if asked.small else 1
        by_length = [compared(10, length // shrink, 3, flower=False) for length in LENGTHS]
        by_sites = [compared(sites, 740_000 // shrink, 3, flower=False) for sites in SITES]
        found["by_length"], found["by_sites"] = by_length, by_sites
        plot(by_length, by_sites)
    if "memory" in asked.parts:
        sites, length = (5, 100_000) if asked.small else (100, 11_200_000)
        found["server_peak_growth"] = {
            "sites": sites, "length": length, "mib": round(peak_growth(sites, length), 1),
            "uploads_together_mib": math.ceil(sites * length * 2 / 2**20),
        }  # fmt: skip
        print(json.dumps(found["server_peak_growth"]), flush=True)
    (out / "secagg.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
