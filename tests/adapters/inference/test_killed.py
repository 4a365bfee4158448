# SPDX-License-Identifier: Apache-2.0
"""Operators as real processes, killed at the worst moments: no material serves two sessions, the
patient hears of it soon, and asking again succeeds."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import pytest
from tests.adapters.inference.parties import card_of, owned, some_images, until
from tests.adapters.inference.processes import Processes, prepared

from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.links import LinkBroken
from consilium.adapters.inference.publishing import compile_owned, publish
from consilium.errors import DataError, RoundAborted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
MOMENTS = ("before mark", "after mark", "mid exchange", "before answer")


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Processes, bytes]]:
    made = prepared(tmp_path_factory.mktemp("killed"))
    try:
        for party in (0, 1, 2):
            made.start(party)
        name = published(made)
        made.until_stocked(name, 2)
        yield made, name
    finally:
        made.close()


def published(made: Processes) -> bytes:
    """Returns the name of a small model, once the operators listen."""
    model = owned()
    compiled = compile_owned(model, None)
    name: list[bytes] = []

    def put() -> bool:
        try:
            card = card_of(model, compiled)
            name.append(publish(made.kits / "owner", compiled, card))
        except LinkBroken:
            return False
        return True

    until(put, 60)
    return name[0]


def ask(made: Processes) -> None:
    patient = Patient(made.kits)
    try:
        (offered,) = patient.models()
        patient.ask(offered, some_images(1).numpy())
    finally:
        patient.close()


def check_used_once(made: Processes, name: bytes) -> None:
    """No number is marked twice, or used for two sessions by either operator or by both."""
    sessions = defaultdict(set)
    for party in (0, 1):
        marked = Counter(made.marked(party, name))
        assert set(marked.values()) <= {1}
        for session, number in made.journal(party):
            assert number in marked
            sessions[number].add(session)
        assert len(made.journal(party)) == len(set(made.journal(party)))
    assert all(len(used) == 1 for used in sessions.values())


@pytest.mark.parametrize("party", [0, 1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_operator_uses_nothing_twice(
    parties: tuple[Processes, bytes], moment: str, party: int
) -> None:
    made, name = parties
    made.until_stocked(name, 1)
    made.arm(party, moment)
    start = time.monotonic()

    with pytest.raises((DataError, RoundAborted), match=r"operator.*(ask|try) again"):
        ask(made)

    assert time.monotonic() - start < 45
    assert made.died(party)
    made.start(party)
    made.until_stocked(name, 1)
    ask(made)
    check_used_once(made, name)


def test_a_killed_dealer_deals_on(parties: tuple[Processes, bytes]) -> None:
    made, name = parties
    made.arm(2, "between puts")
    ask(made)  # makes room for material
    assert made.died(2)

    ask(made)  # of what was there
    made.start(2)
    made.until_stocked(name, made.stock)
    for _ in range(2):
        ask(made)

    check_used_once(made, name)


def test_an_operator_that_is_away_is_named_and_back_it_serves(
    parties: tuple[Processes, bytes],
) -> None:
    made, name = parties
    made.until_stocked(name, 1)
    patient = Patient(made.kits)
    (offered,) = patient.models()
    made.kill(1)
    start = time.monotonic()

    with pytest.raises((DataError, RoundAborted), match=r"operator.1"):
        patient.ask(offered, some_images(1).numpy())

    assert time.monotonic() - start < 30
    patient.close()
    made.start(1)
    made.until_stocked(name, 1)
    ask(made)
    check_used_once(made, name)


def test_nothing_secret_was_logged(parties: tuple[Processes, bytes]) -> None:
    made, _ = parties

    said = made.logs()

    assert "Traceback" not in said
    assert "BEGIN" not in said
    assert len(said) < 20_000
