# SPDX-License-Identifier: Apache-2.0
"""Sites that answer when they like: late, never, or in another order; and a run that is stopped."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.adapters.conftest import Mortal, Parties, gather, make_project

from consilium.adapters.concurrent import run_concurrent
from consilium.adapters.dataset import Dataset
from consilium.adapters.embedded import Site, run_embedded
from consilium.adapters.site_runner import SiteParts, SiteRunner
from consilium.errors import RoundAborted
from consilium.federation.coordinator import Finished

PATIENT = 60.0  # seconds; longer than any test
ROUNDS = {"training.rounds": "3"}


def never() -> bool:
    """Nobody stops the run."""
    return False


def play(parties: Parties, sites: list[Site], seconds: float = PATIENT) -> Finished:
    """Runs everything."""
    return run_concurrent(parties.coordinator, sites, quorum_seconds=seconds, stopped=never)


@dataclass
class Sleeper:
    """A site that falls asleep before some message, until it is woken."""

    site: Site
    messages: int
    woken: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[bytes]:
        return self._after_a_nap(self.site.start)

    def handle(self, data: bytes) -> list[bytes]:
        return self._after_a_nap(lambda: self.site.handle(data))

    def _after_a_nap(self, answer: Callable[[], list[bytes]]) -> list[bytes]:
        self.messages -= 1
        if self.messages == -1:
            self.woken.wait(PATIENT)
        return answer()


# -- The same as on one machine -------------------------------------------------------


@pytest.mark.parametrize("arm", ["federated-dp", "federated-local-dp", "federated", "central-dp"])
def test_the_model_is_that_of_one_machine(digits: Dataset, arm: str) -> None:
    one, many = (gather(make_project(ROUNDS), arm, digits) for _ in range(2))

    run_embedded(one.coordinator, one.sites, threads=1)
    play(many, list(many.sites))

    assert one.saved[-1].weights.tobytes() == many.saved[-1].weights.tobytes()
    assert one.coordinator.traffic() == many.coordinator.traffic()


# -- Sites that are lost --------------------------------------------------------------


@pytest.mark.parametrize("messages", range(9))
def test_one_lost_site_is_tolerated_at_any_moment(digits: Dataset, messages: int) -> None:
    parties = gather(make_project(ROUNDS), "federated", digits)

    finished = play(parties, [Mortal(parties.sites[0], messages), *parties.sites[1:]])

    assert (finished.reason, finished.progress.round) == ("all rounds are done", 3)
    assert [ledger.count() for ledger in parties.ledgers[1:]] == [finished.progress.attempts] * 3


def test_too_many_lost_sites_end_the_run(digits: Dataset) -> None:
    parties = gather(make_project(), "federated", digits)
    lost = [Mortal(site, 4) for site in parties.sites[:2]]

    with pytest.raises(RoundAborted, match=r"too few sites still answer; expected .* then resume"):
        play(parties, [*lost, *parties.sites[2:]])


def test_a_site_that_cannot_start_is_left_out(digits: Dataset) -> None:
    parties = gather(make_project(ROUNDS), "federated", digits)

    finished = play(parties, [Stillborn(), *parties.sites[1:]])

    assert finished.progress.round == 3
    assert [ledger.count() for ledger in parties.ledgers] == [0, 3, 3, 3]


class Stillborn:
    """A site that refuses from the first."""

    def start(self) -> list[bytes]:
        raise RoundAborted("no such disk")

    def handle(self, data: bytes) -> list[bytes]:
        raise AssertionError(data)


# -- Sites that sleep -----------------------------------------------------------------


@pytest.mark.parametrize("messages", range(1, 8))
def test_a_sleeping_site_does_not_hold_up_the_run(digits: Dataset, messages: int) -> None:
    parties = gather(make_project(ROUNDS), "federated", digits)
    sleeper = Sleeper(parties.sites[0], messages)

    finished = play(parties, [sleeper, *parties.sites[1:]], seconds=0.3)
    sleeper.woken.set()

    assert (finished.reason, finished.progress.round) == ("all rounds are done", 3)
    assert [ledger.count() for ledger in parties.ledgers[1:]] == [finished.progress.attempts] * 3


def test_a_late_site_costs_one_time_out_and_not_one_a_round(digits: Dataset) -> None:
    parties = gather(make_project({"training.rounds": "20"}), "federated", digits)
    sleeper = Sleeper(parties.sites[0], 3)
    began = time.monotonic()

    finished = play(parties, [sleeper, *parties.sites[1:]], seconds=2.0)
    sleeper.woken.set()

    assert finished.progress.round == 20
    assert time.monotonic() - began < 20.0  # one a round would take 40


def test_a_site_that_wakes_up_takes_part_again(digits: Dataset) -> None:
    parties = gather(make_project({"training.rounds": "60"}), "federated", digits)
    sleeper = Sleeper(parties.sites[0], 3)

    def wake_after_three_rounds() -> bool:
        if len(parties.reports) >= 3:
            sleeper.woken.set()
        return False

    finished = run_concurrent(
        parties.coordinator,
        [sleeper, *parties.sites[1:]],
        quorum_seconds=0.3,
        stopped=wake_after_three_rounds,
    )

    rounds = [charge.round for charge in parties.ledgers[0].charges]
    assert finished.progress.round == 60
    assert rounds[-1] == finished.progress.attempts
    assert len(set(rounds)) == len(rounds) < finished.progress.attempts


# -- Runs that are stopped ------------------------------------------------------------


def test_a_run_can_be_stopped(digits: Dataset) -> None:
    parties = gather(make_project(), "federated", digits)
    sites: list[Site] = [Sleeper(parties.sites[0], 2), *parties.sites[1:]]

    with pytest.raises(RoundAborted, match="the run was stopped; whole rounds are kept"):
        run_concurrent(
            parties.coordinator,
            sites,
            quorum_seconds=PATIENT,
            stopped=lambda: bool(parties.saved),
        )


# -- Sites that come too late ---------------------------------------------------------


@dataclass
class Anew:
    """A site that begins a session at each start; after some messages it calls somebody."""

    parts: SiteParts
    messages: int = 10**6
    call: Callable[[], None] = lambda: None

    def start(self) -> list[bytes]:
        self.runner = SiteRunner(self.parts)
        return self.runner.start()

    def handle(self, data: bytes) -> list[bytes]:
        self.messages -= 1
        if self.messages == 0:
            self.call()
        return self.runner.handle(data)


def test_a_site_that_starts_too_late_takes_part_in_the_next_session(digits: Dataset) -> None:
    parties = gather(make_project({"training.rounds": "12"}), "federated", digits)
    late = Sleeper(Anew(parties.parts[0]), 0)
    others: list[Site] = [
        Anew(parties.parts[1], messages=12, call=late.woken.set),
        Anew(parties.parts[2]),
        Anew(parties.parts[3]),
    ]

    finished = play(parties, [late, *others], seconds=0.5)

    assert (finished.reason, finished.progress.round) == ("all rounds are done", 12)
    assert parties.coordinator.sessions == 2
    assert parties.ledgers[0].charges[-1].round == 12
    assert 0 < parties.ledgers[0].count() < 12
    assert [ledger.count() for ledger in parties.ledgers[1:]] == [12] * 3
