# SPDX-License-Identifier: Apache-2.0
"""The simulation has teeth: without a safeguard, a seed finds a history that is wrong."""

import pytest
from tests.simulation.history import play, shrunk
from tests.simulation.planted import BUGS
from tests.simulation.script import script_of


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    bug = BUGS[name]

    history = bug.found_by(bug.seed)

    assert history.wrong
    assert not play(script_of(bug.seed)).wrong


def test_a_failing_seed_is_told_with_no_fault_too_many() -> None:
    bug = BUGS["a torn line stays in the ledger"]

    with bug.planted():
        history = shrunk(play(script_of(bug.seed)))

    assert len(history.script.faults) <= 2
    assert f"python -m tests.simulation.history {bug.seed}" in str(history)
    assert "WRONG: " in str(history)
