# SPDX-License-Identifier: Apache-2.0
"""A watch over a budget: warns on the way, stops before it, and hands over the last model.

A plan already refuses the step beyond its own end. A watchdog holds a training to a smaller
budget, says so in whole sentences as it is used up, and calls back with the model when it is:
whoever saves that model saves one whose whole history is inside the budget.

It does not charge anything and cannot let anything pass: the training charges itself.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from torch import Tensor, nn

from consilium.dp.plan import View
from consilium.dp.private_training import PrivateTraining, StepReport
from consilium.errors import BudgetExceeded, ConfigError

Weights: TypeAlias = Mapping[str, Tensor]  # a copy of model.state_dict()


def say_nothing(_: str) -> None:
    """Takes a warning and drops it."""


def keep_nothing(_: Weights, __: str) -> None:
    """Takes the last model and drops it; `Watchdog.train` returns it all the same."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Watchdog:
    """What to do on the way to a budget, and at its end.

    Attributes:
        budget_epsilon: At the plan's delta; no step is taken that would exceed it.
        warn_at: Shares of the budget, each of which is told once.
        on_warning: Takes a sentence.
        on_exhausted: Takes a copy of the last weights inside the budget, and a sentence; called
            once, when no further step fits, whether the budget or the plan ends first.

    Raises:
        ConfigError: The budget is not positive and finite, or a share is not within (0, 1).
    """

    budget_epsilon: float
    warn_at: tuple[float, ...] = (0.5, 0.8, 0.95)
    on_warning: Callable[[str], None] = say_nothing
    on_exhausted: Callable[[Weights, str], None] = keep_nothing

    def __post_init__(self) -> None:
        if not 0 < self.budget_epsilon < math.inf:
            raise ConfigError(
                f"budget_epsilon is {self.budget_epsilon}; expected a finite number above 0"
            )
        if not all(0 < share < 1 for share in self.warn_at):
            raise ConfigError(f"warn_at is {self.warn_at}; expected shares between 0 and 1")

    def train(self, private: PrivateTraining) -> nn.Module:
        """Returns the model after all steps that fit: the last one inside the budget.

        Raises:
            BudgetExceeded: What is charged already is beyond the budget.
        """
        for _ in self.steps(private):
            pass
        return private.model

    def steps(self, private: PrivateTraining) -> Iterator[StepReport]:
        """Yields the report of every step that fits, warns in between, and calls back at the end.

        A loop that stops before the end hears nothing of it.

        Raises:
            BudgetExceeded: What is charged already is beyond the budget.
        """
        fitting = private.plan.steps_within(self.budget_epsilon)
        if private.charged > fitting:
            raise BudgetExceeded(
                f"{private.charged} steps are charged, epsilon {private.epsilon:.4g}; expected at "
                f"most {fitting} in a budget of {self.budget_epsilon:g}: this model is beyond it"
            )
        warnings = self._warnings(private, fitting)
        while private.charged < fitting:
            report = private.step()
            for sentence in warnings.pop(report.charged, []):
                self.on_warning(sentence)
            yield report
        weights = {
            name: value.detach().clone() for name, value in private.model.state_dict().items()
        }
        self.on_exhausted(weights, self._last_words(private, fitting))

    def _warnings(self, private: PrivateTraining, fitting: int) -> dict[int, list[str]]:
        """Returns what to say after which step: the first that costs the share or more."""
        said: dict[int, list[str]] = {}
        for share in sorted(set(self.warn_at)):
            step = private.plan.steps_within(share * self.budget_epsilon) + 1
            if private.charged < step <= fitting:
                said.setdefault(step, []).append(
                    f"step {step} of {fitting}: {share:.0%} of the privacy budget is used, epsilon "
                    f"{private.plan.epsilon(step, View.PARTICIPANT):.4g} of "
                    f"{self.budget_epsilon:g} at delta {private.plan.delta:g}; "
                    f"{fitting - step} steps are left"
                )
        return said

    def _last_words(self, private: PrivateTraining, fitting: int) -> str:
        plan = private.plan
        why = (
            f"the plan of {plan.steps} steps is spent"
            if fitting == plan.steps
            else f"step {fitting + 1} would cost epsilon "
            f"{plan.epsilon(fitting + 1, View.PARTICIPANT):.4g}"
        )
        return (
            f"training stopped after step {fitting}: epsilon "
            f"{plan.epsilon(fitting, View.PARTICIPANT):.4g} of {self.budget_epsilon:g} at delta "
            f"{plan.delta:g} is used, and {why}; this is the last model inside the budget"
        )
