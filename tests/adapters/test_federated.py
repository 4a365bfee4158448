# SPDX-License-Identifier: Apache-2.0
"""Real sites without a network: each reads its own folder, all agree, and a run goes on."""

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.adapters.conftest import made_up_arrays, make_project, make_run, same_seeds

from consilium import wire
from consilium.adapters.dataset import Dataset
from consilium.adapters.federated import Conditions, Line, conduct
from consilium.adapters.holding import hold
from consilium.adapters.processes import recorded_source
from consilium.adapters.randomness import Source, operating_system
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.adapters.site_session import SiteSession, make_call
from consilium.adapters.stage import MODEL, NobodyWatches
from consilium.adapters.training import train_arm
from consilium.errors import (
    AccessDenied,
    ConfigError,
    DataError,
    NotJoined,
    RemoteProtocolError,
    RoundAborted,
)
from consilium.federation.enrolment import ENROLMENT, ROLL, Call, Roll, roster_fingerprint
from consilium.federation.results import RunResult

NAMES = ("a", "b", "c")
THREE = {"sites.count": "3", "sites.colluders": "0", "training.rounds": "3"}
DEMONSTRATION = SiteSettings(
    name="a",
    sites=NAMES,
    holds="its-part-of-a-shared-source",
    approves="every-project-and-the-researcher-decides",
    trusts="the-first-roster-that-the-coordinator-shows",
)


@dataclass
class Site:
    """One site on this machine; lost for good after some messages, if it is to be."""

    name: str
    session: SiteSession
    messages: int = 10**6

    def enrol(self) -> list[bytes]:
        self._count()
        return self.session.enrol()

    def standing(self) -> list[bytes]:
        self._count()
        return self.session.enrol()[1:]

    def join(self, roll: bytes) -> list[bytes]:
        self._count()
        return self.session.join(roll)

    def handle(self, data: bytes) -> list[bytes]:
        self._count()
        return self.session.handle(data)

    def _count(self) -> None:
        self.messages -= 1
        if self.messages < 0:
            raise RemoteProtocolError(f"site {self.name} is away")


@dataclass
class Reborn:
    """One site that loses its process after some messages; at once there is a new one."""

    world: "World"
    name: str
    messages: int
    lives: int = 0

    def __post_init__(self) -> None:
        self._live(self.messages)

    def enrol(self) -> list[bytes]:
        return self.now.enrol()

    def standing(self) -> list[bytes]:
        return self.now.standing()

    def join(self, roll: bytes) -> list[bytes]:
        return self.now.join(roll)

    def handle(self, data: bytes) -> list[bytes]:
        try:
            return self.now.handle(data)
        except RemoteProtocolError:
            if self.lives > 1:
                raise
            self.now.session.close()
            self._live(10**6)
            return self.now.handle(data)

    def _live(self, messages: int) -> None:
        self.now, self.lives = self.world.site(self.name, messages=messages), self.lives + 1


@dataclass
class World:
    """A federation of three sites in one folder."""

    folder: Path
    arm: str = "federated-dp"
    settings: SiteSettings = DEMONSTRATION
    project: dict[str, str] = field(default_factory=lambda: dict(THREE))
    data_folder: Path | None = None
    sessions: list[SiteSession] = field(default_factory=list[SiteSession])

    def call(self, run: str = "run-1") -> Call:
        return make_call(make_project(self.project).resolved(), self.arm, 0, run)

    def kit(self, name: str) -> SiteFolder:
        kit = self.folder / name
        kit.mkdir(exist_ok=True)
        folder = SiteFolder(kit)
        folder.settle(msgspec.structs.replace(self.settings, name=name))
        return folder

    def site(self, name: str, source: Source = operating_system, messages: int = 10**6) -> Site:
        self.kit(name)
        session = SiteSession(self.folder / name, self.call(), source)
        self.sessions.append(session)
        return Site(name, session, messages)

    def sites(self) -> list[Site]:
        return [self.site(name) for name in NAMES]

    def conduct(self, lines: Sequence[Line], seconds: float = 60.0) -> RunResult:
        run = replace(
            make_run(self.folder / "run-1", self.arm, self.project), data_folder=self.data_folder
        )
        conditions = Conditions(
            quorum_seconds=seconds, stopped=lambda: False, observer=NobodyWatches()
        )
        try:
            return conduct(self.call(), run, lines, conditions)
        finally:
            for session in self.sessions:
                session.close()

    def rounds(self, name: str) -> list[int]:
        lines = SiteFolder(self.folder / name).ledger("run-1").read_text().splitlines()
        return [json.loads(line)["round"] for line in lines]


# -- The same as on one machine -------------------------------------------------------


