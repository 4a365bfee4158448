# SPDX-License-Identifier: Apache-2.0
"""Writes the recorded runs that test_vectors.py replays: `python -m tests.secagg.write_vectors`.

Fixed bytes stand in for randomness. A file holds a job, the sites' private keys, and steps in
order: who meets which event, and what it sends in answer or how it refuses. Messages are the
hexadecimal of `wire.encode`. An encapsulator is the secrets and ciphertexts that it draws, in
order. A refused step leaves the run as it was, and the run goes on.
"""

import json
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.secagg import fips203

from consilium import wire
from consilium.errors import ProtocolError
from consilium.secagg import coordinator, site
from consilium.secagg.coordinator import Outcome
from consilium.secagg.job import SumJob
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    FromSite,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

FOLDER = Path(__file__).parents[1] / "vectors"
MODEL = bytes(range(32))
replace = msgspec.structs.replace
Step = dict[str, object]
Sent = TypeVar("Sent")


class Drawn:
    """Encapsulations with fixed randomness, and what they were."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.pairs: list[tuple[bytes, bytes]] = []

    def __call__(self, key: bytes) -> tuple[bytes, bytes]:
        """Returns the next secret and its ciphertext."""
        message = bytes([self.seed]) * 31 + bytes([len(self.pairs)])
        self.pairs.append(fips203.encapsulate(key, message))
        return self.pairs[-1]


class Recorder:
    """Plays the parties of a job and writes down what each is told and says."""

    def __init__(
        self,
        sites: int,
        threshold: int,
        colluders: int,
        *,
        length: int,
        bits: int,
        post_quantum: bool = False,
    ) -> None:
        self.privates = [bytes(range(k, k + 32)) for k in range(0, 7 * sites, 7)]
        self.job = SumJob(
            name="recorded",
            identities=tuple(
                Ed25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw()
                for key in self.privates
            ),
            threshold=threshold,
            colluders=colluders,
            tolerated_drops=sites - threshold,
            length=length,
            bits=bits,
            terms=bytes(range(32, 64)),
            post_quantum=post_quantum,
        )
        self.coordinator: coordinator.CoordinatorState = coordinator.Gathering(job=self.job)
        self.sites: list[site.SiteState] = [
            site.Invited(job=self.job, site=k, identity=key) for k, key in enumerate(self.privates)
        ]
        self.steps: list[Step] = []
        self.count = 0

    def secret(self) -> bytes:
        """Returns 32 bytes that no other event has."""
        self.count += 1
        return self.count.to_bytes(32, "big")

    def tell(self, number: int, event: site.SiteEvent) -> tuple[FromSite, ...]:
        """Makes a site take a step; returns its messages."""
        self.sites[number], sent = site.site_step(self.sites[number], event)
        step: Step = {"at": f"site {number}", "event": described(event)}
        self.steps.append(step)
        step["sends"] = [described(message) for message in sent]
        return sent

    def refuse(self, number: int, event: site.SiteEvent) -> None:
        """Makes a site refuse an event."""
        with pytest.raises(ProtocolError) as refusal:
            site.site_step(self.sites[number], event)
        self.steps.append(refused(f"site {number}", event, refusal.value))

    def coordinate(self, event: coordinator.CoordinatorEvent) -> tuple[Outcome, ...]:
        """Makes the coordinator take a step; returns its messages."""
        step: Step = {"at": "coordinator", "event": described(event)}
        self.steps.append(step)
        self.coordinator, sent = coordinator.coordinator_step(self.coordinator, event)
        step["sends"] = [described(message) for message in sent]
        return sent

    def coordinator_refuses(self, event: coordinator.CoordinatorEvent) -> None:
        """Makes the coordinator refuse an event."""
        with pytest.raises(ProtocolError) as refusal:
            coordinator.coordinator_step(self.coordinator, event)
        self.steps.append(refused("coordinator", event, refusal.value))

    def begin(self) -> None:
        """Plays the set-up, up to the prekeys of round 1."""
        numbers = range(len(self.sites))
        for number in numbers:
            (hello,) = self.tell(number, site.Begin(self.secret()))
            self.coordinate(hello)
        roster = only(Roster, self.coordinate(coordinator.CloseRoster()))
        for number in numbers:
            self.tell(number, roster)
        for number in numbers:
            (prekeys,) = self.tell(number, self.prepare(1))
            self.coordinate(prekeys)

    def encapsulate(self, number: int, roster: Roster) -> Ciphertexts:
        """Makes a site send its ciphertexts."""
        event = site.Encapsulate(roster, Drawn(number))
        return only(Ciphertexts, self.tell(number, event))

    def prepare(self, number: int) -> site.Prepare:
        """Returns the event with a fresh secret."""
        return site.Prepare(round=number, secret=self.secret())

    def start(self, number: int) -> Plan:
        """Starts a round."""
        return only(Plan, self.coordinate(coordinator.StartRound(round=number, model=MODEL)))

    def contribute(self, number: int, plan: Plan) -> Upload:
        """Makes a site contribute a fixed vector, and prepare the next round."""
        values = [2**16 - 1 - 1000 * plan.round - 17 * number - k for k in range(self.job.length)]
        vector = np.array(values).astype(self.job.word)
        event = site.Contribute(plan=plan, vector=vector, next_secret=self.secret())
        return only(Upload, self.tell(number, event))

    def open(self, number: int, survivors: Survivors) -> Opening:
        """Makes a site open."""
        event = site.Open(survivors=survivors, secret=self.secret())
        return only(Opening, self.tell(number, event))

    def close(self) -> Survivors:
        """Closes the uploads."""
        return only(Survivors, self.coordinate(coordinator.CloseUploads()))

    def write(self, name: str) -> None:
        """Writes the run under this name."""
        record = {
            "protocol": "consilium/v1/secagg",
            "job": described(self.job),
            "identities": [key.hex() for key in self.privates],
            "steps": self.steps,
        }
        path = FOLDER / f"secagg_{name}.json"
        path.write_text(json.dumps(record, indent=1) + "\n")


def only(kind: type[Sent], sent: tuple[object, ...]) -> Sent:
    """Returns the one message that was sent."""
    (message,) = sent
    assert isinstance(message, kind)
    return message


def refused(party: str, event: object, error: ProtocolError) -> Step:
    """Returns the step in which a party refuses an event."""
    said = {"refuses": type(error).__name__, "saying": str(error)}
    return {"at": party, "event": described(event), **said}


def described(value: object) -> object:
    """Returns a value as JSON: bytes and messages in hexadecimal, events as their fields."""
    if isinstance(value, wire.Message):
        return {"type": type(value).__name__, "message": wire.encode(value).hex()}
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Drawn):
        value = tuple(value.pairs)
    if isinstance(value, tuple):
        return [described(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: described(getattr(value, name)) for name in value.__dataclass_fields__}
        return {"type": type(value).__name__, **fields}
    return value


# -- The runs -------------------------------------------------------------------------


def three_sites() -> None:
    """Two rounds without an incident; prekeys of the second ride on the uploads of the first."""
    run = Recorder(3, 3, 1, length=3, bits=16)
    run.begin()
    for number in (1, 2):
        plan = run.start(number)
        for member in plan.members:
            run.coordinate(run.contribute(member, plan))
        survivors = run.close()
        for member in survivors.sites:
            run.coordinate(run.open(member, survivors))
        run.coordinate(coordinator.Finish())
    run.write("three_sites")


def dropped_site() -> None:
    """Five sites, one of which drops out after the plan; wide words."""
    run = Recorder(5, 4, 1, length=2, bits=20)
    run.begin()
    plan = run.start(1)
    for member in (4, 0, 3, 1):
        run.coordinate(run.contribute(member, plan))
    survivors = run.close()
    for member in survivors.sites:
        run.coordinate(run.open(member, survivors))
    run.coordinate(coordinator.Finish())
    run.write("dropped_site")


def bad_messages() -> None:
    """Each message comes in a false form first, is refused, and the sum is right all the same."""
    run = Recorder(3, 3, 1, length=3, bits=16)
    bad_setup(run)
    plan = run.start(1)
    bad_plans(run, plan)
    for member in plan.members:
        upload = run.contribute(member, plan)
        run.coordinator_refuses(replace(upload, vector=memoryview(bytes(upload.vector) + b"\0")))
        run.coordinator_refuses(replace(upload, round=2))
        run.coordinate(upload)
        run.coordinator_refuses(upload)
    second = site.Contribute(plan=replace(plan, model=bytes(32)), vector=np.ones(3, np.uint16))
    run.refuse(0, second)
    survivors = run.close()
    for false in (replace(survivors, sites=(0, 1)), replace(survivors, round=2)):
        run.refuse(0, site.Open(survivors=false, secret=run.secret()))
    for member in survivors.sites:
        opening = run.open(member, survivors)
        run.refuse(member, site.Open(survivors=survivors, secret=run.secret()))
        run.coordinator_refuses(replace(opening, sealed=opening.sealed[1:]))
        run.coordinate(opening)
        run.coordinator_refuses(opening)
    run.coordinate(coordinator.Finish())
    run.write("bad_messages")


def bad_setup(run: Recorder) -> None:
    """Plays the set-up, with false messages in between."""
    hellos = [only(Hello, run.tell(number, site.Begin(run.secret()))) for number in range(3)]
    run.coordinator_refuses(replace(hellos[0], site=1))
    run.coordinator_refuses(replace(hellos[0], key=hellos[1].key))
    for hello in hellos:
        run.coordinate(hello)
        run.coordinator_refuses(hello)
    roster = only(Roster, run.coordinate(coordinator.CloseRoster()))
    run.refuse(0, Roster(roster.hellos[1:]))
    run.refuse(0, Roster((*roster.hellos[:2], replace(roster.hellos[2], key=hellos[0].key))))
    run.refuse(0, Roster((roster.hellos[0], roster.hellos[2], roster.hellos[1])))
    for number in range(3):
        run.tell(number, roster)
        prekeys = only(Prekeys, run.tell(number, run.prepare(1)))
        run.coordinator_refuses(replace(prekeys, self_shares=prekeys.self_shares[:-1]))
        run.coordinator_refuses(replace(prekeys, site=3))
        run.coordinate(prekeys)
        run.coordinator_refuses(prekeys)
        run.refuse(number, run.prepare(1))


def bad_plans(run: Recorder, plan: Plan) -> None:
    """Shows site 0 plans that it must refuse."""
    for false in (
        replace(plan, round=0),
        replace(plan, round=2),
        replace(plan, members=(0, 1)),
        replace(plan, members=(0, 1, 1)),
        replace(plan, members=(0, 1, 3)),
        replace(plan, model=b""),
    ):
        run.refuse(0, site.Contribute(plan=false, vector=np.zeros(3, np.uint16)))


def bad_opening() -> None:
    """A site of four lies in its opening: the round names it and opens nothing; the next sums."""
    run = Recorder(4, 4, 2, length=3, bits=16)
    run.begin()
    plan = run.start(1)
    for member in plan.members:
        run.coordinate(run.contribute(member, plan))
    survivors = run.close()
    for member in survivors.sites:
        opening = run.open(member, survivors)
        false = replace(opening, tokens=opening.tokens[::-1])
        run.coordinate(false if member == 2 else opening)
    run.coordinator_refuses(coordinator.Finish())
    run.coordinate(coordinator.AbandonRound())
    plan = run.start(2)
    for member in plan.members:
        run.coordinate(run.contribute(member, plan))
    survivors = run.close()
    for member in survivors.sites:
        run.coordinate(run.open(member, survivors))
    run.coordinate(coordinator.Finish())
    run.write("bad_opening")


def post_quantum() -> None:
    """Four sites with ML-KEM, of which one stops before its ciphertexts; false ones in between."""
    run = Recorder(4, 3, 1, length=3, bits=16, post_quantum=True)
    hellos = [only(Hello, run.tell(number, site.Begin(run.secret()))) for number in range(4)]
    run.coordinator_refuses(replace(hellos[0], key=hellos[0].key[:32]))
    run.coordinator_refuses(replace(hellos[0], key=hellos[0].key[:32] + hellos[1].key[32:]))
    for hello in hellos:
        run.coordinate(hello)
    roster = only(Roster, run.coordinate(coordinator.CloseRoster()))
    run.refuse(0, roster)
    said = [run.encapsulate(number, roster) for number in range(3)]
    run.coordinator_refuses(replace(said[0], ciphertexts=said[0].ciphertexts[1088:]))
    run.coordinator_refuses(replace(said[0], ciphertexts=said[0].ciphertexts[::-1]))
    for one in said:
        run.coordinate(one)
        run.coordinator_refuses(one)
    table = only(CiphertextTable, run.coordinate(coordinator.CloseCiphertexts()))
    bad_tables(run, said)
    for number in range(3):
        run.tell(number, table)
        run.coordinate(only(Prekeys, run.tell(number, run.prepare(1))))
    plan = run.start(1)
    for member in plan.members:
        run.coordinate(run.contribute(member, plan))
    survivors = run.close()
    for member in survivors.sites:
        run.coordinate(run.open(member, survivors))
    run.coordinate(coordinator.Finish())
    run.write("post_quantum")


def bad_tables(run: Recorder, said: list[Ciphertexts]) -> None:
    """Shows site 2 tables that it must refuse."""
    swapped = replace(said[0], ciphertexts=said[0].ciphertexts[:2176] + bytes(1088))
    for entries in ((swapped, *said[1:]), (*said[:2],), (said[0], said[2]), (said[1], *said)):
        run.refuse(2, CiphertextTable(entries))


if __name__ == "__main__":
    three_sites()
    dropped_site()
    bad_messages()
    bad_opening()
    post_quantum()
