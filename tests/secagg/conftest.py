# SPDX-License-Identifier: Apache-2.0
"""All parties of a secure sum in one process, one step at a time, with fixed secrets."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from tests.secagg import fips203

from consilium import wire
from consilium.secagg.coordinator import (
    CloseCiphertexts,
    CloseRoster,
    CloseUploads,
    CoordinatorEvent,
    CoordinatorState,
    Finish,
    Gathering,
    Outcome,
    StartRound,
    Total,
    coordinator_step,
)
from consilium.secagg.job import SumJob, Vector
from consilium.secagg.masks import Mask
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
from consilium.secagg.site import (
    Begin,
    Contribute,
    Encapsulate,
    Invited,
    Joined,
    Open,
    Prepare,
    SiteEvent,
    SiteState,
    site_step,
)

MODEL = wire.digest("test model")

few = settings(deadline=None, max_examples=30, derandomize=True)  # runs whole sums


def secret(*parts: wire.Part) -> bytes:
    """Returns 32 fixed bytes for this use."""
    return wire.digest("test secret", *parts)


def make_identities(count: int) -> list[bytes]:
    """Returns the Ed25519 private keys of `count` sites."""
    return [secret("identity", site) for site in range(count)]


def make_job(
    sites: int, threshold: int, colluders: int, *, length: int = 7, bits: int = 16, drops: int = -1
) -> SumJob:
    """Returns a job among fixed identities; it tolerates as many drops as it can.

    The post-quantum one is `dataclasses.replace(job, post_quantum=True)`.
    """
    privates = [Ed25519PrivateKey.from_private_bytes(key) for key in make_identities(sites)]
    return SumJob(
        name="test",
        identities=tuple(key.public_key().public_bytes_raw() for key in privates),
        threshold=threshold,
        colluders=colluders,
        tolerated_drops=sites - threshold if drops < 0 else drops,
        length=length,
        bits=bits,
        terms=wire.digest("test terms"),
    )


def make_vectors(job: SumJob, seed: int = 0) -> list[Vector]:
    """Returns one uniform vector a site."""
    shape = (len(job.identities), job.length)
    words = np.random.default_rng(seed).integers(0, 2 ** (8 * job.word.itemsize), shape)
    return list(words.astype(job.word))


def plain_sum(job: SumJob, vectors: Sequence[Vector], sites: Collection[int]) -> list[int]:
    """Returns the sum modulo the word's size, entry by entry: the slow oracle."""
    modulus = 2 ** (8 * job.word.itemsize)
    return [sum(int(vectors[s][k]) for s in sites) % modulus for k in range(job.length)]


