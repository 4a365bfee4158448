# SPDX-License-Identifier: Apache-2.0
"""Tests of early stopping: when it stops, and which round it keeps."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import ConfigError
from consilium.learning.stopping import EarlyStopping


def after(scores: list[float], patience: int = 2, least_gain: float = 0.0) -> EarlyStopping:
    stopping = EarlyStopping(patience=patience, least_gain=least_gain)
    for round_, score in enumerate(scores, start=1):
        stopping = stopping.observe(round_, score)
    return stopping


@pytest.mark.parametrize(
    ("scores", "best_round", "stops"),
    [
        ([], 0, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, False),
        ([0.5, 0.4, 0.4], 1, True),
        ([0.5, 0.4, 0.6], 3, False),
        ([0.5, 0.5, 0.5], 1, True),
        ([0.5, math.nan, math.nan], 1, True),
        ([math.nan], 0, False),
        ([math.nan, math.nan], 0, True),
        ([-5.0, -4.0], 2, False),
    ],
)
def test_stops_after_patience_without_a_better_score(
    scores: list[float], best_round: int, stops: bool
) -> None:
    stopping = after(scores)

    assert (stopping.best_round, stopping.should_stop) == (best_round, stops)


def test_a_gain_that_is_too_small_does_not_count() -> None:
    assert after([0.5, 0.505, 0.52], least_gain=0.01).best_round == 3


def test_rounds_without_an_evaluation_count_towards_patience() -> None:
    assert EarlyStopping(patience=3).observe(1, 0.5).observe(4, 0.4).should_stop


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_best_round_is_the_first_with_the_highest_score(scores: list[float]) -> None:
    assert after(scores).best_round == 1 + scores.index(max(scores))


def test_a_round_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match="round_=2, expected one after 2"):
        after([0.5, 0.6]).observe(2, 0.7)


@pytest.mark.parametrize(("patience", "least_gain"), [(0, 0.0), (1, -0.1), (1, math.nan)])
def test_settings_that_make_no_sense_are_refused(patience: int, least_gain: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        EarlyStopping(patience=patience, least_gain=least_gain)
