# SPDX-License-Identifier: Apache-2.0
"""Sites as processes: the same bytes as in one process, sites that die, and nothing left behind."""

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from time import sleep

import msgspec
import psutil
import pytest
from tests.adapters.conftest import (
    At,
    Note,
    interrupt,
    make_project,
    make_run,
    same_seeds,
    site_processes,
)

from consilium.adapters import training
from consilium.adapters.dataset import Dataset
from consilium.adapters.ledger_file import count_charges
from consilium.adapters.processes import (
    Launch,
    ProcessSite,
    launched,
    read_frame,
    recorded_source,
    serve,
    write_frame,
)
from consilium.adapters.stage import MODEL, NobodyWatches, Run
from consilium.adapters.training import train_arm
from consilium.errors import ConsiliumError, RemoteProtocolError, RoundAborted
from consilium.federation.results import RunResult

NOBODY = NobodyWatches()
THREE = {"sites.count": "3", "sites.colluders": "0", "training.rounds": "3"}


def in_processes(folder: Path, arm: str, changes: dict[str, str]) -> Run:
    """Returns a run whose sites are processes."""
    return replace(make_run(folder, arm, changes), processes=True)


def charges(run: Run) -> list[int]:
    """Returns the charges in the ledger of each site."""
    return [count_charges(path) for path in sorted((run.folder / "ledger").iterdir())]


# -- The same bytes -------------------------------------------------------------------


