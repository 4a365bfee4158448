# SPDX-License-Identifier: Apache-2.0
"""A site of two processes: the sum of one, all of it or nothing, and nobody left behind."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tests.adapters.conftest import make_project, same_seeds
from tests.adapters.test_federated import NAMES, THREE, Site, World

from consilium.adapters import site_session
from consilium.adapters.processes import recorded_source
from consilium.adapters.site_folder import SiteSettings
from consilium.adapters.site_session import check_processes
from consilium.adapters.site_team import SiteTeam, check_devices
from consilium.adapters.site_team_line import (
    Blueprint,
    Line,
    SharedRecords,
    drawn_in,
    make_answer,
    make_task,
    mapped,
    sum_in,
)
from consilium.adapters.stage import MODEL
from consilium.errors import ConfigError, RoundAborted
from consilium.federation.contribution import Trainee
from consilium.federation.results import RunResult
from consilium.learning.parameters import Vector, flatten

pytestmark = pytest.mark.timeout(300)  # a busy machine starts processes slowly

C = 0.05  # below some patients' norms and above others'
ATOL = 1e-8  # of sums whose largest coordinate is near 0.1


def blueprint(model: str, side: int) -> Blueprint:
    project = make_project({**THREE, "model.name": model}).resolved()
    return Blueprint(project=project, arm="federated-dp", shape=(1, side, side), classes=3, seed=4)


SMALL = blueprint("small-cnn", 8)


def make_trainee(plan: Blueprint) -> Trainee:
    """Returns 30 records of 12 patients, two or three each."""
    networks, rows = plan.networks(), np.arange(30)
    return Trainee(
        model=networks.trained,
        task=networks.task,
        inputs=torch.randn(30, *plan.shape, generator=torch.Generator().manual_seed(2)),
        labels=torch.arange(30) % plan.classes,
        rows=tuple(rows[rows % 12 == k] for k in range(12)),
    )


def team_of(plan: Blueprint) -> SiteTeam:
    return SiteTeam(make_trainee(plan), plan, processes=2, seconds=60.0)


@dataclass
class Sums:
    """The same sum by both ways."""

    weights: Vector
    drawn: tuple[NDArray[np.intp], ...]

    def by(self, way: Callable[[Vector, Sequence[NDArray[np.intp]], float], Vector]) -> Vector:
        return way(self.weights, self.drawn, C)


def asked(plan: Blueprint) -> Sums:
    one = make_trainee(plan)
    return Sums(flatten(one.model), tuple(one.rows[k] for k in (0, 2, 3, 5, 6, 8, 11)))


def members() -> list[psutil.Process]:
    """Returns the processes that this process's torchruns started."""
    return [one for torchrun in psutil.Process().children() for one in torchrun.children()]


def wait_until_gone(processes: Sequence[psutil.Process]) -> None:
    due = time.monotonic() + 20
    while alive := [one for one in processes if _runs(one)]:
        assert time.monotonic() < due, alive
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# -- Two real processes ---------------------------------------------------------------


@pytest.fixture
def team() -> Iterator[SiteTeam]:
    team = team_of(SMALL)
    yield team
    team.close()
    with pytest.raises(RoundAborted, match="session is closed"):
        asked(SMALL).by(team.clipped_sum)
    assert members() == []


def test_two_processes_give_the_sum_of_one_or_none(team: SiteTeam) -> None:
    sums = asked(SMALL)
    expected = sums.by(make_trainee(SMALL).clipped_sum)

    np.testing.assert_allclose(sums.by(team.clipped_sum), expected, rtol=1e-5, atol=ATOL)
    assert all(
        link.laddr[0] == "127.0.0.1"
        for one in psutil.Process().children(recursive=True)
        for link in one.net_connections("inet")
    )

    first = members()
    first[1].kill()
    with pytest.raises(RoundAborted, match=r"process \d (ended|does not listen .*); expected one"):
        sums.by(team.clipped_sum)
    wait_until_gone(first)

    np.testing.assert_allclose(sums.by(team.clipped_sum), expected, rtol=1e-5, atol=ATOL)

    second = members()
    second[0].suspend()
    team.seconds = 1.0
    with pytest.raises(RoundAborted, match="did not answer in 1 s"):
        sums.by(team.clipped_sum)
    wait_until_gone(second)


