# SPDX-License-Identifier: Apache-2.0
"""What one round's charge costs a site's ledger on SQLite, how large it grows, and its proof.

100,000 patients with several histories (earlier projects on parts of them), then a run of 3,000
rounds; a round is what a site does: leave out who opted out meanwhile, then append its charge,
synced to disk. Prints medians and the 99th percentile, writes the plot of growth.

    python benchmarks/ledger.py --patients 100000 --rounds 3000

Wall clock on whatever disk the temporary folder is on; `--folder` chooses another.
"""

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from dp_accounting.dp_event import GaussianDpEvent, PoissonSampledDpEvent
from matplotlib import pyplot as plt
from sqlalchemy import func, select

from consilium.adapters.store.database import Database, open_database
from consilium.adapters.store.ledger_check import verify
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.ledger_tables import COHORT
from consilium.adapters.store.site_ledger import Attendance, Purchase, SiteAccount, SiteLedger
from consilium.federation.contribution import Trainee
from consilium.federation.ledger import Charge
from consilium.governance.composition import Cap, Step
from consilium.governance.events import encode_event
from consilium.governance.ledger import Request
from consilium.learning.tasks import Classification

CAP = Cap(epsilon=8.0, delta=1e-6)
STEP = Step(event=encode_event(PoissonSampledDpEvent(0.003, GaussianDpEvent(1.0))), slack=1e-10)
EARLIER = 8
PLOT = Path(__file__).parent / "plots" / "ledger.svg"


def prepare(database: Database, patients: int) -> None:
    """Enrols everybody, and lets earlier projects use datasets of ever fewer of them."""
    store, names = LedgerStore(database), [f"{k:032x}" for k in range(patients)]
    began = time.perf_counter()
    with database.transaction() as connection:
        store.cap_patients(connection, CAP, ["weber"])
        store.set_cap(connection, "all", CAP, ["weber"])
        store.enrol(connection, "all", names)
    print(f"enrolment of {patients} patients: {time.perf_counter() - began:.2f} s")
    for k in range(EARLIER):
        with database.transaction() as connection:
            store.set_cap(connection, f"part {k}", CAP, ["weber"])
            store.enrol(connection, f"part {k}", names[:: k + 2])
            request = Request(
                dataset=f"part {k}", key=f"earlier {k}", project=f"p{k}", step=STEP, steps=10
            )
            store.spend(connection, request)


def attended(ledger: SiteLedger, patients: int) -> tuple[Attendance, Trainee]:
    names = np.array([f"{k:032x}" for k in range(patients)])
    trainee = Trainee(
        model=torch.nn.Linear(1, 2),
        task=Classification(2),
        inputs=torch.zeros(patients, 1),
        labels=torch.zeros(patients, dtype=torch.int64),
        rows=tuple(np.arange(patients).reshape(-1, 1)),
    )
    return Attendance(ledger, names), trainee


def size_of(path: Path) -> int:
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def run(path: Path, patients: int, rounds: int) -> None:
    database = open_database(f"sqlite:///{path}")
    prepare(database, patients)
    account = SiteAccount(LedgerStore(database), dataset="all", run="bench")
    purchase = Purchase(project="bench", terms=bytes(32), step=STEP, steps=rounds)
    before, began = size_of(path), time.perf_counter()
    ledger = account.open(purchase)
    print(f"holding a run's price, everybody filtered: {time.perf_counter() - began:.3f} s")
    attendance, trainee = attended(ledger, patients)
    seconds, sizes, computed = [], [], time.process_time()
    for number in range(1, rounds + 1):
        if number == rounds // 2:
            opt_out(database)
        began = time.perf_counter()
        attendance(trainee)
        charge = Charge(site=0, round=number, terms=bytes(32), mechanism="a step")
        ledger.append(charge)
        seconds.append(time.perf_counter() - began)
        sizes.append(size_of(path))
    computed = (time.process_time() - computed) / rounds
    print(f"processor time of a round: {1000 * computed:.2f} ms, with its measurement")
    report(database, before, seconds, sizes)
    database.close()


def opt_out(database: Database) -> None:
    with database.transaction() as connection:
        LedgerStore(database).opt_out(connection, f"{7:032x}", ["weber"])


def report(database: Database, before: int, seconds: list[float], sizes: list[int]) -> None:
    began, computed = time.perf_counter(), time.process_time()
    with database.reading() as connection:
        verdict = verify(connection)
        cohorts = connection.execute(select(func.count()).select_from(COHORT)).scalar_one()
    checked, computed = time.perf_counter() - began, time.process_time() - computed
    assert verdict.intact, verdict.wrong
    ordered = sorted(1000 * one for one in seconds)
    print(f"{cohorts} cohorts, {verdict.entries} entries")
    print(
        f"a round's charge: median {statistics.median(ordered):.2f} ms, 99 % "
        f"{ordered[int(0.99 * len(ordered))]:.2f} ms, largest {ordered[-1]:.1f} ms"
    )
    print(f"disk: {before / 2**20:.1f} MiB before, {sizes[-1] / 2**20:.1f} MiB after")
    print(f"bytes a round, least squares: {np.polyfit(range(len(sizes)), sizes, 1)[0]:.0f}")
    print(f"verify, all entries and tables: {checked:.2f} s ({computed:.2f} s of processor)")
    plot(seconds, sizes)


def plot(seconds: list[float], sizes: list[int]) -> None:
    plt.rcParams["svg.hashsalt"] = "ledger"
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    left.plot(np.array(sizes) / 2**20, color="#1d70b8")
    left.set(xlabel="rounds", ylabel="MiB on disk", ylim=(0, None))
    width = max(1, len(seconds) // 60)
    medians = [
        1000 * statistics.median(seconds[k : k + width]) for k in range(0, len(seconds), width)
    ]
    right.plot(range(0, len(seconds), width), medians, color="#1d70b8")
    right.set(xlabel="rounds", ylabel="ms a charge, median", ylim=(0, None))
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        run(Path(folder) / "office.db", options.patients, options.rounds)


if __name__ == "__main__":
    main()