class InThread:
    """Stands for a process: the same pipes, the same site, and no second to start."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        (source, to_site), (from_site, sink) = os.pipe(), os.pipe()
        self.stdin, self.stdout = os.fdopen(to_site, "wb"), os.fdopen(from_site, "rb")
        self._thread = threading.Thread(target=_serve, args=(source, sink))
        self._thread.start()

    def wait(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)


def _serve(source: int, sink: int) -> None:
    with os.fdopen(source, "rb") as reader, os.fdopen(sink, "wb") as writer:
        serve(reader, writer)


@pytest.fixture(
    scope="module", params=[InThread, pytest.param(subprocess.Popen, marks=pytest.mark.slow)]
)
def twins(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, digits: Dataset
) -> list[tuple[Run, RunResult]]:
    """One private run without and one with processes, with the same recorded randomness."""
    folder = tmp_path_factory.mktemp("twins")
    run = make_run(folder / "one", "federated-dp", THREE)
    runs = [run, replace(run, folder=folder / "many", processes=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", request.param)
        return [(one, train_arm(one, digits, NOBODY, same_seeds(3))) for one in runs]


Twins = list[tuple[Run, RunResult]]


def test_processes_give_the_same_model(twins: Twins) -> None:
    (one, _), (many, _) = twins

    assert (one.folder / MODEL).read_bytes() == (many.folder / MODEL).read_bytes()


def test_processes_say_the_same_bytes(twins: Twins) -> None:
    (_, one), (_, many) = twins

    assert one.traffic == many.traffic
    assert one.sites == many.sites


def test_processes_price_the_same(twins: Twins) -> None:
    (one_run, one), (many_run, many) = twins

    assert one.statement == many.statement
    assert one.curve == many.curve
    assert charges(one_run) == charges(many_run) == [3, 3, 3]


def test_nothing_runs_after_a_run(twins: Twins) -> None:
    assert len(twins) == 2
    assert site_processes() == []


# -- Sites that die -------------------------------------------------------------------


def kill_last() -> None:
    site_processes()[-1].kill()


def kill_all_but_one() -> None:
    for process in site_processes()[1:]:
        process.kill()


@pytest.mark.slow
def test_a_killed_site_is_tolerated(tmp_path: Path, digits: Dataset) -> None:
    run = in_processes(tmp_path / "run", "federated", THREE)

    result = train_arm(run, digits, At(1, kill_last))

    assert (result.rounds, result.reason) == (3, "all rounds are done")
    assert charges(run) == [3, 3, 1]
    assert result.traffic.predicted_total is None
    assert site_processes() == []


@pytest.mark.slow
def test_too_many_killed_sites_end_the_run(tmp_path: Path, digits: Dataset) -> None:
    run = in_processes(tmp_path / "run", "federated", THREE)

    with pytest.raises(RoundAborted, match=r"too few sites still answer; expected .*resume"):
        train_arm(run, digits, At(1, kill_all_but_one))

    assert charges(run) == [2, 1, 1]
    assert site_processes() == []
    assert train_arm(replace(run, resume=True), digits, NOBODY).rounds == 3


def interrupt_sites() -> None:
    for process in site_processes():
        process.send_signal(signal.SIGINT)


@pytest.mark.slow
def test_ctrl_c_is_not_for_the_sites(tmp_path: Path, digits: Dataset) -> None:
    run = in_processes(tmp_path / "run", "central", {})

    assert train_arm(run, digits, At(1, interrupt_sites)).rounds == 4


# -- Nothing is left behind -----------------------------------------------------------


def test_nothing_runs_after_ctrl_c(tmp_path: Path, digits: Dataset) -> None:
    run = in_processes(tmp_path / "run", "central", {})

    with pytest.raises(KeyboardInterrupt):
        train_arm(run, digits, At(1, interrupt))

    assert site_processes() == []


def fail() -> None:
    raise ZeroDivisionError


@pytest.mark.slow
def test_nothing_runs_after_an_error(tmp_path: Path, digits: Dataset) -> None:
    run = in_processes(tmp_path / "run", "central", {})

    with pytest.raises(ZeroDivisionError):
        train_arm(run, digits, At(1, fail))

    assert site_processes() == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 1400])
def test_a_killed_coordinator_leaves_no_site_and_can_be_resumed(
    tmp_path: Path, digits: Dataset, fork_server: ForkServerContext, size: int
) -> None:
    changes = {**THREE, "training.rounds": "6"}
    run = in_processes(tmp_path / "run", "federated", changes)
    process = fork_server.Process(target=train_arm, args=(run, digits, NOBODY))
    process.start()
    last = run.folder / "ledger" / "site-3.jsonl"
    while not (last.exists() and last.stat().st_size > size):
        sleep(0.001)
    sites = psutil.Process(process.pid).children()

    process.kill()
    process.join()
    result = train_arm(replace(run, resume=True), digits, NOBODY)
    gone, alive = psutil.wait_procs(sites, timeout=10)

    assert (len(gone), alive) == (3, [])
    assert (result.rounds, min(charges(run)) >= 6) == (6, True)


# -- One site -------------------------------------------------------------------------


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    return Launch(
        project=make_project().resolved(),
        arm="central",
        seed=0,
        site=0,
        data_folder=None,
        ledger=str(tmp_path / "site-1.jsonl"),
        identity=bytes(32),
        identities=(bytes(32),),
    )


def served(launch: Launch, *frames: bytes) -> tuple[int, list[bytes]]:
    """Returns the exit code of a site and its frames."""
    source, sink = io.BytesIO(), io.BytesIO()
    for frame in (msgspec.msgpack.encode(launch), *frames):
        write_frame(source, frame)
    source.seek(0)
    code = serve(source, sink)
    sink.seek(0)
    return code, list(iter(lambda: read_frame(sink) or b"", b""))


def test_a_site_speaks_until_its_pipe_ends(launch: Launch) -> None:
    code, frames = served(launch)

    assert code == 0
    assert [frame[:1] for frame in frames] == [b"+"]


def test_a_site_without_a_launch_ends() -> None:
    assert serve(io.BytesIO(), io.BytesIO()) == 2


REFUSALS: dict[str, tuple[Callable[[Launch], Launch], bytes]] = {
    "a project": (
        lambda launch: msgspec.structs.replace(launch, project="name = 3"),
        b"!project file: ",
    ),
    "an arm": (lambda launch: msgspec.structs.replace(launch, arm="central-pd"), b"!arm 'central-"),
    "a disk": (lambda launch: msgspec.structs.replace(launch, ledger="/no/such"), b"![Errno 2] "),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_site_says_why_it_refuses(launch: Launch, name: str) -> None:
    change, start = REFUSALS[name]

    code, (frame,) = served(change(launch))

    assert code == 2
    assert frame.startswith(start)
    assert b"\n" not in frame


def test_a_site_refuses_junk_and_ends(launch: Launch) -> None:
    code, frames = served(launch, b"junk")

    assert code == 2
    assert frames[0][:1] == b"+"


class Gone(io.BytesIO):
    """A pipe whose other end is closed."""

    def write(self, _data: object) -> int:
        raise BrokenPipeError


def test_a_site_whose_coordinator_is_gone_ends(launch: Launch) -> None:
    source = io.BytesIO()
    write_frame(source, msgspec.msgpack.encode(launch))
    source.seek(0)

    assert serve(source, Gone()) == 2


def test_a_site_that_cannot_be_started_is_named(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))

    with pytest.raises(RemoteProtocolError, match=r"^site 0"), launched([launch]) as (site,):
        site.start()

    assert site_processes() == []


def test_a_site_that_died_can_be_spoken_to_and_closed(
    tmp_path: Path, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\nhead -c 100 > /dev/null\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))

    with launched([launch]) as (site,):
        with pytest.raises(RemoteProtocolError, match="ended before it answered"):
            site.start()
        with pytest.raises(RemoteProtocolError, match="process") as refusal:
            site.handle(b"a message that nobody reads")

    assert refusal.value.sender == 0


def test_a_launch_never_shows_its_key(launch: Launch) -> None:
    assert repr(launch) == "Launch(arm='central', site=0)"


def test_a_key_is_on_no_command_line(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: seen.append((args, kwargs)))

    with pytest.raises(AttributeError):
        ProcessSite(launch)

    assert str(bytes(32)) not in str(seen)


# -- Randomness -----------------------------------------------------------------------


def test_recorded_randomness_plays_again_and_never_repeats() -> None:
    one, two, other = recorded_source(b"1"), recorded_source(b"1"), recorded_source(b"2")

    drawn = [one() for _ in range(50)]

    assert drawn == [two() for _ in range(50)]
    assert len({*drawn, other()}) == 51


def test_in_earnest_no_randomness_is_recorded(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Launch] = []
    monkeypatch.setattr(training, "launched", seen.extend)

    with pytest.raises((TypeError, ConsiliumError, AttributeError)):
        train_arm(in_processes(tmp_path / "run", "federated-dp", THREE), digits, Note())

    assert [launch.recorded for launch in seen] == [None, None, None]
    assert len({launch.identity for launch in seen}) == 3
    assert os.listdir(tmp_path / "run") == ["ledger"]


# -- Frames ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 70_000])
def test_frames_come_back(data: bytes) -> None:
    pipe = io.BytesIO()
    write_frame(pipe, data)
    pipe.seek(0)

    assert read_frame(pipe) == data
    assert read_frame(pipe) is None


@pytest.mark.parametrize("kept", [0, 3, 4, 6])
def test_a_torn_frame_is_the_end(kept: int) -> None:
    whole = io.BytesIO()
    write_frame(whole, b"abc")

    assert read_frame(io.BytesIO(whole.getvalue()[:kept])) is None