def add_up_for_ever(pipe: Connection) -> None:
    """What a site does that is to be killed: a sum by both ways, then sums without end."""
    torch.set_num_threads(1)
    plan = blueprint("squeezenet", 32)
    sums, team = asked(plan), team_of(plan)
    pipe.send((sums.by(team.clipped_sum), sums.by(make_trainee(plan).clipped_sum)))
    while True:
        sums.by(team.clipped_sum)


def test_nobody_outlives_a_site_that_is_killed_in_a_sum() -> None:
    spawn = get_context("spawn")
    here, there = spawn.Pipe()
    site = spawn.Process(target=add_up_for_ever, args=(there,))
    site.start()
    assert here.poll(100)
    by_two, by_one = here.recv()
    family = psutil.Process(site.pid).children(recursive=True)

    site.kill()
    site.join()

    wait_until_gone(family)
    assert len(family) == 3  # torchrun and two
    np.testing.assert_allclose(by_two, by_one, rtol=1e-5, atol=ATOL)


# -- In a federation ------------------------------------------------------------------

SMALL_CNN = {**THREE, "model.name": "small-cnn"}


def site(world: World, name: str, processes: int) -> Site:
    """Returns a site with recorded randomness."""
    source = recorded_source(same_seeds(3)[NAMES.index(name)]())
    made, folder = world.site(name, source), world.kit(name)
    folder.settle(msgspec.structs.replace(folder.settings(), processes=processes))
    return made


def conduct(folder: Path, processes: int) -> tuple[RunResult, Vector]:
    folder.mkdir()
    world = World(folder, project=SMALL_CNN)
    result = world.conduct([site(world, "a", processes), site(world, "b", 1), site(world, "c", 1)])
    trained = load_file(folder / "run-1" / MODEL)
    return result, np.concatenate([trained[name].ravel() for name in sorted(trained)])


def test_a_run_with_a_site_of_two_processes_is_the_run_with_one(tmp_path: Path) -> None:
    alone, by_one = conduct(tmp_path / "one", 1)
    together, by_two = conduct(tmp_path / "two", 2)

    np.testing.assert_allclose(by_two, by_one, rtol=1e-4, atol=1e-4)
    assert (together.rounds, together.statement) == (alone.rounds, alone.statement)
    assert [one.charges for one in together.sites] == [3, 3, 3]
    assert members() == []


@dataclass
class Broken:
    """Stands for a team that is lost in its second sum."""

    trainee: Trainee
    sums: int = 0

    def clipped_sum(
        self, weights: Vector, drawn: Sequence[NDArray[np.intp]], l2_clip_norm: float
    ) -> Vector:
        self.sums += 1
        if self.sums == 2:
            raise RoundAborted("process 1 ended")
        return self.trainee.clipped_sum(weights, drawn, l2_clip_norm)

    def wait_until_ready(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_a_site_whose_team_is_lost_fails_that_round_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_session, "SiteTeam", lambda trainee, *_, **__: Broken(trainee))
    world = World(tmp_path, project={**THREE, "training.rounds": "6"})

    result = world.conduct([site(world, "a", 2), site(world, "b", 1), site(world, "c", 1)])

    charged = world.rounds("a")
    assert result.rounds == 6
    assert world.rounds("b") == world.rounds("c") == [1, 2, 3, 4, 5, 6]
    assert charged[0] == 1
    assert 2 not in charged
    assert charged[-1] == 6


@dataclass
class Unlucky(Site):
    """A site whose team loses a process in the middle of the run."""

    heard: int = 0

    def handle(self, data: bytes) -> list[bytes]:
        self.heard += 1
        if self.heard == 6:
            members()[1].kill()
        return super().handle(data)


@pytest.mark.slow
def test_the_others_go_on_without_a_site_one_of_whose_processes_is_killed(tmp_path: Path) -> None:
    world = World(tmp_path, project={**SMALL_CNN, "training.rounds": "6"})
    unlucky = Unlucky("a", site(world, "a", 2).session)

    result = world.conduct([unlucky, site(world, "b", 1), site(world, "c", 1)])

    charged = world.rounds("a")
    assert result.rounds == 6
    assert world.rounds("b") == world.rounds("c") == [1, 2, 3, 4, 5, 6]
    assert charged[0] == 1
    assert charged == sorted(set(charged))
    assert len(charged) < 6
    assert members() == []


