# SPDX-License-Identifier: Apache-2.0
"""The claim of a private training, held against an attack in one run, as in a real audit.

Each canary is a patient whose gradient is a direction of its own, and who takes part by the toss
of a coin: the worst patients there can be. The attacker reads off how far the model moved.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch import Tensor, nn
from torch.optim import SGD

from consilium.attacks.one_run_audit import guess, lower_bound
from consilium.dp.clip_kinds import Automatic, Clipping, PerLayer, Quantile
from consilium.dp.clipping import PatientBatch
from consilium.dp.plan import Plan, View, alone
from consilium.dp.private_training import privatize

torch.set_num_threads(1)

CANARIES = 1000
DELTA = 1e-6
STEPS = 4
CLAIMED = Plan(
    sampling_probability=1.0,
    patients=CANARIES,
    l2_clip_norm=1.0,
    noise_multiplier=3.0,  # four steps are one of noise 1.5
    steps=STEPS,
    delta=DELTA,
    dimension=CANARIES,
    shares=alone(1),
    bits=32,
)


class Directions(nn.Module):
    """Its gradient is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CANARIES))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight


def shown(plan: Plan, sampled: float = 1.0) -> float:
    """Returns the epsilon that one run under `plan` shows, at 99 % confidence."""
    included = default_rng(7).random(CANARIES) < 0.5
    rows = int(included.sum())
    records = PatientBatch(
        inputs=10 * torch.eye(CANARIES)[torch.from_numpy(included)],
        labels=torch.zeros(rows, dtype=torch.int64),
        patients=torch.arange(rows),
    )
    model = Directions()
    plan = replace(plan, sampling_probability=sampled)
    optimiser = SGD(model.parameters(), lr=1.0)
    list(privatize(model, lambda outputs, _: outputs, records, plan, optimiser).steps(STEPS))
    scores = -model.weight.detach().double().numpy()
    guesses = guess(included, np.asarray(scores), made=400)
    return lower_bound(guesses, delta=DELTA, confidence=0.99)


@pytest.mark.parametrize("sampled", [1.0, 0.5])
def test_the_attack_stays_below_the_claim(sampled: float) -> None:
    claimed = replace(CLAIMED, sampling_probability=sampled).epsilon(STEPS, View.OUTSIDER)

    assert shown(CLAIMED, sampled) < claimed


@pytest.mark.parametrize("kind", [PerLayer(), Automatic(), Quantile(learning_rate=0.5)])
def test_the_attack_stays_below_the_claim_with_every_kind_of_clipping(kind: Clipping) -> None:
    plan = replace(CLAIMED, clipping=kind, dimension=CANARIES + 1)

    assert 0.2 < shown(plan) < plan.epsilon(STEPS, View.OUTSIDER)


def test_the_attack_sees_something_so_the_test_can_fail() -> None:
    assert shown(CLAIMED) > 0.2


@pytest.mark.parametrize("divided", [5, 8])
def test_the_attack_exceeds_the_claim_when_noise_is_divided(divided: int) -> None:
    claimed = CLAIMED.epsilon(STEPS, View.OUTSIDER)

    assert shown(replace(CLAIMED, noise_multiplier=3.0 / divided)) > claimed
