# SPDX-License-Identifier: Apache-2.0
"""Tests of the schedules: written-out values, torch's own schedulers, and refusals."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from consilium.errors import ConfigError
from consilium.learning.schedules import (
    Constant,
    Cosine,
    LogLinear,
    Plateau,
    Schedule,
    Step,
    WarmRestarts,
    learning_rate,
)

WRITTEN_OUT: list[tuple[Schedule, list[float]]] = [
    (Constant(0.3), [0.3] * 6),
    (Step(initial=1.0, factor=0.1, every=2), [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]),
    (Cosine(1.0), [1.0, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
    (Cosine(1.0, final=0.2), [1.0, 0.9464102, 0.8, 0.6, 0.4, 0.2535898]),
    (LogLinear(1.0, final=0.03125), [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
    (WarmRestarts(initial=1.0, period=2), [1.0, 0.5, 1.0, 0.5, 1.0, 0.5]),
    (WarmRestarts(initial=1.0, period=2, growth=2), [1.0, 0.5, 1.0, 0.8535534, 0.5, 0.1464466]),
    (Plateau(initial=1.0, factor=0.5, patience=1), [1.0] * 6),
]
SCHEDULES: list[Schedule] = [schedule for schedule, _ in WRITTEN_OUT]


def rates(schedule: Schedule, rounds: int) -> list[float]:
    return [learning_rate(schedule, round_, rounds) for round_ in range(1, rounds + 1)]


def torch_rates(
    make: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], rounds: int
) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    scheduler = make(optimiser)
    found = []
    for _ in range(rounds):
        found.append(float(optimiser.param_groups[0]["lr"]))
        optimiser.step()
        scheduler.step()
    return found


def torch_plateau(losses: list[float], patience: int) -> list[float]:
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=patience, threshold=0.0, eps=0.0
    )
    found = []
    for loss in losses:
        scheduler.step(loss)
        found.append(float(optimiser.param_groups[0]["lr"]))
    return found


# -- Values ---------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "expected"), WRITTEN_OUT)
def test_written_out_values(schedule: Schedule, expected: list[float]) -> None:
    assert rates(schedule, 6) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], 1.0),
        ([0.9, 0.8], 1.0),
        ([0.8, 0.9], 1.0),
        ([0.8, 0.9, 0.8], 0.5),
        ([0.8, 0.9, 0.7, 0.7], 1.0),
        ([0.8, 0.9, 0.9, 0.9], 0.5),
        ([0.8, 0.9, 0.9, 0.9, 0.9], 0.25),
        ([0.8, 0.9, 0.9, 0.7, 0.9, 0.9], 0.25),
        ([0.8] + [0.9] * 20, 0.1),
        ([0.8, math.nan, math.nan], 0.5),
        ([math.nan, math.nan], 0.5),
    ],
)
def test_plateau_falls_with_the_history(history: list[float], expected: float) -> None:
    schedule = Plateau(initial=1.0, factor=0.5, patience=1, final=0.1)

    assert learning_rate(schedule, len(history) + 1, 30, history) == expected


# -- Against torch --------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 7, 30])
def test_cosine_equals_torch(rounds: int) -> None:
    expected = torch_rates(
        lambda optimiser: lr_scheduler.CosineAnnealingLR(optimiser, rounds, eta_min=0.01), rounds
    )

    assert rates(Cosine(0.4, final=0.01), rounds) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("every", [1, 3, 50])
def test_step_equals_torch(every: int) -> None:
    expected = torch_rates(lambda optimiser: lr_scheduler.StepLR(optimiser, every, gamma=0.7), 30)

    assert rates(Step(initial=0.4, factor=0.7, every=every), 30) == pytest.approx(expected)


@pytest.mark.parametrize(("period", "growth"), [(1, 1), (5, 1), (3, 2), (2, 3)])
def test_warm_restarts_equal_torch(period: int, growth: int) -> None:
    expected = torch_rates(
        lambda optimiser: lr_scheduler.CosineAnnealingWarmRestarts(
            optimiser, period, growth, eta_min=0.01
        ),
        30,
    )
    schedule = WarmRestarts(initial=0.4, final=0.01, period=period, growth=growth)

    assert rates(schedule, 30) == pytest.approx(expected)


@given(
    losses=st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, math.nan]), min_size=1, max_size=20),
    patience=st.integers(0, 3),
)
def test_plateau_equals_torch(losses: list[float], patience: int) -> None:
    schedule = Plateau(initial=1.0, factor=0.5, patience=patience)

    found = [learning_rate(schedule, 1, 1, losses[:n]) for n in range(1, len(losses) + 1)]

    assert found == pytest.approx(torch_plateau(losses, patience))


# -- Properties -----------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_single_round_uses_the_initial_rate(schedule: Schedule) -> None:
    assert learning_rate(schedule, 1, 1) == schedule.initial


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(rounds=st.integers(1, 200), data=st.data())
def test_rates_stay_between_zero_and_the_initial_one(
    schedule: Schedule, rounds: int, data: st.DataObject
) -> None:
    round_ = data.draw(st.integers(1, rounds))

    assert 0 < learning_rate(schedule, round_, rounds) <= schedule.initial


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("round_", [-1, 0, 11])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_round_out_of_range_is_refused(schedule: Schedule, round_: int) -> None:
    with pytest.raises(ValueError, match=r"is not in 1\.\.10"):
        learning_rate(schedule, round_, 10)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Constant(0.0), "initial=0.0, expected a learning rate > 0"),
        (lambda: Constant(math.nan), "initial=nan"),
        (lambda: Constant(math.inf), "initial=inf"),
        (lambda: Cosine(0.1, final=0.2), "final=0.2, expected 0 to initial=0.1"),
        (lambda: Cosine(0.1, final=-0.1), "final=-0.1"),
        (lambda: LogLinear(0.1, final=0.0), "never gets to 0"),
        (lambda: Step(initial=0.1, factor=1.0, every=2), "factor=1.0"),
        (lambda: Step(initial=0.1, factor=0.5, every=0), "every=0, expected 1 or more"),
        (lambda: WarmRestarts(initial=0.1, period=0), "period=0"),
        (lambda: WarmRestarts(initial=0.1, period=2, growth=0), "growth=0"),
        (lambda: Plateau(initial=0.1, factor=0.0, patience=2), "factor=0.0"),
        (lambda: Plateau(initial=0.1, factor=0.5, patience=-1), "patience=-1, expected 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make: Callable[[], Schedule], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make()
