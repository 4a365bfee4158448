# SPDX-License-Identifier: Apache-2.0
"""The secure sum beside homomorphic encryption, on one job behind one interface.

    python benchmarks/homomorphic.py [--sites 10] [--length 740000] [--repeats 3]

CKKS by TenSEAL (the `bench` extra), parameters as federated frameworks use them: degree 8192,
moduli of 60, 40 and 40 bits. A COMPARISON OF COST ONLY: TenSEAL has one secret key, which every
site holds, so the coordinator with any single site reads every vector; it has no threshold
decryption. Why nothing better is offered: docs/why/secure-sum.md. CPU time, one process, in
turn, medians. Writes benchmarks/out/homomorphic.json.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import tenseal
from numpy.typing import NDArray
from secagg import Session, facts, make_job, rounded

from consilium.secagg import coordinator as server
from consilium.secagg.messages import Plan, Survivors, Upload
from consilium.secagg.site import Contribute, Open, site_step

HERE = Path(__file__).parent
SLOTS = 4096
clock = time.process_time

Vector = NDArray[np.float32]


class SumOfVectors(Protocol):
    """A round in which every site has a vector and the coordinator learns their sum."""

    def upload(self, site: int, values: Vector) -> bytes:
        """Returns what `site` sends."""
        ...

    def add(self, site: int, data: bytes) -> None:
        """The coordinator takes what `site` sent."""
        ...

    def open(self, site: int) -> None:
        """What `site` does to open the sum."""
        ...

    def total(self) -> Vector:
        """Returns the sum, about."""
        ...


class SecSum:
    """Ours, without noise; what can only be read together with others stays so."""

    def __init__(self, sites: int, length: int) -> None:
        self.session = Session(*make_job(sites, length))
        (plan,) = self.session.tell(server.StartRound(round=1, model=bytes(32)))
        assert isinstance(plan, Plan)
        self.plan, self.survivors, self.sites = plan, Survivors(1, ()), sites
        self.uploads: dict[int, Upload] = {}

    def upload(self, site: int, values: Vector) -> bytes:
        event = Contribute(plan=self.plan, vector=rounded(values), next_secret=os.urandom(32))
        self.session.sites[site], (upload,) = site_step(self.session.sites[site], event)
        assert isinstance(upload, Upload)
        self.uploads[site] = upload
        return bytes(upload.vector)

    def add(self, site: int, data: bytes) -> None:
        del data
        self.session.tell(self.uploads.pop(site))
        if site == self.sites - 1:
            (survivors,) = self.session.tell(server.CloseUploads())
            assert isinstance(survivors, Survivors)
            self.survivors = survivors

    def open(self, site: int) -> None:
        event = Open(survivors=self.survivors, secret=os.urandom(32))
        self.session.sites[site], (opening,) = site_step(self.session.sites[site], event)
        self.session.tell(opening)

    def total(self) -> Vector:
        (total,) = self.session.tell(server.Finish())
        assert isinstance(total, server.Total)
        return np.multiply(total.vector.view(np.int16), np.float32(0.01), dtype=np.float32)


class Ckks:
    """CKKS with one key for all sites: whoever has it reads every upload."""

    def __init__(self, sites: int, length: int) -> None:
        del sites
        moduli = [60, 40, 40]
        self.key = tenseal.context(tenseal.SCHEME_TYPE.CKKS, 2 * SLOTS, coeff_mod_bit_sizes=moduli)
        self.key.global_scale = 2**40
        self.length = length
        self.sums: list[tenseal.CKKSVector] = []
        self.plain = np.zeros(0, np.float32)

    def upload(self, site: int, values: Vector) -> bytes:
        del site
        starts = range(0, self.length, SLOTS)
        parts = [tenseal.ckks_vector(self.key, values[k : k + SLOTS]).serialize() for k in starts]
        self.sizes = [len(part) for part in parts]
        return b"".join(parts)

    def add(self, site: int, data: bytes) -> None:
        ends = np.cumsum(self.sizes)
        parts = [data[end - size : end] for end, size in zip(ends, self.sizes, strict=True)]
        found = [tenseal.ckks_vector_from(self.key, part) for part in parts]
        self.sums = found if site == 0 else [a + b for a, b in zip(self.sums, found, strict=True)]

    def open(self, site: int) -> None:
        if site == 0:
            self.plain = np.concatenate([part.decrypt() for part in self.sums]).astype(np.float32)

    def total(self) -> Vector:
        return self.plain


def played(way: SumOfVectors, sites: int, values: Vector) -> dict[str, float]:
    """Returns CPU seconds of site 0 and of the coordinator, bytes a coordinate, and the error."""
    times = {"site": 0.0, "coordinator": 0.0}
    size = 0

    def timed(who: str, work: Callable[[], object]) -> object:
        start = clock()
        found = work()
        times[who] += clock() - start
        return found

    for site in range(sites):
        who = "site" if site == 0 else "others"
        times.setdefault(who, 0.0)
        data = timed(who, lambda site=site: way.upload(site, values))  # type: ignore[misc]
        assert isinstance(data, bytes)
        size = len(data)
        timed("coordinator", lambda site=site, data=data: way.add(site, data))  # type: ignore[misc]
    for site in range(sites):
        timed("site" if site == 0 else "others", lambda site=site: way.open(site))  # type: ignore[misc]
    total = timed("coordinator", way.total)
    assert isinstance(total, np.ndarray)
    error = float(np.abs(total - sites * values).max())
    return {
        "site": times["site"], "coordinator": times["coordinator"],
        "bytes_a_coordinate": size / values.size, "largest_error": error,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("sites", 10), ("length", 740_000), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    values = (np.random.default_rng(0).standard_normal(asked.length) * 0.01).astype(np.float32)
    ways: dict[str, Callable[[int, int], SumOfVectors]] = {"secsum": SecSum, "ckks": Ckks}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for _ in range(asked.repeats):
        for name, make in ways.items():
            rows[name].append(played(make(asked.sites, asked.length), asked.sites, values))
    found = {
        name: {key: statistics.median(row[key] for row in seen) for key in seen[0]}
        for name, seen in rows.items()
    }
    result = {**facts(), "sites": asked.sites, "length": asked.length, **found}
    print(json.dumps(result))
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "homomorphic.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
