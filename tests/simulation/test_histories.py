# SPDX-License-Identifier: Apache-2.0
"""Whole federations under faults: one seed is one history, and every history keeps every promise.

What must hold is in `watch.py`. A seed that fails prints the smallest script that fails too, its
history, and how to play it again.
"""

import ast
from pathlib import Path

import pytest
from tests.simulation.history import History, play, shrunk
from tests.simulation.script import (
    AT_COORDINATOR,
    AT_SITES,
    COORDINATOR,
    FULL,
    KILL,
    NETWORK,
    OPERATOR,
    OTHER_FOLDER,
    POWER,
    SAME_FOLDER,
    SLEEP,
    STOP,
    Fault,
    Script,
    script_of,
)

import consilium

AT_A_TIME = 15
FAST = range(0, 105, AT_A_TIME)
SLOW = range(1_000, 4_000, 100)
SRC = Path(consilium.__file__).parent


def check(history: History) -> None:
    """Fails with the smallest history that is wrong too."""
    if history.wrong:
        pytest.fail(f"\n{shrunk(history)}", pytrace=False)


# -- Any faults -----------------------------------------------------------------------


@pytest.mark.parametrize("first", FAST)
def test_every_history_keeps_every_promise(first: int) -> None:
    for seed in range(first, first + AT_A_TIME):
        check(play(script_of(seed)))


@pytest.mark.slow
@pytest.mark.parametrize("first", SLOW)
def test_thousands_of_histories_keep_every_promise(first: int) -> None:
    for seed in range(first, first + 100):
        check(play(script_of(seed)))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_seeds_bring_about_every_fault() -> None:
    struck = {
        (fault.party in (COORDINATOR, OPERATOR), fault.point.split(":")[0], fault.what)
        for seed in range(4_000, 5_000)
        for fault in play(script_of(seed)).struck
    }

    wanted = {(False, point, what) for point, (kinds, _) in AT_SITES.items() for what in kinds}
    wanted |= {
        (True, point, what) for point, (kinds, _) in AT_COORDINATOR.items() for what in kinds
    }
    wanted |= {(False, way, what) for way in ("to", "from") for what in NETWORK}
    wanted |= {(True, "seconds", what) for what in (SAME_FOLDER, OTHER_FOLDER, STOP)}
    assert wanted - struck <= PLAYED_BELOW


PLAYED_BELOW = {(True, "in Agreeing", KILL)}  # too rare for a thousand seeds


@pytest.mark.parametrize("seed", [40, 53])
def test_one_seed_is_one_history(seed: int) -> None:
    first, second = play(script_of(seed)), play(script_of(seed))

    assert first.struck
    assert first.trace == second.trace
    assert first.model == second.model


def test_an_undisturbed_run_is_one_job_with_every_round() -> None:
    history = directed()

    assert (history.jobs, ended(history)) == (1, (3, 3))


# -- One fault ------------------------------------------------------------------------


def directed(*faults: Fault, seed: int = 0, arm: str = "federated-dp") -> History:
    """Returns the history of four sites, three rounds and these faults; all promises hold."""
    changes = {
        "sites.count": "4",
        "sites.colluders": "1",
        "training.rounds": "3",
        "training.evaluate_every": "1",
        "dp.expected_batch": "32",
    }
    script = Script(
        seed=seed,
        sites=4,
        arm=arm,
        changes=tuple(sorted(changes.items())),
        quorum_seconds=10.0,
        lost_seconds=30.0,
        faults=faults,
    )
    history = play(script)
    check(history)
    assert set(history.struck) == set(faults), f"not every fault came about:\n{history}"
    return history


def at(party: str, point: str, what: str, nth: int = 2) -> Fault:
    return Fault(party=party, point=point, nth=nth, what=what)


def ended(history: History) -> tuple[int, int]:
    """Returns how many rounds there are in how many attempts."""
    assert history.result is not None
    return history.result.rounds, history.result.attempts


@pytest.mark.parametrize("what", [KILL, POWER])
@pytest.mark.parametrize(
    "point",
    [
        "got RoundStart",
        "ledger fsync",
        "charged",
        "said Upload",
        "sent Upload",
        "got Survivors",
        "said Opening",
        "sent Opening",
    ],
)
def test_a_site_that_is_killed_does_not_end_the_run(point: str, what: str) -> None:
    history = directed(at("b", point, what))

    assert history.jobs == 1
    assert ended(history) in ((3, 3), (2, 3))  # an unopened round is paid for all the same


