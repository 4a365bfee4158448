# SPDX-License-Identifier: Apache-2.0
"""Offices for tests: people, imported folders, a clock that is moved by hand."""

import hashlib
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np

from consilium.adapters.office.office import FILE, Office, found_office, open_with
from consilium.adapters.office.values import Invited, NewDataset, ProjectDraft
from consilium.adapters.store.database import open_database
from consilium.data.dataset_folder import Count, Description
from consilium.data.records import SPLITS
from consilium.governance.access import Actor
from consilium.governance.association import OfficeKind
from consilium.governance.contract import Purpose
from consilium.governance.policy import PRESETS, Policy

TOML = """
name = "heart"
[data]
source = "hearts"
classes = ["healthy", "diseased"]
[sites]
count = {sites}
{sum}
[model]
name = "logistic"
[learning_rate]
initial = {rate}
[training]
rounds = 5
[dp]
noise_multiplier = 4.0
delta = 1e-4
expected_batch = 20
"""


@dataclass
class Clock:
    now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.now += timedelta(milliseconds=1)
        return self.now

    def pass_days(self, days: int) -> None:
        self.now += timedelta(days=days)


@dataclass
class Staff:
    """An office, its Owner, and more people."""

    office: Office
    clock: Clock
    folder: Path
    owner: Actor
    people: dict[str, Actor] = field(default_factory=dict)

    def join(self, name: str, *roles: str) -> Actor:
        whom = Invited(name=name, email=f"{name}@x.org", roles=frozenset(roles or {"User"}))
        token = hashlib.sha256(name.encode()).digest()
        self.office.people.invite(self.owner, whom, token, self.clock.now + timedelta(days=1))
        person = self.office.people.redeem(token, lambda _connection, _person: None)
        self.people[name] = self.office.people.actor(person.id)
        return self.people[name]

    def copied(self, folder: Path) -> "Staff":
        """The same office in another folder, with a clock of its own."""
        shutil.copytree(self.folder, folder / self.name)
        clock = Clock(self.clock.now)
        database = open_database(f"sqlite:///{folder / self.name / FILE}")
        office = open_with(database, folder / self.name, clock=clock)
        return Staff(office, clock, folder / self.name, self.owner, dict(self.people))

    @property
    def name(self) -> str:
        return self.office.desk.name


def make_office(
    folder: Path, name: str, kind: OfficeKind = "site", policy: Policy = PRESETS["standard"]
) -> Staff:
    made, clock = found_office(folder / name, name, kind, policy=policy), Clock()
    office = open_with(made.desk.database, folder / name, clock=clock)
    token = hashlib.sha256(b"first").digest()
    office.people.first_invitation(token, clock.now + timedelta(days=1), login="root")
    owner = office.people.redeem(token, lambda _c, _p: None, named=("Olga", "olga@x.org"))
    return Staff(office, clock, folder / name, office.people.actor(owner.id))


def make_folder(folder: Path, *, patients: int = 200, seed: int = 0) -> Path:
    """An imported table: one record a patient, 13 features, two classes."""
    folder.mkdir(parents=True)
    source = np.random.default_rng(seed)
    counts = {"train": patients, "validation": 2, "test": 2}
    rows, files = ["row,pseudonym,split,label,site,kind"], {}
    for split, count in counts.items():
        name = f"{split}_inputs.npy"
        np.save(folder / name, source.normal(size=(count, 13)).astype(np.float32))
        files[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        rows += [f"{k},{split}-{seed}-{k},{split},{k % 2},,table" for k in range(count)]
    (folder / "records.csv").write_text("\n".join(rows) + "\n")
    files["records.csv"] = hashlib.sha256((folder / "records.csv").read_bytes()).hexdigest()
    said = Description(
        task="classification",
        unit="patient",
        classes=("healthy", "diseased"),
        features=tuple(f"f{k}" for k in range(13)),
        shape=(13,),
        dtype="float32",
        counts={
            split: Count(
                records=counts[split],
                patients=counts[split],
                of_each_class=(counts[split] - counts[split] // 2, counts[split] // 2),
            )
            for split in SPLITS
        },
        preprocessing={},
        deidentification={},
        copies_between_splits="none",
        software={},
        files=files,
    )
    (folder / "dataset.json").write_bytes(msgspec.json.encode(said))
    return folder


def new_dataset(folder: Path, name: str = "hearts") -> NewDataset:
    return NewDataset(
        name=name, folder=str(folder), description="Heart disease, 13 values", tags=("heart",)
    )


def project_draft(
    datasets: dict[str, str], *, rate: float = 0.1, arm: str = "federated-dp", secure: bool = True
) -> ProjectDraft:
    words = "" if secure else 'secure_sum = "off-and-the-coordinator-sees-every-update"'
    return ProjectDraft(
        toml=TOML.format(sites=len(datasets), rate=rate, sum=words),
        arm=arm,
        datasets=datasets,
        purpose=Purpose(text="Tell who is ill", ethics="EK 12/26"),
    )


def associate(one: Staff, other: Staff) -> None:
    """Both offices know each other afterwards, as their administrators would do it."""
    asked = one.office.associations.ask(
        one.owner, other.name, address="", own_address="", reason="one federation"
    )
    known = other.office.associations.receive(asked)
    answer = other.office.associations.answer(
        other.owner, known.id, accept=True, words=known.words()
    )
    back = one.office.associations.take_answer(answer)
    one.office.associations.confirm(one.owner, back.id, words=back.words())


def as_office(here: Staff, there: Staff) -> Actor:
    """`there`, as `here` knows it."""
    return here.office.associations.known(there.name, there.office.desk.public_key())
