# SPDX-License-Identifier: Apache-2.0
"""SPU on the same network, its nodes as processes; run by the interpreter of an own environment.

usage: python spu_peer.py JOB.pkl [--protocol ABY3|CHEETAH] [--limit 540] [--repeats N]

Makes shares, starts the nodes on loopback, prints JSON. No TLS (ours has it), so nothing is added
to what SPU costs. ABY3: three nodes, one may look. Cheetah: two, either may look. No dealer.
JOB.pkl: {"layers", "image" (n, h, w, c), "weights", "repeats"}, as `adapters.inference.spu`
describes networks; past the limit all nodes are ended and the exit code is 124.
"""

import argparse
import importlib.util
import json
import os
import pickle
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import numpy as np
import spu
from peers import await_all
from spu import libspu

SOURCE = Path(__file__).parents[1] / "src/consilium/adapters/inference/spu_process.py"
_found = importlib.util.spec_from_file_location("spu_process", SOURCE)
assert _found is not None
assert _found.loader is not None
ours = importlib.util.module_from_spec(_found)  # by its path: this interpreter has no torch
_found.loader.exec_module(ours)


def node(folder: Path, rank: int) -> None:
    job = pickle.loads((folder / "job.pkl").read_bytes())  # noqa: S301 - our own
    options = libspu.logging.LogOptions()
    options.enable_console_logger = False
    options.system_log_path = str(folder / f"spu{rank}.log")
    libspu.logging.setup_logging(options)
    described = libspu.link.Desc()
    described.recv_timeout_ms = 3600 * 1000
    for k, port in enumerate(job["ports"]):
        described.add_party(f"node-{k}", f"127.0.0.1:{port}")
    link = libspu.link.create_brpc(described, rank)
    program = libspu.Executable()
    program.ParseFromString(job["program"])
    runtime = spu.Runtime(link, ours.settings(job["protocol"]))
    shares = pickle.loads((folder / f"shares{rank}.pkl").read_bytes())  # noqa: S301
    for name, share in zip(program.input_names, shares, strict=True):
        runtime.set_var(name, ours.unpack_share(share))
    results = []
    for _ in range(job["repeats"]):
        before, start = cpu_seconds(), time.perf_counter()
        runtime.run(program)
        results.append((time.perf_counter() - start, cpu_seconds() - before))
    share = ours.pack_share(runtime.get_var(program.output_names[0]))
    sent = ours.sent_bytes((folder / f"spu{rank}.log").read_text())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (folder / f"out{rank}.pkl").write_bytes(pickle.dumps((results, share, sent, peak)))
    link.stop_link()
    os._exit(0)


def cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in taken]
    for one in taken:
        one.close()
    return ports


def run_nodes(folder: Path, count: int, limit: float) -> None:
    """Starts the nodes and waits for them; ends all when one fails, or when it takes too long."""
    command = [sys.executable, __file__, str(folder), "--node"]
    started = []
    for k in range(count):
        log = (folder / f"log{k}").open("w")
        started.append(subprocess.Popen([*command, str(k)], stdout=log, stderr=log))  # noqa: S603
    await_all(started, folder, limit)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--protocol", default="ABY3", choices=list(ours.NODES))
    parser.add_argument("--limit", type=float, default=540.0)
    parser.add_argument("--repeats", type=int, help="instead of the job's")
    parser.add_argument("--node", type=int)
    asked = parser.parse_args()
    if asked.node is not None:
        node(asked.job, asked.node)
    job, count = pickle.loads(asked.job.read_bytes()), ours.NODES[asked.protocol]  # noqa: S301
    job["repeats"] = asked.repeats or job["repeats"]
    folder = asked.job.parent / f"spu-{asked.protocol.lower()}"
    folder.mkdir(exist_ok=True)
    image, weights = job["image"], job["weights"]
    io = spu.Io(count, ours.settings(asked.protocol))
    made = [io.make_shares(one, libspu.Visibility.VIS_SECRET) for one in (image, *weights)]
    kept = {
        "program": ours.compile_program(job["layers"], list(image.shape), weights),
        "repeats": job["repeats"],
        "protocol": asked.protocol,
        "ports": free_ports(count),
    }
    (folder / "job.pkl").write_bytes(pickle.dumps(kept))
    for k in range(count):
        mine = [ours.pack_share(one[k]) for one in made]
        (folder / f"shares{k}.pkl").write_bytes(pickle.dumps(mine))
    run_nodes(folder, count, asked.limit)
    outs = [pickle.loads((folder / f"out{k}.pkl").read_bytes()) for k in range(count)]  # noqa: S301
    walls = [max(out[0][r][0] for out in outs) for r in range(job["repeats"])]
    cpus = [[out[0][r][1] for r in range(job["repeats"])] for out in outs]
    report = {
        "system": f"SPU {getattr(spu, '__version__', '')} {asked.protocol}".replace("  ", " "),
        "seconds": float(np.median(walls)),
        "cpu_seconds": float(np.median(np.sum(cpus, axis=0))),
        "cpu_seconds_by_run": np.sum(cpus, axis=0).tolist(),  # the first of Cheetah sets up
        "cpu_seconds_by_party": [float(np.median(one)) for one in cpus],
        "bytes_by_party": [out[2] for out in outs],
        "peak_megabytes_by_party": [out[3] // 1024 for out in outs],
        "logits": np.asarray(io.reconstruct([ours.unpack_share(out[1]) for out in outs])).tolist(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
