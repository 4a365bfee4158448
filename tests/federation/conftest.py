# SPDX-License-Identifier: Apache-2.0
"""A whole federation in memory: real messages, fixed secrets, and any of them may be lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings

from consilium import wire
from consilium.adapters.randomness import encapsulate
from consilium.errors import PrivacyError, ProtocolError
from consilium.federation import coordinator, site
from consilium.federation.contribution import Trainee, contribute
from consilium.federation.ledger import Charge, Receipt, charge_digest, check_room
from consilium.federation.messages import (
    FROM_COORDINATOR,
    FROM_SITE,
    FromCoordinator,
    FromSite,
    PlainUpdate,
    RoundStart,
)
from consilium.federation.plain_sum import PlainSum
from consilium.federation.progress import Progress, Validation, begin
from consilium.federation.project import Project, parse_project
from consilium.federation.setup import PublicFacts, Setup, make_setup
from consilium.learning.models.logistic import Logistic
from consilium.learning.parameters import Vector
from consilium.learning.tasks import Classification
from consilium.secagg.messages import Opening, Survivors, Upload
from consilium.wire import Message

Lost: TypeAlias = Callable[[FromSite | FromCoordinator, int], bool]

few = settings(deadline=None, max_examples=25, derandomize=True)  # runs whole trainings

FEATURES = 3
DIMENSION = 2 * FEATURES + 2
MOST_TURNS = 300
PATIENTS = 5  # at each site
RECORDS = 7  # at each site: the first two patients have two records each

PROJECT = """
name = "test"
[data]
source = "nowhere"
[model]
name = "logistic"
[sites]
count = 4
[optimiser]
momentum = 0.5
[learning_rate]
initial = 0.5
[training]
rounds = 3
evaluate_every = 2
[dp]
noise_multiplier = 1.0
delta = 1e-3
expected_batch = 10
accountant = "rdp"
"""


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def secret(*parts: wire.Part) -> bytes:
    """Returns 32 fixed bytes for this use."""
    return wire.digest("test secret", *parts)


def identity(number: int) -> bytes:
    """Returns the Ed25519 private key of a site."""
    return secret("identity", number)


def make_project(**changes: str) -> Project:
    """Returns the project with settings replaced; a double underscore stands for the dot."""
    return parse_project(PROJECT, {k.replace("__", "."): v for k, v in changes.items()})


@cache
def make(arm: str = "federated-dp", **changes: str) -> Setup:
    """Returns what the parties of `arm` agree on."""
    project = make_project(**changes)
    count = project.for_arm(arm).sites.count
    keys = [Ed25519PrivateKey.from_private_bytes(identity(k)) for k in range(count)]
    facts = PublicFacts(patients=PATIENTS * count, records=RECORDS * count, dimension=DIMENSION)
    return make_setup(project, arm, facts, [k.public_key().public_bytes_raw() for k in keys], 0)


def make_trainee(number: int = 0) -> Trainee:
    """Returns the records of a site: two classes, apart by the first feature."""
    generator = torch.Generator().manual_seed(number)
    inputs = torch.randn(RECORDS, FEATURES, generator=generator)
    return Trainee(
        model=Logistic((FEATURES,), 2),
        task=Classification(2),
        inputs=inputs,
        labels=(inputs[:, 0] > 0).long(),
        rows=tuple(np.array(rows) for rows in ([0, 1], [2, 3], [4], [5], [6])),
    )


class MemoryLedger:
    """A ledger that is durable for as long as a test runs."""

    def __init__(self, allowed: int = 1_000) -> None:
        self.allowed = allowed
        self.charges: list[Charge] = []

    def append(self, charge: Charge) -> Receipt:
        check_room(made=len(self.charges), allowed=self.allowed)
        self.charges.append(charge)
        return Receipt(charge=charge_digest(charge), sequence=len(self.charges))

    def last_round(self, terms: bytes) -> int:
        return max((made.round for made in self.charges if made.terms == terms), default=0)

    def count(self) -> int:
        return len(self.charges)


def nothing(_message: FromSite | FromCoordinator, _site: int) -> bool:
    """No message is lost."""
    return False


def number_of(message: FromSite | FromCoordinator) -> int:
    """Returns the round that a message belongs to; 0 for the others."""
    match message:
        case RoundStart(plan):
            return plan.round
        case Upload() | PlainUpdate() | Opening() | Survivors():
            return message.round
        case _:
            return 0


def losing(*losses: tuple[type[Message], int, int]) -> Lost:
    """Returns the rule that loses messages of this kind, of this round, of or to this site."""

    def lost(message: FromSite | FromCoordinator, site: int) -> bool:
        return (type(message), number_of(message), site) in losses

    return lost


def losing_all(*kinds: type[Message], until: int = 1_000) -> Lost:
    """Returns the rule that loses every message of these kinds in rounds before `until`."""
    return lambda message, _site: isinstance(message, kinds) and number_of(message) < until


@dataclass
class Play:
    """The parties of one training; `lost` says which messages never arrive at or from a site."""

    setup: Setup
    lost: Lost = nothing
    scores: Mapping[int, float] = field(default_factory=dict[int, float])  # accuracy by round
    progress: Progress | None = None
    state: coordinator.State = field(init=False)
    sites: list[site.State] = field(init=False)
    ledgers: list[MemoryLedger] = field(init=False)
    trainees: list[Trainee] = field(init=False)
    contributed: dict[tuple[int, int], site.Charging] = field(default_factory=dict)
    opened: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)  # round, survivors
    started: list[int] = field(default_factory=list[int])  # rounds
    saved: list[Progress] = field(default_factory=list)
    looks: list[tuple[int, Vector]] = field(default_factory=list)
    refused: list[ProtocolError | PrivacyError] = field(default_factory=list)
    heard: dict[int, list[bytes]] = field(default_factory=dict)  # bytes from each site
    told: dict[int, list[bytes]] = field(default_factory=dict)  # and to it
    uses: int = 0

    def __post_init__(self) -> None:
        agenda, count = self.setup.agenda, range(self.setup.sites)
        weights = np.zeros(self.setup.dimension, np.float32)
        first = begin(agenda, weights) if self.progress is None else self.progress
        self.state = coordinator.start(self.setup.for_coordinator(), first)
        self.sites = [site.Outside(self.setup.for_site(k, identity(k))) for k in count]
        self.ledgers = [MemoryLedger() for _ in count]
        self.trainees = [make_trainee(k) for k in count]

    def fresh(self) -> bytes:
        """Returns a secret that nobody had yet."""
        self.uses += 1
        return secret("fresh", self.uses)

    def run(self) -> coordinator.Finished:
        """Plays to the end."""
        said = self.introduce()
        for _ in range(MOST_TURNS):
            if isinstance(self.state, coordinator.Finished):
                return self.state
            said = self.turn(said)
        raise TimeoutError(f"no end after {MOST_TURNS} turns")

    def introduce(self) -> list[bytes]:
        """Every site says its first word."""
        return [
            word for k in range(len(self.sites)) for word in self.act(k, site.Start(self.fresh()))
        ]

    def turn(self, said: Sequence[bytes]) -> list[bytes]:
        """The coordinator hears `said`, or waits in vain; returns what the sites answer."""
        outbox = [out for word in said for out in self.hear(word)]
        if not outbox and not isinstance(self.state, coordinator.Finished):
            outbox = self.tell(coordinator.Deadline())
        return [answer for k, data in outbox for answer in self.deliver(k, data)]

    # -- The coordinator --------------------------------------------------------------

    def hear(self, data: bytes) -> list[tuple[int, bytes]]:
        """The coordinator reads a message, unless it is lost."""
        message = wire.decode(data, FROM_SITE, limit=1_000_000)
        if self.lost(message, message.site):
            return []
        self.heard.setdefault(message.site, []).append(data)
        try:
            return self.tell(coordinator.Received(message))
        except ProtocolError as error:
            self.refused.append(error)
            return []

    def tell(self, event: coordinator.Event) -> list[tuple[int, bytes]]:
        """The coordinator takes a step; returns what it says to whom."""
        before = self.state
        self.state, commands = coordinator.step(before, event)
        self._note_opened(before)
        outbox: list[tuple[int, bytes]] = []
        for command in commands:
            outbox += self._obey_coordinator(command)
        return outbox

    def _obey_coordinator(self, command: coordinator.Command) -> list[tuple[int, bytes]]:
        match command:
            case coordinator.Tell(sites, message):
                if isinstance(message, RoundStart):
                    self.started.append(message.plan.round)
                return [(k, wire.encode(message)) for k in sites]
            case coordinator.Look(number, weights):
                self.looks.append((number, weights))
                accuracy = self.scores.get(number, 0.5)
                seen = Validation(round=number, loss=1.0, auc=None, accuracy=accuracy)
                return self.tell(coordinator.Looked(seen))
            case coordinator.Save(progress):
                self.saved.append(progress)
                return []

    def _note_opened(self, before: coordinator.State) -> None:
        if self.state.progress.round == before.progress.round:
            return
        match before:
            case coordinator.Unmasking(sum=sums):
                self.opened.append((sums.closed.plan.round, sums.closed.survivors))
            case coordinator.Collecting(sum=PlainSum(members=members)):
                self.opened.append((before.progress.attempts, members))

    # -- A site -----------------------------------------------------------------------

    def deliver(self, number: int, data: bytes) -> list[bytes]:
        """A site reads a message, unless it is lost; returns its answers."""
        message = wire.decode(data, FROM_COORDINATOR, limit=1_000_000)
        if self.lost(message, number):
            return []
        self.told.setdefault(number, []).append(data)
        try:
            return self.act(number, site.Received(message, self.fresh(), encapsulate))
        except (ProtocolError, PrivacyError) as error:
            self.refused.append(error)
            return []

    def act(self, number: int, event: site.Event) -> list[bytes]:
        """A site takes a step, and the steps that follow from it; returns what it says."""
        self.sites[number], commands = site.step(self.sites[number], event)
        return [out for command in commands for out in self._obey_site(number, command)]

    def _obey_site(self, number: int, command: site.Command) -> list[bytes]:
        match command:
            case site.Tell(message):
                return [wire.encode(message)]
            case site.Expand():
                return []
            case site.Compute(assignment):
                vector = contribute(
                    self.trainees[number], self.setup.work, assignment, self.fresh()
                )
                return self.act(number, site.Computed(assignment.round, vector))
            case site.Pay(charge):
                state = self.sites[number]
                assert isinstance(state, site.Charging)
                self.contributed[charge.round, number] = state
                receipt = self.ledgers[number].append(charge)
                return self.act(number, site.Charged(charge.round, receipt, self.fresh()))