@pytest.mark.parametrize("point", ["got enrol", "got join"])
def test_a_site_that_is_killed_before_the_plan_is_waited_for_or_comes_later(point: str) -> None:
    history = directed(at("b", point, KILL, 1))

    assert ended(history)[0] >= 2


@pytest.mark.parametrize("what", [KILL, POWER])
@pytest.mark.parametrize(
    ("point", "nth"),
    [
        ("in Gathering", 2),
        ("in Preparing", 2),
        ("in Collecting", 2),
        ("in Unmasking", 2),
        ("look", 1),
        ("saved", 1),
        ("saved", 2),
        ("tells join", 2),
        ("tells RoundStart", 2),
        ("tells Survivors", 2),
        ("fsync part", 2),
        ("replace", 2),
        ("replaced", 2),
        ("fsync folder", 2),
    ],
)
def test_a_coordinator_that_is_killed_goes_on_from_its_checkpoint(
    point: str, nth: int, what: str
) -> None:
    history = directed(at(COORDINATOR, point, what, nth))

    assert history.jobs == 2
    assert ended(history) in ((3, 3), (2, 3))


def test_a_coordinator_is_killed_while_a_hybrid_session_is_agreed() -> None:
    base = script_of(0)
    changes = {**dict(base.changes), "sites.count": "3", "sites.colluders": "0"}
    changes |= {"sites.post_quantum": "true", "sites.secure_sum": "on", "dp.expected_batch": "24"}
    fault = at(COORDINATOR, "in Agreeing", KILL)
    history = play(
        Script(
            seed=0,
            sites=3,
            arm="federated-dp",
            changes=tuple(sorted(changes.items())),
            quorum_seconds=10.0,
            lost_seconds=30.0,
            faults=(fault,),
        )
    )

    check(history)
    assert (history.jobs, history.struck) == (2, (fault,))


@pytest.mark.parametrize("point", ["got RoundStart", "computed", "got Survivors"])
def test_a_round_closes_in_time_without_a_site_that_sleeps(point: str) -> None:
    history = directed(at("b", point, SLEEP))

    assert (history.jobs, ended(history)) == (1, (3, 3))
    assert history.seconds < 60 + 3 * 10


@pytest.mark.parametrize("what", NETWORK)
@pytest.mark.parametrize("point", ["to:RoundStart", "to:Survivors", "from:Upload", "from:Opening"])
def test_a_bad_line_does_not_end_the_run(point: str, what: str) -> None:
    history = directed(at("b", point, what))

    assert history.jobs == 1
    assert ended(history) in ((3, 3), (2, 3))


@pytest.mark.parametrize("point", ["ledger write", "ledger fsync"])
def test_a_full_disk_at_a_site_costs_that_site_only(point: str) -> None:
    history = directed(at("b", point, FULL))

    assert ended(history)[0] >= 2


@pytest.mark.parametrize("point", ["fsync part", "fsync folder"])
def test_a_full_disk_at_the_coordinator_is_told_and_the_run_goes_on_later(point: str) -> None:
    history = directed(at(COORDINATOR, point, FULL))

    assert history.jobs == 2
    assert any("DataError: a file could not be written" in line for line in history.trace)


@pytest.mark.parametrize("second", [1, 2])
@pytest.mark.parametrize("what", [SAME_FOLDER, OTHER_FOLDER])
def test_two_coordinators_by_mistake_never_ask_a_site_for_one_round_twice(
    what: str, second: int
) -> None:
    sleeping = at("b", "got RoundStart", SLEEP)  # so that the first is not over yet
    history = directed(sleeping, at(OPERATOR, "seconds", what, second))

    assert history.jobs >= 2


def test_nothing_of_the_protocol_reads_a_wall_clock() -> None:
    """Every machine's clock differs by ten minutes or more in all histories above, too."""
    modules = [*SRC.glob("federation/*.py"), *SRC.glob("secagg/*.py"), *SRC.glob("adapters/*.py")]

    readers = {path.name for path in modules if WALL & names_in(path)}

    assert readers <= FOR_PEOPLE


# What an operator reads beside a run, how long processes of one machine wait for each other, and
# the day that a permit bears.
FOR_PEOPLE = {
    "health.py",
    "logs.py",
    "json_lines.py",
    "releasing.py",
    "run_board.py",
    "run_watch.py",
    "site_team_process.py",
}
WALL = {"time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime"}


def names_in(path: Path) -> set[str]:
    """Returns every name and dotted name in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    dotted = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    imported = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    plain = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return dotted | imported | plain
