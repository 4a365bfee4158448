# SPDX-License-Identifier: Apache-2.0
"""Tests of the training loop: the learning rate of every round, steps, averages, the best model."""

from dataclasses import replace

import numpy as np
import pytest
from tests.federation.conftest import Play, losing_all, make

from consilium import wire
from consilium.federation.messages import FROM_COORDINATOR, RoundStart
from consilium.federation.progress import (
    Agenda,
    Progress,
    Validation,
    begin,
    final_weights,
    looked,
    out_of_patience,
    rate_of_next,
    released,
    step_by_change,
    step_by_gradient,
)
from consilium.learning.optimisers import Adam, Sgd
from consilium.learning.schedules import (
    Constant,
    Cosine,
    LogLinear,
    Plateau,
    Schedule,
    Step,
    WarmRestarts,
)

ONES = np.ones(2, np.float32)
SCHEDULES: dict[str, tuple[Schedule, list[float]]] = {
    "constant": (Constant(0.4), [0.4] * 6),
    "step": (Step(initial=0.8, factor=0.5, every=2), [0.8, 0.8, 0.4, 0.4, 0.2, 0.2]),
    "cosine": (Cosine(1.0), [0.5 + 0.5 * np.cos(np.pi * k / 6) for k in range(6)]),
    "log-linear": (LogLinear(1.0, 1e-5), [1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5]),
    "warm-restarts": (WarmRestarts(initial=1.0, period=2), [1.0, 0.5] * 3),
    "plateau": (Plateau(initial=1.0, factor=0.5, patience=0), [1.0, 1.0, 0.5, 0.25, 0.125, 0.0625]),
}


def agenda(schedule: Schedule | None = None, patience: int | None = None) -> Agenda:
    return Agenda(
        rounds=6,
        schedule=schedule or Constant(0.5),
        optimiser=Sgd(0.0),
        average_decay=0.0,
        evaluate_every=1,
        patience=patience,
    )


def look(number: int, accuracy: float, auc: float | None = None) -> Validation:
    return Validation(round=number, loss=1.0, auc=auc, accuracy=accuracy)


def after_looks(own: Agenda, *scores: float) -> Progress:
    """Returns the progress after rounds of weights (1, 1), (2, 2), ... with these accuracies."""
    progress = begin(own, np.zeros(2, np.float32))
    for number, score in enumerate(scores, start=1):
        progress = looked(own, step_by_change(progress, ONES), look(number, score))
    return progress


# -- Learning rates -------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_learning_rate_of_every_round_is_the_schedules(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    own = agenda(schedule)
    progress, rates = begin(own, ONES), []

    for number in range(1, 7):
        rates.append(rate_of_next(own, progress))
        progress = looked(own, step_by_change(progress, ONES), look(number, 0.5))

    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("arm", ["federated", "federated-dp"])
def test_every_round_is_told_the_learning_rate_of_the_schedule(arm: str, name: str) -> None:
    schedule, expected = SCHEDULES[name]
    setup = make(arm, training__rounds="6", training__evaluate_every="1")
    play = Play(replace(setup, agenda=replace(setup.agenda, schedule=schedule)))

    play.run()

    assert told_rates(play) == pytest.approx(expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_round_that_was_abandoned_does_not_move_the_schedule(name: str) -> None:
    schedule, expected = SCHEDULES[name]
    setup = make(training__rounds="6", training__evaluate_every="1")
    own = replace(setup, agenda=replace(setup.agenda, schedule=schedule), steps_allowed=None)
    play = Play(own, lost=losing_all(RoundStart, until=3))

    play.run()

    assert told_rates(play) == pytest.approx(expected)
    assert play.state.progress.attempts == 8


def told_rates(play: Play) -> list[float]:
    words = [wire.decode(data, FROM_COORDINATOR, limit=100_000) for data in play.told[0]]
    return [word.learning_rate for word in words if isinstance(word, RoundStart)]


# -- Steps ----------------------------------------------------------------------------


def test_a_gradient_step_goes_against_the_gradient_at_the_rounds_rate() -> None:
    own = agenda(Step(initial=1.0, factor=0.5, every=1))
    progress = step_by_gradient(own, begin(own, ONES), ONES)

    progress = step_by_gradient(own, progress, ONES)

    assert progress.weights.tolist() == [1 - 1.0 - 0.5] * 2
    assert progress.round == 2


@pytest.mark.parametrize(("optimiser", "moved"), [(Sgd(0.5), 0.5 + 0.75), (Adam(), 0.5 + 0.5)])
def test_the_optimiser_remembers_between_rounds(optimiser: Sgd | Adam, moved: float) -> None:
    own = replace(agenda(), optimiser=optimiser)

    progress = step_by_gradient(own, step_by_gradient(own, begin(own, ONES), ONES), ONES)

    assert progress.weights.tolist() == pytest.approx([1 - moved] * 2, abs=1e-6)
    assert progress.optimiser.steps == 2


def test_a_change_is_added_as_it_is() -> None:
    progress = step_by_change(begin(agenda(), ONES), np.array([0.25, -1], np.float32))

    assert progress.weights.tolist() == [1.25, 0.0]
    assert progress.round == 1


def test_a_step_leaves_the_progress_before_it_as_it_was() -> None:
    before = begin(agenda(), ONES)

    step_by_gradient(agenda(), before, ONES)

    assert before.weights.tolist() == [1, 1]
    assert before.round == 0


# -- What is released -----------------------------------------------------------------


def test_before_the_first_round_the_first_weights_are_released() -> None:
    assert released(begin(agenda(), ONES)).tolist() == [1, 1]


def test_without_decay_the_last_weights_are_released() -> None:
    assert released(after_looks(agenda(), 0.5, 0.5)).tolist() == [2, 2]


def test_with_decay_the_moving_average_is_released() -> None:
    own = replace(agenda(), average_decay=0.5)

    progress = after_looks(own, 0.5, 0.5, 0.5)

    expected = (0.125 * 1 + 0.25 * 2 + 0.5 * 3) / 0.875
    assert released(progress).tolist() == pytest.approx([expected] * 2)


def test_without_patience_the_last_model_is_final() -> None:
    assert final_weights(after_looks(agenda(), 0.9, 0.1)).tolist() == [2, 2]


def test_with_patience_the_best_model_is_final() -> None:
    assert final_weights(after_looks(agenda(patience=5), 0.5, 0.9, 0.1)).tolist() == [2, 2]


def test_of_two_equal_looks_the_first_is_the_best() -> None:
    assert final_weights(after_looks(agenda(patience=5), 0.9, 0.9)).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("scores", "out"),
    [
        ((), False),
        ((0.5,), False),
        ((0.5, 0.5), False),
        ((0.5, 0.5, 0.5), True),
        ((5, 6, 7), False),
    ],
)
def test_patience_ends_after_as_many_rounds_without_a_better_look(
    scores: tuple[float, ...],
    out: bool,
) -> None:
    own = agenda(patience=2)

    assert out_of_patience(own, after_looks(own, *scores)) is out


def test_without_patience_it_never_ends() -> None:
    assert not out_of_patience(agenda(), after_looks(agenda(), 0.9, 0.1, 0.1, 0.1, 0.1))


def test_a_look_is_judged_by_its_auc_or_else_by_its_accuracy() -> None:
    assert look(1, 0.6, auc=0.8).score == 0.8
    assert look(1, 0.6).score == 0.6


def test_the_score_of_label_maps_is_the_dice() -> None:
    assert replace(look(1, 0.99), dice=0.4).score == 0.4


def test_weights_do_not_print() -> None:
    assert "array" not in repr(after_looks(agenda(patience=1), 0.5))
