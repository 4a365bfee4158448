# SPDX-License-Identifier: Apache-2.0
"""Tests of the rows by arm: means and deviations over seeds, privacy of the costliest seed."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.federation.arms import ARMS
from consilium.federation.results import RunResult
from consilium.web.summary import costliest, main_result, spread, summary_rows, worst_view

MakeResult = Callable[..., RunResult]
MakeResults = Callable[..., list[RunResult]]


@given(st.lists(st.floats(min_value=-1, max_value=1), min_size=2, max_size=9))
def test_mean_and_deviation_are_those_of_numpy(values: list[float]) -> None:
    found = spread(values)

    assert found.mean == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))


def test_one_value_has_no_deviation() -> None:
    assert spread([0.5]).sd is None


def test_a_row_for_each_arm_in_their_order(make_results: MakeResults) -> None:
    rows = summary_rows(make_results(seeds=2)[::-1])

    assert [row.arm for row in rows] == list(ARMS)
    assert [row.main for row in rows] == [False, False, False, False, True]


def test_means_are_over_seeds_and_intervals_of_the_first(make_result: MakeResult) -> None:
    (row,) = summary_rows([make_result(seed=3, auc=0.90), make_result(seed=4, auc=0.94)])

    assert row.seeds == (3, 4)
    assert row.auc is not None
    assert row.auc.mean == pytest.approx(0.92)
    assert row.auc.sd == pytest.approx(0.0282842712)
    assert row.auc_interval == pytest.approx((0.88, 0.92))


def test_an_auc_undefined_for_one_seed_is_undefined(make_result: MakeResult) -> None:
    (row,) = summary_rows([make_result(seed=0), make_result(seed=1, auc=None)])

    assert row.auc is None


def test_more_than_two_classes_have_no_sensitivity(make_result: MakeResult) -> None:
    (row,) = summary_rows([make_result(classes=("a", "b", "c"))])

    assert row.sensitivity is None
    assert row.specificity is None
    assert row.macro_recall.mean == 0.75


def test_epsilon_is_the_largest_of_any_seed(make_result: MakeResult) -> None:
    (row,) = summary_rows([make_result(seed=0, epsilon=2.0), make_result(seed=1, epsilon=3.0)])

    assert (row.epsilon_outsider, row.epsilon_participant) == (1.5, 3.0)
    assert row.delta == 1e-5


def test_the_statement_of_an_arm_is_the_costliest(make_result: MakeResult) -> None:
    cheap, dear = make_result(epsilon=2.0), make_result(seed=1, epsilon=3.0)

    assert costliest([cheap, dear]) == dear.statement


def test_the_worst_view_is_the_one_that_learns_most(make_result: MakeResult) -> None:
    worst = worst_view(make_result().statement)

    assert worst is not None
    assert worst.view == "participant"


def test_without_a_guarantee_there_is_no_epsilon_at_all(make_result: MakeResult) -> None:
    (row,) = summary_rows([make_result("central")])

    assert not row.private
    assert (row.epsilon_outsider, row.epsilon_participant, row.delta) == (None, None, None)


def test_an_arm_is_not_private_if_one_seed_is_not(make_result: MakeResult) -> None:
    bare = msgspec.structs.replace(make_result(seed=1), statement=make_result("central").statement)
    (row,) = summary_rows([make_result(), bare])

    assert not row.private
    assert row.epsilon_participant is None


def test_the_main_result_is_the_first_of_the_main_arm(make_results: MakeResults) -> None:
    results = make_results(seeds=2)

    assert main_result(results).arm == "federated-dp"
    assert main_result(results).seed == 0


def test_without_the_main_arm_the_first_result_stands_in(make_result: MakeResult) -> None:
    central = make_result("central")

    assert main_result([central, make_result("central-dp")]) == central


def test_no_results_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        summary_rows([])


def test_an_arm_that_does_not_exist_is_refused(make_result: MakeResult) -> None:
    strange = msgspec.structs.replace(make_result(), arm="federated-hope")

    with pytest.raises(ValueError, match="federated-hope"):
        summary_rows([strange])
