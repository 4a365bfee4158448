# SPDX-License-Identifier: Apache-2.0
"""Tests of the watchdog: it warns, it stops, it hands over the last model."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD

from consilium.dp.clipping import PatientBatch
from consilium.dp.plan import Plan, View, alone
from consilium.dp.private_training import Parts, PrivateTraining
from consilium.dp.watchdog import Watchdog, Weights
from consilium.errors import BudgetExceeded, ConfigError

torch.set_num_threads(1)

PLAN = Plan(
    sampling_probability=0.5,
    patients=20,
    l2_clip_norm=1.0,
    noise_multiplier=3.0,
    steps=12,
    delta=1e-3,
    dimension=8,
    shares=alone(1),
    accountant="rdp",
)
BUDGET = (PLAN.epsilon(8, View.PARTICIPANT) + PLAN.epsilon(9, View.PARTICIPANT)) / 2


@dataclass
class Heard:
    """What a watchdog said, and what it handed over."""

    warnings: list[str] = field(default_factory=list)
    ends: list[tuple[Weights, str]] = field(default_factory=list)

    def watchdog(self, budget: float = BUDGET, warn_at: tuple[float, ...] = ()) -> Watchdog:
        return Watchdog(
            budget_epsilon=budget,
            warn_at=warn_at,
            on_warning=self.warnings.append,
            on_exhausted=lambda weights, words: self.ends.append((weights, words)),
        )


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")


def training(charged: int = 0) -> PrivateTraining:
    model = nn.Linear(3, 2)
    records = PatientBatch(
        inputs=torch.ones(20, 3),
        labels=torch.zeros(20, dtype=torch.int64),
        patients=torch.arange(20),
    )
    return PrivateTraining(
        Parts(
            model=model,
            loss=loss,
            records=records,
            plan=PLAN,
            optimiser=SGD(model.parameters(), lr=0.1),
            charged=charged,
        )
    )


# -- Stop -----------------------------------------------------------------------------


def test_it_stops_at_the_last_step_inside_the_budget() -> None:
    private = training()

    model = Heard().watchdog().train(private)

    assert private.charged == 8
    assert PLAN.epsilon(8, View.PARTICIPANT) <= BUDGET < PLAN.epsilon(9, View.PARTICIPANT)
    assert model is private.model


def test_it_stops_with_the_plan_under_a_larger_budget() -> None:
    private, heard = training(), Heard()

    heard.watchdog(99.0).train(private)

    assert private.charged == 12
    assert "the plan of 12 steps is spent" in heard.ends[0][1]


def test_a_restart_gets_what_is_left() -> None:
    private = training(charged=6)

    assert len(list(Heard().watchdog().steps(private))) == 2


def test_a_training_beyond_the_budget_is_refused_and_nothing_handed_over() -> None:
    heard = Heard()

    with pytest.raises(BudgetExceeded, match=r"9 steps are charged.*at most 8 in a budget"):
        heard.watchdog().train(training(charged=9))

    assert heard.ends == []


# -- Save -----------------------------------------------------------------------------


def test_the_last_model_is_handed_over_once_as_a_copy() -> None:
    private, heard = training(), Heard()

    model = heard.watchdog().train(private)

    ((weights, _),) = heard.ends
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())
    nn.init.zeros_(next(model.parameters()))
    assert weights["weight"].any()


def test_a_budget_too_small_for_a_step_hands_over_the_first_model() -> None:
    private, heard = training(), Heard()
    before = private.model.state_dict()["weight"].clone()

    heard.watchdog(1e-3).train(private)

    assert private.charged == 0
    assert heard.ends[0][0]["weight"].equal(before)


def test_a_loop_that_stops_early_is_handed_nothing() -> None:
    heard = Heard()

    next(heard.watchdog().steps(training()))

    assert heard.ends == []


# -- Warn -----------------------------------------------------------------------------


def test_each_share_is_told_once_at_the_first_step_that_reaches_it() -> None:
    private, heard = training(), Heard()

    watched = heard.watchdog(warn_at=(0.5, 0.8)).steps(private)
    seen = [(report.charged, len(heard.warnings)) for report in watched]

    told = {
        share: min(step for step, said in seen if said > k) for k, share in enumerate((0.5, 0.8))
    }
    for share, step in told.items():
        assert PLAN.epsilon(step - 1, View.PARTICIPANT) <= share * BUDGET
        assert PLAN.epsilon(step, View.PARTICIPANT) > share * BUDGET
    assert len(heard.warnings) == len(set(heard.warnings)) == 2


def test_the_messages_are_whole_sentences() -> None:
    heard = Heard()

    heard.watchdog(warn_at=(0.5,)).train(training())

    first, last = heard.warnings[0], heard.ends[0][1]
    step = int(first.split()[1])
    used = PLAN.epsilon(step, View.PARTICIPANT)
    assert first == (
        f"step {step} of 8: 50% of the privacy budget is used, epsilon {used:.4g} of {BUDGET:g} at "
        f"delta 0.001; {8 - step} steps are left"
    )
    assert last == (
        f"training stopped after step 8: epsilon {PLAN.epsilon(8, View.PARTICIPANT):.4g} of "
        f"{BUDGET:g} at delta 0.001 is used, and step 9 would cost epsilon "
        f"{PLAN.epsilon(9, View.PARTICIPANT):.4g}; this is the last model inside the budget"
    )


def test_a_restart_does_not_repeat_a_warning() -> None:
    heard = Heard()

    heard.watchdog(warn_at=(0.8,)).train(training(charged=8))

    assert heard.warnings == []


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0.0, -1.0, float("inf"), float("nan")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(ConfigError, match="budget_epsilon"):
        Watchdog(budget_epsilon=budget)


@pytest.mark.parametrize("share", [0.0, 1.0, 80.0])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="warn_at"):
        Watchdog(budget_epsilon=1.0, warn_at=(0.5, share))
