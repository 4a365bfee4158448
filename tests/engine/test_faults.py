# SPDX-License-Identifier: Apache-2.0
"""What befalls real federations: a site asleep, a bad line, a full disk.

Minutes, so not in the fast lane. After each the run ends, every ledger shows each round once,
and what is stated is not below what was paid.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

pytest.importorskip("nvflare")

from tests.engine.bad_line import bad_line
from tests.engine.machines import (
    NAMES,
    Machines,
    Once,
    federation,
    train,
    until,
)

from consilium.federation.results import RunResult

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

SLEEP = 60.0  # seconds


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with federation(tmp_path / "chest") as made:
        yield made


def check_ledgers(machines: Machines, run: object, result: RunResult) -> None:
    """The two that were never disturbed paid for every round once; the third, none twice."""
    rounds = {name: machines.rounds(name, run) for name in NAMES}  # type: ignore[arg-type]
    assert rounds["a"] == rounds["b"] == list(range(1, result.attempts + 1))
    assert rounds["c"] == sorted(set(rounds["c"]))
    assert result.sites[2].charges >= len(rounds["c"])


# -- Asleep ---------------------------------------------------------------------------


def test_a_site_that_sleeps_holds_up_one_round_and_takes_part_again(
    machines: Machines, tmp_path: Path
) -> None:
    family = psutil.Process(machines.running["c"].pid)
    times: dict[int, float] = {}
    slept: list[float] = []

    def fall_asleep() -> None:
        slept.append(time.monotonic())
        for one in (family, *family.children(recursive=True)):
            one.suspend()

    at_three = Once(3, fall_asleep)

    def watch(seen: Mapping[str, object]) -> None:
        times.setdefault(int(str(seen.get("round", 0))), time.monotonic())
        at_three(seen)
        if slept and time.monotonic() - slept[0] > SLEEP:
            slept[0] = float("inf")
            for one in (family, *family.children(recursive=True)):
                one.resume()

    run, result = train(machines, tmp_path, 1000, watch)

    seen = [when for when in times.values() if slept]
    assert slept == [float("inf")]
    assert max(later - sooner for sooner, later in pairwise(seen)) < 30
    assert result.attempts == 1000
    check_ledgers(machines, run, result)
    assert machines.rounds("c", run)[-1] == 1000


# -- A bad line -----------------------------------------------------------------------


def reconnect(machines: Machines, port: int) -> None:
    """Leads site c over another port."""
    machines.kill("c")
    path = machines.kit("c") / "startup" / "fed_client.json"
    said = json.loads(path.read_bytes())
    said["servers"][0]["service"]["target"] = f"localhost:{port}"
    path.write_text(json.dumps(said))
    (machines.folder / "c.log").write_bytes(b"")
    machines.join("c")
    until(lambda: machines.said("c", "Successfully registered"))


def coordinator_port(machines: Machines) -> int:
    path = machines.kit("coordinator") / "consilium" / "federation.json"
    port: int = json.loads(path.read_bytes())["port"]
    return port


def test_a_line_that_is_slow_and_breaks_holds_up_nobody_for_good(
    machines: Machines, tmp_path: Path
) -> None:
    with bad_line(coordinator_port(machines), delay=0.2, life=20.0) as line:
        reconnect(machines, line.port)

        run, result = train(machines, tmp_path, 30)

        assert line.cuts >= 2
        assert result.rounds == 30
        check_ledgers(machines, run, result)
        assert machines.rounds("c", run)  # it took part as long as its line was there
        machines.kill("c")


# -- A full disk ----------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own for `folder`; skipped where the machine does not allow it."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("mounting a small disk is not allowed here")

    def resize(size: str) -> None:
        remount = ["mount", "-o", f"remount,size={size}", str(folder)]
        subprocess.run(remount, check=True)  # noqa: S603

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607


def test_a_full_disk_at_a_site_stops_its_answers_before_they_leave(
    machines: Machines, tmp_path: Path
) -> None:
    with small_disk(machines.kit("c") / "consilium" / "ledger", "8k") as resize:
        run, result = train(machines, tmp_path / "full", 60)
        check_ledgers(machines, run, result)
        assert result.attempts == 60
        assert 3 <= len(machines.rounds("c", run)) < 60

        resize("1m")
        run, result = train(machines, tmp_path / "free", 4)
        check_ledgers(machines, run, result)
        assert machines.rounds("c", run) == [1, 2, 3, 4]
        machines.kill("c")
