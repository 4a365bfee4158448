# SPDX-License-Identifier: Apache-2.0
"""CrypTen on the same network, two processes; run by the interpreter of an own environment.

usage: python crypten_peer.py JOB.pkl [--limit 540]     prints JSON

CrypTen's default provider, as its own benchmarks use it: party 0 deals the random triples that hide
both parties' secrets, so party 0 could open everything. That is insecure, and cheaper than any
secure dealer: nothing stands for it in the figures. JOB.pkl as in `spu_peer.py`; no TLS.
CrypTen 0.4.1 imports a module of torch.onnx that torch has dropped; a stand-in is put in its
place, and nothing that is measured uses it.
"""

import argparse
import json
import os
import pickle
import resource
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np
import torch
from peers import await_all

PARTIES = 2


def imported() -> types.ModuleType:
    """CrypTen, with a stand-in for what torch has dropped."""
    gone = types.ModuleType("torch.onnx._internal.registration")
    gone.registry = None
    sys.modules.setdefault(gone.__name__, gone)
    warnings.simplefilter("ignore")
    import crypten  # noqa: PLC0415

    return crypten


def forward(crypten: types.ModuleType, layers: list[dict], image: object, weights: list) -> object:
    """NCHW; the layers of `consilium.inference.network`, in order."""
    values = [image]
    for layer in layers:
        kind, read = layer["kind"], [values[k] for k in layer["reads"]]
        if kind == "linear":
            made = linear(layer, read[0], weights)
        elif kind == "relu":
            made = read[0].relu()
        elif kind == "maximum":
            edge = (layer["before"], layer["after"]) * 2
            padded = read[0].pad(edge) if any(edge) else read[0]
            made = padded.max_pool2d(layer["size"], stride=layer["stride"])
        elif kind == "average":
            made = average(layer, read[0])
        elif kind == "scale":
            made = read[0] * layer["factor"]
        elif kind == "join":
            made = crypten.cat(read, dim=1)
        else:
            made = read[0] + read[1]
        values.append(made)
    return values[-1].flatten(1)


def linear(layer: dict, read: object, weights: list) -> object:
    weight, bias = weights[layer["weight"]], weights[layer["weight"] + 1]
    if layer["flat"]:
        made = read.flatten(1).matmul(weight) + bias
        return made.unsqueeze(2).unsqueeze(3)
    made = read.conv2d(weight, stride=layer["stride"], padding=layer["padding"])
    return made + bias.reshape(1, -1, 1, 1)


def average(layer: dict, read: object) -> object:
    rows, columns = layer["rows"], layer["columns"]
    if len(rows) == len(columns) == 1:
        return read.mean(dim=(2, 3), keepdim=True)
    stride = rows[1]
    assert list(rows) == list(columns) == [k * stride for k in range(len(rows))]
    return read.avg_pool2d((layer["height"], layer["width"]), stride=(stride, stride))


def party(folder: Path, rank: int) -> None:
    job = pickle.loads((folder / "job.pkl").read_bytes())  # noqa: S301 - our own
    torch.set_num_threads(1)
    crypten = imported()
    crypten.init()
    crypten.cfg.communicator.verbose = True  # it counts, and prints nothing
    torch.set_num_threads(1)
    arrays = [torch.from_numpy(np.ascontiguousarray(w, np.float32)) for w in job["weights"]]
    kernels = [w.permute(3, 2, 0, 1).contiguous() if w.ndim == 4 else w for w in arrays]
    weights = [crypten.cryptensor(w, src=0) for w in kernels]
    picture = torch.from_numpy(job["image"]).permute(0, 3, 1, 2).contiguous()
    image = crypten.cryptensor(picture, src=1)
    link, results, logits = crypten.communicator.get(), [], None
    for _ in range(job["repeats"]):
        link.reset_communication_stats()
        before, start = cpu_seconds(), time.perf_counter()
        with crypten.no_grad():
            share = forward(crypten, job["layers"], image, weights)
        told = link.get_communication_stats()
        results.append(
            (time.perf_counter() - start, cpu_seconds() - before, told["bytes"], told["rounds"])
        )
        logits = share.get_plain_text().numpy()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (folder / f"out{rank}.pkl").write_bytes(pickle.dumps((results, logits, peak)))
    os._exit(0)


def cpu_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def run_parties(folder: Path, limit: float) -> None:
    meeting = folder / "meeting"
    meeting.unlink(missing_ok=True)
    started = []
    for k in range(PARTIES):
        env = os.environ | {"WORLD_SIZE": str(PARTIES), "RANK": str(k), "GLOO_SOCKET_IFNAME": "lo"}
        env |= {"RENDEZVOUS": f"file://{meeting}", "DISTRIBUTED_BACKEND": "gloo"}
        log = (folder / f"log{k}").open("w")
        command = [sys.executable, __file__, str(folder), "--party", str(k)]
        started.append(subprocess.Popen(command, env=env, stdout=log, stderr=log))  # noqa: S603
    await_all(started, folder, limit)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--limit", type=float, default=540.0)
    parser.add_argument("--party", type=int)
    asked = parser.parse_args()
    if asked.party is not None:
        party(asked.job, asked.party)
    folder = asked.job.parent.resolve() / "crypten"
    folder.mkdir(exist_ok=True)
    job = pickle.loads(asked.job.read_bytes())  # noqa: S301 - our own
    (folder / "job.pkl").write_bytes(pickle.dumps(job))
    run_parties(folder, asked.limit)
    outs = [pickle.loads((folder / f"out{k}.pkl").read_bytes()) for k in range(PARTIES)]  # noqa: S301
    runs = range(job["repeats"])
    cpus = [[out[0][r][1] for r in runs] for out in outs]
    report = {
        "system": "CrypTen 0.4.1, two parties, insecure dealer (party 0)",
        "seconds": float(np.median([max(out[0][r][0] for out in outs) for r in runs])),
        "cpu_seconds": float(np.median(np.sum(cpus, axis=0))),
        "cpu_seconds_by_run": np.sum(cpus, axis=0).tolist(),
        "cpu_seconds_by_party": [float(np.median(one)) for one in cpus],
        # CrypTen's own counter adds what is sent and what is received, the same here.
        "bytes_by_party": [int(out[0][-1][2]) // 2 for out in outs],
        "rounds": outs[0][0][-1][3],
        "peak_megabytes_by_party": [out[2] // 1024 for out in outs],
        "logits": outs[0][1].tolist(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
