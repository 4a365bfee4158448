# SPDX-License-Identifier: Apache-2.0
"""Tests of charges: what a receipt stands for, and when there is room for one more."""

from dataclasses import replace
from typing import Any

import pytest

from consilium.errors import BudgetExceeded
from consilium.federation.ledger import Charge, charge_digest, check_room

CHARGE = Charge(site=1, round=2, terms=bytes(32), mechanism="one step")


def test_one_charge_has_one_digest() -> None:
    assert charge_digest(CHARGE) == charge_digest(replace(CHARGE))
    assert len(charge_digest(CHARGE)) == 32


@pytest.mark.parametrize(
    "change", [{"site": 2}, {"round": 3}, {"terms": bytes(31) + b"1"}, {"mechanism": "two steps"}]
)
def test_a_digest_names_everything_that_was_charged(change: dict[str, Any]) -> None:
    assert charge_digest(replace(CHARGE, **change)) != charge_digest(CHARGE)


@pytest.mark.parametrize(("made", "allowed"), [(0, 1), (1, 2), (59, 60)])
def test_there_is_room_for_the_last_step_that_the_budget_pays_for(made: int, allowed: int) -> None:
    check_room(made=made, allowed=allowed)


@pytest.mark.parametrize(("made", "allowed"), [(0, 0), (1, 1), (61, 60)])
def test_one_step_too_many_is_refused(made: int, allowed: int) -> None:
    with pytest.raises(BudgetExceeded, match=f"pays for {allowed} steps and {made} were charged"):
        check_room(made=made, allowed=allowed)