@dataclass
class Play:
    """The parties of `job`; each method makes one party take one step, or all of them."""

    job: SumJob
    absent: Collection[int] = ()  # sites that never say hello
    quiet: Collection[int] = ()  # sites that stop before their ciphertexts
    sites: list[SiteState] = field(init=False)
    coordinator: CoordinatorState = field(init=False)
    hellos: list[Hello] = field(default_factory=list[Hello])

    def __post_init__(self) -> None:
        self.coordinator = Gathering(job=self.job)
        self.sites = [
            Invited(job=self.job, site=site, identity=identity)
            for site, identity in enumerate(make_identities(len(self.job.identities)))
        ]

    def site(self, number: int, event: SiteEvent) -> FromSite:
        """Makes a site take a step that sends one message."""
        self.sites[number], (message,) = site_step(self.sites[number], event)
        return message

    def tell(self, event: CoordinatorEvent) -> tuple[Outcome, ...]:
        """Makes the coordinator take a step."""
        self.coordinator, sent = coordinator_step(self.coordinator, event)
        return sent

    def introduce(self) -> Roster:
        """Every site that is not absent says hello; returns the roster."""
        for number in self._present():
            hello = self.site(number, Begin(secret("begin", number)))
            assert isinstance(hello, Hello)
            self.hellos.append(hello)
            self.tell(hello)
        (roster,) = self.tell(CloseRoster())
        assert isinstance(roster, Roster)
        return roster

    def join(self) -> "Play":
        """Every site joins the session."""
        roster = self.introduce()
        last = self.agree(roster) if self.job.post_quantum else roster
        for number in sorted(set(self._present()) - set(self.quiet)):
            self.sites[number], _ = site_step(self.sites[number], last)
        return self

    def encapsulate(self, number: int, roster: Roster) -> Ciphertexts:
        """A site draws secrets for the higher ones; the coordinator is not told."""
        said = self.site(number, Encapsulate(roster, fips203.replayed(number)))
        assert isinstance(said, Ciphertexts)
        return said

    def agree(self, roster: Roster) -> CiphertextTable:
        """Every site that is not quiet sends its ciphertexts; returns the table."""
        for number in sorted(set(self._present()) - set(self.quiet)):
            self.tell(self.encapsulate(number, roster))
        (table,) = self.tell(CloseCiphertexts())
        assert isinstance(table, CiphertextTable)
        return table

    def _present(self) -> list[int]:
        return sorted(set(range(len(self.sites))) - set(self.absent))

    def prekeys(self, site: int, number: int = 1) -> Prekeys:
        """A site prepares a round; the coordinator is not told."""
        event = Prepare(round=number, secret=secret("prepare", site, number))
        message = self.site(site, event)
        assert isinstance(message, Prekeys)
        return message

    def prepare(self, number: int = 1, *, absent: Collection[int] = ()) -> "Play":
        """Every site but the absent ones prepares a round."""
        for site in sorted(set(range(len(self.sites))) - set(absent)):
            self.tell(self.prekeys(site, number))
        return self

    def plan(self, number: int = 1) -> Plan:
        """The coordinator starts a round."""
        (plan,) = self.tell(StartRound(round=number, model=MODEL))
        assert isinstance(plan, Plan)
        return plan

    def upload(
        self,
        site: int,
        plan: Plan,
        vector: Vector,
        *,
        ahead: bool = False,
        mask: Mask | None = None,
    ) -> Upload:
        """A site contributes; the coordinator is not told."""
        following = secret("next", site, plan.round) if ahead else None
        event = Contribute(plan=plan, vector=vector, next_secret=following, mask=mask)
        message = self.site(site, event)
        assert isinstance(message, Upload)
        return message

    def collect(self, plan: Plan, vectors: Sequence[Vector], *, lost: Collection[int] = ()) -> None:
        """Every member but the lost ones contributes."""
        for site in sorted(set(plan.members) - set(lost)):
            self.tell(self.upload(site, plan, vectors[site]))

    def survivors(self) -> Survivors:
        """The coordinator closes the uploads."""
        (survivors,) = self.tell(CloseUploads())
        assert isinstance(survivors, Survivors)
        return survivors

    def opening(self, site: int, survivors: Survivors) -> Opening:
        """A site opens; the coordinator is not told."""
        message = self.site(site, Open(survivors=survivors, secret=secret("open", site)))
        assert isinstance(message, Opening)
        return message

    def open(self, survivors: Survivors, *, silent: Collection[int] = ()) -> None:
        """Every survivor but the silent ones opens."""
        for site in sorted(set(survivors.sites) - set(silent)):
            self.tell(self.opening(site, survivors))

    def finish(self) -> Total:
        """The coordinator unmasks the sum."""
        (total,) = self.tell(Finish())
        assert isinstance(total, Total)
        return total

    def round(
        self,
        vectors: Sequence[Vector],
        number: int = 1,
        *,
        lost: Collection[int] = (),
        silent: Collection[int] = (),
    ) -> Total:
        """Plays a round for which the sites are prepared."""
        self.collect(self.plan(number), vectors, lost=lost)
        self.open(self.survivors(), silent=silent)
        return self.finish()


def joined(play: Play, site: int) -> Joined:
    """Returns the state of a site between rounds."""
    state = play.sites[site]
    assert isinstance(state, Joined)
    return state
