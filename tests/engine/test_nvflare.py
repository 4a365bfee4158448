# SPDX-License-Identifier: Apache-2.0
"""A real federation on this machine: NVFlare, mutual TLS, three sites as processes, one dies.

One federation serves all tests of this file in their order; they run on one worker
(`make test` calls them by themselves).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil
import pytest
from tests.adapters.conftest import make_run, same_seeds

from consilium.adapters.dataset import Dataset, read_dataset
from consilium.adapters.stage import MODEL, NobodyWatches
from consilium.adapters.training import train_arm
from consilium.errors import RoundAborted

pytest.importorskip("nvflare")

from tests.engine.machines import ARM, NAMES, THREE, Machines, Once, federation, train, until

from consilium.adapters.nvflare.submission import train_there

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]

ROUNDS = 200  # enough for a site to come back


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    with federation(tmp_path_factory.mktemp("federation") / "chest") as made:
        yield made


# -- The same as on one machine -------------------------------------------------------


def test_a_federation_trains_the_model_of_one_machine(machines: Machines, tmp_path: Path) -> None:
    there, many = train(machines, tmp_path, 4)

    here = make_run(tmp_path / "here", ARM, THREE)
    digits: Dataset = read_dataset(here.project.data, None)
    one = train_arm(here, digits, NobodyWatches(), same_seeds(3))

    assert (there.folder / MODEL).read_bytes() == (here.folder / MODEL).read_bytes()
    assert (many.statement, many.curve, many.test) == (one.statement, one.curve, one.test)
    assert many.traffic == one.traffic
    assert [machines.rounds(name, there) for name in NAMES] == [[1, 2, 3, 4]] * 3


# -- A site that is killed, and comes back --------------------------------------------


def test_a_site_that_is_killed_takes_part_again_in_the_same_run(
    machines: Machines, tmp_path: Path
) -> None:
    """Its job's process dies in one run; all of its processes in the other."""
    for number, kill in enumerate((machines.kill_job, machines.kill)):
        at_once = Once(3, partial(kill, "c"))

        def watch(seen: Mapping[str, object], at_once: Once = at_once) -> None:
            at_once(seen)
            if "c" not in machines.running:
                machines.join("c")

        run, result = train(machines, tmp_path / str(number), ROUNDS, watch)

        charged = machines.rounds("c", run)
        assert at_once.done
        assert result.attempts == ROUNDS
        assert machines.rounds("a", run) == machines.rounds("b", run) == [*range(1, ROUNDS + 1)]
        assert charged == sorted(set(charged))
        assert charged[-1] == ROUNDS  # it took part again
        assert result.sites[2].charges == len(charged)


def test_a_site_that_stays_away_does_not_end_the_run(machines: Machines, tmp_path: Path) -> None:
    run, result = train(machines, tmp_path, 40, Once(3, partial(machines.kill, "c")))

    charged = machines.rounds("c", run)
    assert result.attempts == 40
    assert machines.rounds("a", run) == machines.rounds("b", run) == list(range(1, 41))
    assert charged == list(range(1, len(charged) + 1))
    assert 3 <= len(charged) < 40
    assert result.sites[2].charges == 40  # it is away: the most that it can have paid


def test_a_site_that_comes_back_takes_part_in_the_next_run(
    machines: Machines, tmp_path: Path
) -> None:
    (machines.folder / "c.log").write_bytes(b"")
    machines.join("c")
    until(lambda: machines.said("c", "Successfully registered"))

    run, result = train(machines, tmp_path, 2)

    assert result.rounds == 2
    assert [machines.rounds(name, run) for name in NAMES] == [[1, 2]] * 3


# -- A coordinator that is killed -----------------------------------------------------


@pytest.mark.slow
def test_a_run_goes_on_after_its_coordinator_was_killed(machines: Machines, tmp_path: Path) -> None:
    def kill_in_the_middle(seen: Mapping[str, object]) -> None:
        if int(str(seen.get("round", 0))) >= 5:
            machines.kill("coordinator")

    with pytest.raises(RoundAborted, match="fetch its result later with --resume"):
        train(machines, tmp_path, 60, kill_in_the_middle)
    (machines.folder / "coordinator.log").write_bytes(b"")
    machines.coordinate()
    until(lambda: machines.said("coordinator", "Server started"))

    run = make_run(tmp_path / "there", ARM, {**THREE, "training.rounds": "60"})
    result = train_there(replace(run, resume=True), machines.kit("researcher"), lambda _seen: None)

    assert result.attempts == 60
    assert [machines.rounds(name, run) for name in NAMES] == [list(range(1, 61))] * 3


# -- What is left behind --------------------------------------------------------------


def test_no_process_outlives_its_party(machines: Machines) -> None:
    for name in list(machines.running):
        machines.kill(name)

    def nobody() -> bool:
        return not any(
            str(machines.folder) in " ".join(one.info["cmdline"] or ())
            for one in psutil.process_iter(["cmdline"])
        )

    until(nobody, 30)
