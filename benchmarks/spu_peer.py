# SPDX-License-Identifier: Apache-2.0
"""SPU (ABY3, three processes) on the same network; run by the interpreter of an own environment.

usage: python spu_peer.py JOB.pkl          makes shares, starts three parties, prints JSON
"""

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax.numpy as jnp
import numpy as np
import spu
from jax import lax
from spu import libspu
from spu.utils import frontend

PARTIES = 3
PORT = 24_700


def settings() -> libspu.RuntimeConfig:
    made = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.ABY3, field=libspu.FieldType.FM64)
    made.fxp_fraction_bits = 18
    made.enable_pphlo_profile = True
    return made


def forward(layers: list[dict], image: jnp.ndarray, weights: tuple) -> jnp.ndarray:  # noqa: C901
    """NHWC; the layers of `consilium.inference.network`, in order."""
    values = [image]
    for layer in layers:
        kind, read = layer["kind"], [values[k] for k in layer["reads"]]
        if kind == "linear":
            w, b = weights[layer["weight"]], weights[layer["weight"] + 1]
            if layer["flat"]:
                flat = jnp.transpose(read[0], (0, 3, 1, 2)).reshape(read[0].shape[0], -1)
                made = (flat @ w + b)[:, None, None, :]
            else:
                s, p = layer["stride"], layer["padding"]
                made = lax.conv_general_dilated(
                    read[0], w, (s, s), [(p, p), (p, p)], dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                made = made + b[None, None, None, :]
        elif kind == "relu":
            made = jnp.maximum(read[0], 0.0)
        elif kind == "maximum":
            edge = (layer["before"], layer["after"])
            padded = jnp.pad(read[0], ((0, 0), edge, edge, (0, 0)))
            window, stride = (1, layer["size"], layer["size"], 1), (1, *[layer["stride"]] * 2, 1)
            made = lax.reduce_window(padded, -3e4, lax.max, window, stride, "VALID")
        elif kind == "average":
            made = jnp.mean(read[0], axis=(1, 2), keepdims=True)
        elif kind == "scale":
            made = read[0] * layer["factor"]
        elif kind == "join":
            made = jnp.concatenate(read, axis=-1)
        else:
            made = read[0] + read[1]
        values.append(made)
    return values[-1].reshape(image.shape[0], -1)


def party(folder: Path, rank: int) -> None:
    job = pickle.loads((folder / "job.pkl").read_bytes())  # noqa: S301 - our own
    described = libspu.link.Desc()
    described.recv_timeout_ms = 3600 * 1000
    for k in range(PARTIES):
        described.add_party(f"p{k}", f"127.0.0.1:{PORT + k}")
    link = libspu.link.create_brpc(described, rank)
    program = libspu.Executable()
    program.ParseFromString(job["program"])
    runtime = spu.Runtime(link, settings())
    shares = pickle.loads((folder / f"shares{rank}.pkl").read_bytes())  # noqa: S301
    for name, share in zip(program.input_names, shares, strict=True):
        runtime.set_var(name, _share(share))
    results = []
    for _ in range(job["repeats"]):
        before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        runtime.run(program)
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        results.append((wall, cpu))
    out = runtime.get_var(program.output_names[0])
    kept = (results, (out.meta, list(out.share_chunks)))
    (folder / f"out{rank}.pkl").write_bytes(pickle.dumps(kept))
    link.stop_link()
    os._exit(0)


def _share(kept: tuple) -> libspu.Share:
    made = libspu.Share()
    made.meta, made.share_chunks = kept
    return made


def main() -> None:
    place = Path(sys.argv[1])
    if len(sys.argv) > 2:
        party(place, int(sys.argv[2]))
    job = pickle.loads(place.read_bytes())  # noqa: S301 - our own
    folder = place.parent / "spu"
    folder.mkdir(exist_ok=True)
    image, weights = job["image"], job["weights"]
    secret = [libspu.Visibility.VIS_SECRET] * (1 + len(weights))
    program, _ = frontend.compile(
        frontend.Kind.JAX,
        lambda x, *w: forward(job["layers"], x, w),
        (image, *weights),
        {},
        [f"in{k}" for k in range(len(secret))],
        secret,
        lambda out: [f"out{k}" for k in range(len(out))],
        copts=libspu.CompilerOptions(),
    )
    io = spu.Io(PARTIES, settings())
    made = [io.make_shares(one, libspu.Visibility.VIS_SECRET) for one in (image, *weights)]
    kept = {"program": program.SerializeToString(), "repeats": job["repeats"]}
    (folder / "job.pkl").write_bytes(pickle.dumps(kept))
    for k in range(PARTIES):
        mine = [(one[k].meta, list(one[k].share_chunks)) for one in made]
        (folder / f"shares{k}.pkl").write_bytes(pickle.dumps(mine))
    logs = [(folder / f"log{k}").open("w") for k in range(PARTIES)]
    command = [sys.executable, __file__, str(folder)]
    started = [
        subprocess.Popen([*command, str(k)], stdout=logs[k], stderr=subprocess.STDOUT)  # noqa: S603
        for k in range(PARTIES)
    ]
    if sum(one.wait() != 0 for one in started):
        sys.exit((folder / "log0").read_text()[-2000:])
    outs = [pickle.loads((folder / f"out{k}.pkl").read_bytes()) for k in range(PARTIES)]  # noqa: S301
    found = io.reconstruct([_share(out[1]) for out in outs])
    sent = [_sent((folder / f"log{k}").read_text()) for k in range(PARTIES)]
    walls = [max(out[0][r][0] for out in outs) for r in range(job["repeats"])]
    cpus = [sum(out[0][r][1] for out in outs) for r in range(job["repeats"])]
    print(
        json.dumps(
            {
                "seconds": float(np.median(walls)),
                "cpu_seconds": float(np.median(cpus)),
                "bytes_by_party": sent,
                "logits": np.asarray(found).tolist(),
            }
        )
    )


def _sent(log: str) -> int | None:
    """Returns the bytes that SPU says it sent in its last run."""
    lines = [line for line in log.splitlines() if "send bytes" in line]
    words = lines[-1].replace(",", " ").split() if lines else []
    for before, word in pairwise(words):
        if before == "bytes" and word.isdigit():
            return int(word)
    return None


if __name__ == "__main__":
    main()
