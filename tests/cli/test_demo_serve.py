# SPDX-License-Identifier: Apache-2.0
"""Four offices on this machine: real pages, couriers, ledgers and training."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.adapters.downloads import DemoSource
from consilium.adapters.run_board import RunProgress
from consilium.adapters.stage import MODEL
from consilium.adapters.store import ledger_views
from consilium.cli.demo import make_project
from consilium.cli.demo_serve import CHANGES, Asked, Demonstration
from consilium.data.records import Splits
from consilium.data.sources import read_splits
from consilium.governance.projects import OVER, State

pytestmark = pytest.mark.timeout(300)

SOURCE = DemoSource(source="digits", folder=None, unit="record", why="in a test")
QUICK = {
    "model.name": "logistic",
    "training.evaluate_every": "1",
    "sites.missing_classes": "allow",
}


@pytest.fixture(scope="module")
def splits() -> Splits:
    return read_splits("digits", None, image_size=None, unit="record")


@pytest.fixture
def demonstration(
    splits: Splits, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Demonstration]:
    rounds = {"training.rounds": str(request.param)}
    project = make_project(SOURCE, splits, {**CHANGES, **QUICK, **rounds})
    made = Demonstration(
        Asked(folder=tmp_path / "offices", splits=splits, project=project, seed=0, yes=True)
    )
    with made.open():
        yield made
        made.end()
        assert made.host.wait(60)


def play(demonstration: Demonstration, until: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, demonstration.step()
        demonstration.step()
        time.sleep(0.1)


def standings(demonstration: Demonstration) -> list[ledger_views.Standing]:
    """Returns how each hospital's dataset stands in its ledger."""
    found = []
    for hospital in demonstration.hospitals:
        with hospital.office.desk.database.reading() as connection:
            found.append(ledger_views.standing(connection, "chest"))
    return found


def charges(demonstration: Demonstration) -> list[int]:
    """Returns how many steps of the project each hospital's ledger shows."""
    by_name = [{one.name: one for one in found.by_project} for found in standings(demonstration)]
    return [found["chest-x-ray"].steps if "chest-x-ray" in found else 0 for found in by_name]


def records(demonstration: Demonstration) -> list[NDArray[np.str_]]:
    """Returns the privacy units of each hospital's training records."""
    folders = [hospital.folder / "data" for hospital in demonstration.hospitals]
    splits = [read_splits("chest", folder, image_size=None, unit="record") for folder in folders]
    return [one.train.patients for one in splits]


def word(demonstration: Demonstration) -> RunProgress:
    found = demonstration.board.of(demonstration.project)
    assert found is not None
    return found


@pytest.mark.parametrize("demonstration", [3], indirect=True)
def test_an_approved_project_trains_and_every_hospital_pays(demonstration: Demonstration) -> None:
    play(demonstration, lambda: demonstration.step() in OVER)

    assert demonstration.step() is State.FINISHED
    assert min(charges(demonstration)) >= 3  # a lost round is paid and played again
    held = [len(np.unique(one)) for one in records(demonstration)]
    assert [standing.patients for standing in standings(demonstration)] == held
    last = word(demonstration)
    assert (last.state, last.round, len(last.looks)) == ("finished", 3, 3)
    assert np.all(np.diff([look.epsilon for look in last.looks]) > 0)
    assert last.epsilon <= last.granted
    runs = list((demonstration.hospitals[0].folder.parent / "runs").iterdir())
    assert [(run / MODEL).exists() for run in runs] == [True]
    office, researcher = demonstration.coordinator.office, demonstration.coordinator.worker
    model = office.models.resolve(researcher, "chest-x-ray")
    assert (model.version, model.epsilon) == (1, last.epsilon)


@pytest.mark.parametrize("demonstration", [40], indirect=True)
def test_after_a_revocation_that_hospital_pays_no_more_and_the_others_finish(
    demonstration: Demonstration,
) -> None:
    first = demonstration.hospitals[0]
    board, project = demonstration.board, demonstration.project
    play(demonstration, lambda: (seen := board.of(project)) is not None and seen.round >= 2)

    first.office.projects.revoke(first.worker, project, "the steward changed their mind")
    paid = charges(demonstration)[0]
    play(demonstration, lambda: demonstration.step() in OVER)

    assert charges(demonstration)[0] - paid <= 1  # one charge may have been on its way
    assert demonstration.step() in OVER


@pytest.mark.parametrize("demonstration", [3], indirect=True)
def test_each_link_lets_one_person_in_once(demonstration: Demonstration) -> None:
    link = demonstration.links["Data steward, hospital A"]

    origin = {"Origin": link.split("/links/")[0]}

    with httpx.Client(headers=origin, timeout=60) as client:
        first = client.post(link)
        inbox = client.get("/".join(link.split("/")[:3]) + "/inbox.json")
    again = httpx.post(link, headers=origin, timeout=60)

    assert first.status_code == 303
    assert inbox.status_code == 200
    assert again.status_code == 403


@pytest.mark.parametrize("demonstration", [40], indirect=True)
def test_what_a_stopped_run_held_goes_back_to_the_caps(demonstration: Demonstration) -> None:
    coordinator, project = demonstration.coordinator, demonstration.project
    first = demonstration.hospitals[0]
    board = demonstration.board
    play(demonstration, lambda: (seen := board.of(project)) is not None and seen.round >= 2)

    first.office.projects.revoke(first.worker, project, "enough")
    with first.office.desk.database.reading() as connection:
        held = ledger_views.open_reservations(connection)
        standing = ledger_views.standing(connection, "chest")

    assert list(held) == []
    assert standing.reserved <= standing.epsilon
    coordinator.office.runs.stop(coordinator.worker, project, "enough for everybody")
    play(demonstration, lambda: demonstration.host.wait(0.1))
