# SPDX-License-Identifier: Apache-2.0
"""Tests of the privacy statement: never rounded down, two views, and words that fit the arm."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.federation.conftest import make

from consilium.dp.plan import View, membership_advantage
from consilium.federation.arms import ARMS
from consilium.federation.statement import Guarantee, Statement, make_statement, round_up

PRIVATE = [name for name, arm in ARMS.items() if arm.private]


def statement(arm: str = "federated-dp", steps: int = 3, **changes: str) -> Statement:
    return make_statement(make(arm, **changes), unit="patient", steps_charged=steps)


def view(name: View, own: Statement) -> Guarantee:
    (found,) = (one for one in own.guarantees if one.view == name)
    return found


# -- Numbers --------------------------------------------------------------------------


@given(st.floats(0, 1e6))
def test_epsilon_is_never_rounded_down(epsilon: float) -> None:
    assert epsilon <= round_up(epsilon) <= epsilon * (1 + 1e-15) + 1e-4


@pytest.mark.parametrize(
    ("epsilon", "shown"),
    [
        (0.0, 0.0),
        (1e-300, 0.0001),
        (2.59, 2.59),
        (2.59001, 2.5901),
        (2.5900000000000003, 2.5901),
        (0.0009000000000000001, 0.001),
    ],
)
def test_epsilon_is_rounded_up_in_the_fourth_decimal(epsilon: float, shown: float) -> None:
    assert round_up(epsilon) == shown


def test_no_bound_stays_no_bound() -> None:
    assert round_up(math.inf) == math.inf


@pytest.mark.parametrize("arm", PRIVATE)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_stated_epsilon_covers_every_charged_step(arm: str, steps: int) -> None:
    plan = make(arm).plan
    assert plan is not None

    found = statement(arm, steps)

    for one in found.guarantees:
        exact = plan.epsilon(steps, View(one.view))
        assert exact <= one.epsilon <= exact + 1e-4
        assert one.membership_advantage == membership_advantage(exact, plan.delta)


def test_a_run_that_was_stopped_early_states_what_it_was_charged() -> None:
    worst = [view(View.PARTICIPANT, statement(steps=steps)).epsilon for steps in (1, 2, 3)]

    assert worst == sorted(set(worst))


@pytest.mark.parametrize("arm", PRIVATE)
def test_settings_of_the_plan_are_stated(arm: str) -> None:
    found = statement(arm)

    assert (found.delta, found.noise_multiplier, found.l2_clip_norm) == (1e-3, 1.0, 1.0)
    assert (found.sampling_probability, found.steps_charged, found.steps_allowed) == (0.5, 3, 3)
    assert found.neighbouring_relation == "ADD_OR_REMOVE_ONE"
    assert found.accountant == "RDP, dp-accounting"


def test_the_unit_is_named_wherever_it_counts() -> None:
    found = make_statement(make(), unit="record", steps_charged=1)

    assert found.unit == "record"
    assert "each record independently" in found.sampling
    assert found.public[0] == "number of training records, 20"
    assert found.not_covered[0].startswith("records of the validation")
    assert "patient" not in view(View.PARTICIPANT, found).who


# -- Views ----------------------------------------------------------------------------


def test_two_views_are_stated_and_the_outsider_learns_less() -> None:
    found = statement()

    assert [one.view for one in found.guarantees] == [View.OUTSIDER, View.PARTICIPANT]
    assert view(View.OUTSIDER, found).epsilon < view(View.PARTICIPANT, found).epsilon


def test_one_party_with_all_data_has_one_view() -> None:
    assert [one.view for one in statement("central-dp").guarantees] == [View.OUTSIDER]


@pytest.mark.parametrize(
    ("colluders", "who"), [("1", "one curious site"), ("2", "2 curious sites")]
)
def test_the_participant_is_the_coordinator_with_the_projects_colluders(
    colluders: str, who: str
) -> None:
    found = statement(sites__count="10", sites__colluders=colluders)

    assert f"together with {who}, about a patient" in view(View.PARTICIPANT, found).who


def test_nobody_is_said_to_be_withstood_who_was_not_planned_for() -> None:
    found = statement(sites__colluders="0")

    assert "together with no site" in view(View.PARTICIPANT, found).who
    assert found.fails_if[0].startswith("more than 0 of 4 sites")


def test_a_site_that_trusts_nobody_withstands_every_other_site() -> None:
    found = statement("federated-local-dp")

    assert "together with every other site" in view(View.PARTICIPANT, found).who


# -- Words ----------------------------------------------------------------------------


def test_shared_noise_says_how_many_sites_it_counts_on() -> None:
    found = statement(sites__count="10", sites__colluders="2")

    assert "at least 7 sites, to add their share of noise" in found.trusted
    assert found.fails_if == (
        "more than 2 of 10 sites pool what they know with the coordinator",
        "fewer than 7 honest sites add their share of noise to an opened sum",
    )


@pytest.mark.parametrize(
    ("arm", "trusted", "fails"),
    [
        ("central-dp", "the party that holds all data", "the curator leaks"),
        ("federated-local-dp", "no other party", "a patient's own site leaks"),
    ],
)
def test_who_is_trusted_fits_the_arm(arm: str, trusted: str, fails: str) -> None:
    found = statement(arm)

    assert trusted in found.trusted
    assert found.fails_if[0].startswith(fails)


@pytest.mark.parametrize("arm", ["central", "federated"])
def test_an_arm_without_privacy_has_no_number(arm: str) -> None:
    found = statement(arm)

    assert not found.private
    assert found.guarantees == ()
    assert (found.delta, found.noise_multiplier, found.l2_clip_norm) == (None, None, None)
    assert (found.sampling_probability, found.steps_allowed) == (None, None)
    assert found.trusted == "everyone who sees the model"
    assert found.not_covered == ("everyone",)
    assert found.fails_if[0].startswith("always")


@pytest.mark.parametrize("arm", PRIVATE)
def test_what_is_printed_without_noise_is_not_covered(arm: str) -> None:
    told = " ".join(statement(arm).not_covered)

    assert "validation and the test set" in told
    assert "compared several runs" in told
    assert "at each site" in told


@pytest.mark.parametrize("arm", ARMS)
def test_a_statement_survives_json(arm: str) -> None:
    found = statement(arm)

    assert msgspec.json.decode(msgspec.json.encode(found), type=Statement) == found