@pytest.mark.parametrize("arm", ["federated-dp", "federated"])
def test_the_model_and_the_price_are_those_of_one_machine(
    tmp_path: Path, digits: Dataset, arm: str
) -> None:
    world = World(tmp_path, arm)
    sources = [recorded_source(seed()) for seed in same_seeds(3)]

    many = world.conduct([world.site(*pair) for pair in zip(NAMES, sources, strict=True)])
    run = make_run(tmp_path / "one", arm, THREE)
    one = train_arm(run, digits, NobodyWatches(), same_seeds(3))

    assert (tmp_path / "run-1" / MODEL).read_bytes() == (run.folder / MODEL).read_bytes()
    assert (many.statement, many.curve, many.test) == (one.statement, one.curve, one.test)
    assert many.traffic == one.traffic
    assert [world.rounds(name) for name in NAMES] == [[1, 2, 3]] * 3


def test_the_report_says_what_sites_hold_but_not_of_which_class(tmp_path: Path) -> None:
    world = World(tmp_path)

    result = world.conduct(world.sites())

    assert [(s.name, s.patients, s.records, s.class_counts, s.charges) for s in result.sites] == [
        (name, patients, patients, (), 3)
        for name, patients in zip(NAMES, (360, 359, 359), strict=True)
    ]


def test_sites_with_archives_of_their_own_train_one_model(tmp_path: Path) -> None:
    own = msgspec.structs.replace(DEMONSTRATION, holds="its-own-records", data_folder=str(tmp_path))
    changes = {"data.source": "own.npz", "dp.delta": "1e-3", "dp.expected_batch": "20"}
    world = World(tmp_path, settings=own, project={**THREE, **changes}, data_folder=tmp_path)
    np.savez(tmp_path / "own.npz", allow_pickle=False, **made_up_arrays())

    result = world.conduct(world.sites())

    assert [site.records for site in result.sites] == [40, 40, 40]
    assert result.rounds == 3


# -- Sites that are away --------------------------------------------------------------


@pytest.mark.parametrize("messages", range(2, 9))
def test_a_site_that_dies_is_tolerated_and_pays_each_round_once(
    tmp_path: Path, messages: int
) -> None:
    world = World(tmp_path, "federated")
    lines = [world.site("a"), world.site("b"), world.site("c", messages=messages)]

    result = world.conduct(lines)

    assert result.reason == "all rounds are done"
    assert world.rounds("a") == world.rounds("b") == list(range(1, result.attempts + 1))


@pytest.mark.parametrize("arm", ["federated-dp", "federated"])
@pytest.mark.parametrize("messages", range(2, 11))
def test_a_site_that_comes_back_takes_part_in_the_same_run(
    tmp_path: Path, messages: int, arm: str
) -> None:
    world = World(tmp_path, arm, project={**THREE, "training.rounds": "6"})
    third = Reborn(world, "c", messages)

    result = world.conduct([world.site("a"), world.site("b"), third])

    charged = world.rounds("c")
    assert third.lives == 2
    assert result.attempts == charged[-1]  # it takes part in the last round
    assert charged == sorted(set(charged))
    assert len(charged) >= result.attempts - 2
    assert world.rounds("a") == world.rounds("b") == list(range(1, result.attempts + 1))
    assert result.sites[2].charges == len(charged)


def test_a_run_goes_on_with_a_site_that_came_back(tmp_path: Path) -> None:
    world = World(tmp_path)
    dying = [world.site("a"), world.site("b", messages=5), world.site("c", messages=5)]
    with pytest.raises(RoundAborted, match="too few sites still answer"):
        world.conduct(dying)

    result = world.conduct(world.sites())

    assert (result.rounds, result.attempts) == (1, 3)  # the budget pays for three
    assert [world.rounds(name) for name in NAMES] == [[1, 2, 3], [1, 3], [1, 3]]


def test_a_run_goes_on_without_a_site_that_stays_away(tmp_path: Path) -> None:
    world = World(tmp_path)
    dying = [world.site("a"), world.site("b", messages=5), world.site("c", messages=5)]
    with pytest.raises(RoundAborted):
        world.conduct(dying)

    result = world.conduct([world.site("a"), world.site("b")])

    assert (result.rounds, result.attempts) == (1, 3)
    assert [world.rounds(name) for name in NAMES] == [[1, 2, 3], [1, 3], [1]]
    assert [site.charges for site in result.sites] == [3, 2, 3]  # of who is away, the most


def test_nobody_trains_before_all_have_enrolled(tmp_path: Path) -> None:
    world = World(tmp_path)

    with pytest.raises(RoundAborted, match=r"2 sites enrolled \(a, b\); expected 3"):
        world.conduct([world.site("a"), world.site("b"), world.site("c", messages=0)])


def test_two_coordinators_do_not_conduct_one_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    (tmp_path / "run-1").mkdir()

    with (
        hold(tmp_path / "run-1", "run"),
        pytest.raises(ConfigError, match=r"run run-1 is in use by another process; expected one"),
    ):
        world.conduct(world.sites())

    assert world.conduct(world.sites()).rounds == 3


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = world.conduct(world.sites())

    assert world.conduct([]) == first


# -- Consents -------------------------------------------------------------------------


