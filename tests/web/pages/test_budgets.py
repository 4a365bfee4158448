# SPDX-License-Identifier: Apache-2.0
"""Tests of a budget's page: the ledger's figures, unchanged, and a histogram that loses nobody."""

from hypothesis import given
from hypothesis import strategies as st

from consilium.adapters.store.ledger_views import Month, Patients, Project, Standing
from consilium.governance.composition import best_guess
from consilium.web.pages.budgets import bands, budget_view
from consilium.web.pages.words import guessing_bound

STANDING = Standing(
    dataset="hearts",
    cap=8.0,
    delta=1e-6,
    epsilon=1.9166,
    reserved=0.4,
    free=5.6834,
    share=0.3,
    exact=None,
    guess=best_guess(1.9166, 1e-6),
    frozen=False,
    patients=200,
    opted_out=2,
    patient_cap=8.0,
    patient_delta=1e-6,
    by_project=(Project("p1", 1.5, 30, 0), Project("catalogue", 0.5, 1, 0), Project("p2", 1, 0, 9)),
    by_month=(Month("2026-10", 1.0), Month("2026-11", 1.9166)),
    by_patient=(Patients(0.0, 2), Patients(1.9166, 198)),
)
NAMES = {"p1": "Pneumonia", "p2": "Pilot"}


def test_the_figures_are_the_ledgers() -> None:
    view = budget_view(STANDING, "patient", NAMES)

    assert (view.used, view.reserved, view.free) == (1.9166, 0.4, 5.6834)
    assert [one.epsilon for one in view.by_month] == [1.0, 1.9166]


def test_the_sentence_agrees_with_the_ledgers_guess() -> None:
    assert abs(guessing_bound(STANDING.epsilon, STANDING.delta) - STANDING.guess) < 1e-12


def test_a_project_is_called_by_its_name_and_its_part_is_of_all() -> None:
    spenders = budget_view(STANDING, "patient", NAMES).by_project

    assert [one.name for one in spenders] == [
        *("Pneumonia", "The number of patients on its card", "Pilot")
    ]
    assert abs(sum(one.share for one in spenders) - 1) < 1e-9
    assert [one.href for one in spenders] == ["/projects/p1", "", "/projects/p2"]


def test_what_is_only_held_is_said_to_be_reserved() -> None:
    spenders = budget_view(STANDING, "patient", NAMES).by_project

    assert [one.reserved for one in spenders] == [False, False, True]


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=60))
def test_every_patient_is_in_one_band(found: list[tuple[float, int]]) -> None:
    patients = [Patients(epsilon, count) for epsilon, count in dict(found).items()]

    drawn = bands(patients)

    assert len(drawn) <= 12
    assert sum(one.patients for one in drawn) == sum(one.patients for one in patients)