def test_several_processes_are_only_for_arms_with_a_clipped_sum(tmp_path: Path) -> None:
    world = World(tmp_path, "federated")

    with pytest.raises(ConfigError, match="arm federated trains locally; expected an arm with dp"):
        site(world, "a", 2).enrol()


@pytest.mark.parametrize("arm", ["federated-dp", "federated-local-dp"])
def test_the_private_arms_take_several_processes(arm: str) -> None:
    check_processes(SiteSettings(name="a", sites=NAMES, processes=8), arm)


# -- Devices, tasks, answers, memory ----------------------------------------------------


@pytest.mark.parametrize("processes", [0, -1])
def test_a_site_has_at_least_one_process(tmp_path: Path, processes: int) -> None:
    folder = World(tmp_path).kit("a")
    folder.settle(msgspec.structs.replace(folder.settings(), processes=processes))

    with pytest.raises(ConfigError, match=r"site\.json cannot be read"):
        folder.settings()


def test_each_process_has_a_gpu_where_there_are_gpus() -> None:
    check_devices(2, ["H200", "H200", "T4"])
    check_devices(8, [])
    check_devices(1, ["H200", "T4"])
    with pytest.raises(ConfigError, match=r"3 processes, 2 GPUs; .*--processes 2"):
        check_devices(3, ["H200", "H200"])
    with pytest.raises(ConfigError, match=r"different kinds \(H200, T4\)"):
        check_devices(2, ["H200", "T4"])


def test_several_processes_need_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")

    with pytest.raises(ConfigError, match="2 processes on darwin"):
        check_devices(2, [])


@pytest.mark.parametrize("counts", [[], [1], [3, 1, 2]])
def test_a_task_says_whose_records_are_whose(counts: list[int]) -> None:
    ends = np.cumsum([0, *counts])
    drawn = [np.arange(ends[k], ends[k + 1]) for k in range(len(counts))]

    found = drawn_in(make_task(np.zeros(2, np.float32), drawn, C))

    assert [rows.tolist() for rows in found] == [rows.tolist() for rows in drawn]


def test_a_task_does_not_show_who_was_drawn() -> None:
    assert repr(make_task(np.zeros(2, np.float32), [np.array([7])], C)) == "Task()"


@pytest.mark.parametrize("wrong", [np.zeros(2), np.ones(3)])
def test_a_sum_that_not_all_processes_hold_is_refused(wrong: Vector) -> None:
    total = np.arange(3, dtype=np.float32)
    assert sum_in([make_answer(k, total) for k in range(3)], 3).tolist() == [0, 1, 2]

    with pytest.raises(RoundAborted, match="different sums"):
        sum_in([make_answer(0, total), make_answer(1, wrong.astype(np.float32))], 3)
    with pytest.raises(RoundAborted, match="of another model"):
        sum_in([make_answer(0, total)], 4)


def test_records_are_shared_and_what_another_process_writes_is_its_own() -> None:
    records = SharedRecords(torch.randn(3, 1, 5, 5), torch.tensor([1, 0, 2]))
    inputs, labels = mapped(records.descriptor, records.stored)
    records.close()

    assert torch.equal(inputs, records.inputs)
    assert torch.equal(labels, records.labels)
    records.inputs[0] = 7.0
    labels[0] = 9
    assert inputs[0].eq(7.0).all()
    assert records.labels[0] == 1


def test_a_session_that_ends_while_its_team_begins_waits_for_nobody() -> None:
    team = team_of(SMALL)
    starting = threading.Thread(target=ready_or_refused, args=(team,))
    starting.start()

    team.close()

    starting.join(20)
    assert not starting.is_alive()
    assert members() == []


def ready_or_refused(team: SiteTeam) -> None:
    with pytest.raises(RoundAborted, match=r"the session ended|session is closed|ended with"):
        team.wait_until_ready()


def test_a_line_says_when_the_other_end_is_gone() -> None:
    here, there = (Line(end) for end in socket.socketpair())
    here.say(b"one")
    assert there.hear() == b"one"

    here.close()

    assert there.hear() is None
    there.close()