def careful(tmp_path: Path, **changes: str) -> World:
    """Returns a world whose stewards decide."""
    return World(tmp_path, settings=msgspec.structs.replace(DEMONSTRATION, **changes))


def test_a_project_that_was_not_approved_is_refused_with_the_difference(tmp_path: Path) -> None:
    world = careful(tmp_path, approves="listed-projects")
    site = world.site("a")
    world.kit("a").approve(make_project({**THREE, "dp.noise_multiplier": "2.0"}))

    with pytest.raises(AccessDenied, match=r"was not approved[\s\S]*-noise_multiplier = 2.0") as no:
        site.enrol()

    assert "+noise_multiplier = 1.0" in str(no.value)


def test_an_approved_project_is_run(tmp_path: Path) -> None:
    world = careful(tmp_path, approves="listed-projects")
    site = world.site("a")
    world.kit("a").approve(make_project(THREE))

    assert len(site.enrol()) == 2


def test_a_roster_is_refused_until_the_stewards_compared_it(tmp_path: Path) -> None:
    world = careful(tmp_path, trusts="compared-rosters")
    with pytest.raises(RoundAborted):
        world.conduct(world.sites())

    for name in NAMES:
        with pytest.raises(ConfigError, match="was never shown"):
            world.kit(name).trust("0000 0000")
        offered = world.kit(name).offered()
        assert offered is not None
        world.kit(name).trust(roster_fingerprint(offered))

    assert world.conduct(world.sites()).rounds == 3


def test_a_roster_that_changed_is_refused_even_by_the_trustful(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.conduct(world.sites())
    (tmp_path / "c" / "consilium" / "identity.key").unlink()
    (tmp_path / "run-1" / "roll.bin").unlink()
    (tmp_path / "run-1" / "result.json").unlink()

    with pytest.raises(RoundAborted, match="too few sites"):
        world.conduct(world.sites())


def test_a_coordinator_cannot_change_what_a_site_said(tmp_path: Path) -> None:
    world = World(tmp_path)
    sites = world.sites()
    said = [wire.decode(site.enrol()[0], ENROLMENT, limit=10**6) for site in sites]
    inflated = msgspec.structs.replace(said[1], patients=10**6)

    with pytest.raises(RemoteProtocolError, match="site b is not signed by its identity"):
        sites[0].join(wire.encode(Roll((said[0], inflated, said[2]))))


def test_a_coordinator_cannot_replace_a_site(tmp_path: Path) -> None:
    world = World(tmp_path)
    sites = world.sites()
    said = [wire.decode(site.enrol()[0], ENROLMENT, limit=10**6) for site in sites]
    (tmp_path / "b" / "consilium" / "identity.key").unlink()
    other = wire.decode(world.site("b").enrol()[0], ENROLMENT, limit=10**6)

    with pytest.raises(RemoteProtocolError, match="does not hold this site's enrolment"):
        sites[1].join(wire.encode(Roll((said[0], other, said[2]))))


# -- The folder -----------------------------------------------------------------------


def test_a_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = world.kit("a").identity()

    again = world.kit("a")

    assert again.identity() == first
    assert stat.S_IMODE((again.path / "identity.key").stat().st_mode) == 0o600


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    folder = World(tmp_path).kit("a")
    (folder.path / "identity.key").chmod(0o644)

    with pytest.raises(DataError, match=r"mode 644 .*; expected 600"):
        folder.identity()


def test_a_kit_that_was_not_joined_says_how(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="consilium site join KIT"):
        SiteFolder(tmp_path).settings()


# -- Turns ----------------------------------------------------------------------------


def test_nothing_is_said_before_the_roll(tmp_path: Path) -> None:
    with pytest.raises(NotJoined, match="before the roll"):
        World(tmp_path).site("a").handle(b"x")


def test_a_second_roll_begins_a_session_that_answers_no_round_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.conduct(sites := world.sites())
    roll = (tmp_path / "run-1" / "roll.bin").read_bytes()

    first, second = sites[0].join(roll), sites[0].join(roll)
    sites[0].session.close()

    assert first != second  # other keys
    assert world.rounds("a") == [1, 2, 3]
    assert len(wire.decode(roll, ROLL, limit=10**6).enrolments) == 3


@pytest.mark.parametrize("run", ["", "../up", "A", "a/b", "-x", "a" * 81])
def test_a_run_has_a_plain_name(run: str) -> None:
    with pytest.raises(ConfigError, match="expected lower-case"):
        make_call(make_project(THREE).resolved(), "federated-dp", 0, run)


def test_central_arms_are_not_for_a_federation() -> None:
    with pytest.raises(ConfigError, match="all records in one place"):
        make_call(make_project(THREE).resolved(), "central", 0, "run-1")


def test_the_project_must_be_for_these_sites(tmp_path: Path) -> None:
    world = World(tmp_path, project={**THREE, "sites.count": "4"})

    with pytest.raises(ConfigError, match=r"--set sites\.count=3"):
        world.site("a").enrol()
