# SPDX-License-Identifier: Apache-2.0
"""How the coordinator moves from one model to the next: the visible training loop, one turn.

A turn takes what a round opened (a noised sum of clipped gradients, or a sum of local
changes) and returns the next weights. With differential privacy everything here is
post-processing of a released sum and costs nothing.
"""

from dataclasses import dataclass, field, replace
from typing import final

from consilium.learning.averaging import WeightAverage, no_average_yet
from consilium.learning.optimisers import Optimiser, OptimiserState, initial, update
from consilium.learning.parameters import Vector
from consilium.learning.schedules import Schedule, learning_rate
from consilium.learning.stopping import EarlyStopping


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Agenda:
    """What the coordinator will do, the same for every engine.

    Attributes:
        rounds: Most rounds.
        schedule: Learning rate of each round.
        optimiser: What turns a gradient into a step (gradient rounds only).
        average_decay: Of the moving average of weights that is released; 0 releases the last.
        evaluate_every: Rounds between two looks at the validation records.
        patience: Rounds without a better score before training stops; None never does.
    """

    rounds: int
    schedule: Schedule
    optimiser: Optimiser
    average_decay: float
    evaluate_every: int
    patience: int | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One look at the validation records."""

    round: int
    loss: float
    auc: float | None
    accuracy: float
    dice: float | None = None

    @property
    def score(self) -> float:
        """Larger is better: the Dice of label maps; else the AUC, or without one the accuracy."""
        defined = (value for value in (self.dice, self.auc) if value is not None)
        return next(defined, self.accuracy)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where training stands between two rounds; a checkpoint is this and nothing else.

    Attributes:
        round: Rounds that changed the model.
        attempts: Rounds that were started; the number of the last one.
        weights: Shape (dimension,), float32.
        optimiser: Its memory.
        average: Moving average of the weights.
        history: Every look at the validation records.
        best: Weights of the best look; kept only with patience.
    """

    round: int
    attempts: int
    weights: Vector = field(repr=False)
    optimiser: OptimiserState = field(repr=False)
    average: WeightAverage = field(repr=False)
    history: tuple[Validation, ...] = ()
    best: Vector | None = field(default=None, repr=False)


def begin(agenda: Agenda, weights: Vector) -> Progress:
    """Returns the progress before the first round."""
    return Progress(
        round=0,
        attempts=0,
        weights=weights,
        optimiser=initial(agenda.optimiser, len(weights)),
        average=no_average_yet(agenda.average_decay, len(weights)),
    )


def rate_of_next(agenda: Agenda, progress: Progress) -> float:
    """Returns the learning rate of the round after `progress`."""
    losses = [look.loss for look in progress.history]
    return learning_rate(agenda.schedule, progress.round + 1, agenda.rounds, losses)


def step_by_gradient(agenda: Agenda, progress: Progress, gradient: Vector) -> Progress:
    """Returns the progress after one optimiser step against `gradient`, shape (dimension,)."""
    state, weights = update(
        agenda.optimiser,
        progress.optimiser,
        gradient,
        rate_of_next(agenda, progress),
        progress.weights,
    )
    return _moved(replace(progress, optimiser=state), weights)


def step_by_change(progress: Progress, change: Vector) -> Progress:
    """Returns the progress after adding the sites' average `change`, shape (dimension,)."""
    return _moved(progress, progress.weights + change)


def looked(agenda: Agenda, progress: Progress, look: Validation) -> Progress:
    """Returns the progress with one more look; keeps the weights if it is the best so far."""
    better = all(look.score > old.score for old in progress.history)
    best = released(progress) if agenda.patience is not None and better else progress.best
    return replace(progress, history=(*progress.history, look), best=best)


def released(progress: Progress) -> Vector:
    """Returns the weights to evaluate: the moving average, once there is one."""
    return progress.average.weights() if progress.round else progress.weights


def final_weights(progress: Progress) -> Vector:
    """Returns the model of the run: the best look's with patience, else the last."""
    return released(progress) if progress.best is None else progress.best


def out_of_patience(agenda: Agenda, progress: Progress) -> bool:
    """Returns whether no look of the last `patience` rounds was better than those before."""
    if agenda.patience is None:
        return False
    stopping = EarlyStopping(patience=agenda.patience)
    for look in progress.history:
        stopping = stopping.observe(look.round, look.score)
    return stopping.should_stop


def _moved(progress: Progress, weights: Vector) -> Progress:
    average = progress.average.include(weights)
    return replace(progress, round=progress.round + 1, weights=weights, average=average)
