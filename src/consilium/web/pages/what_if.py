# SPDX-License-Identifier: Apache-2.0
"""The question "what if I only allow this much?", answered by accountant and ledger.

Guarantees: the rounds that fit a smaller epsilon are those that the accountant prices within it
in the worst view, and what then remains is the ledger's own figure for that many; where a
contract does not say enough to price a step, there is no answer.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast, final

from consilium.dp.accounting import Accountant, steps_within
from consilium.dp.plan import calibrated_noise
from consilium.errors import ConsiliumError
from consilium.governance.contract import Contract
from consilium.web.pages.views import Allowed, Price, WhatIf

_STEPS: Final = 20  # of the slider


@final
@dataclass(frozen=True, slots=True)
class _Sampling:
    delta: float
    probability: float
    accountant: Accountant


def what_if(
    contract: Contract, price: Price, asked: str | None, price_of: Callable[[int], Price | None]
) -> WhatIf | None:
    """Returns the answer to `asked`, to half the price where nothing was asked yet.

    Args:
        contract: Of the project.
        price: Of all its steps.
        asked: As it was typed, or None.
        price_of: The ledger's price of a number of steps.
    """
    promised = contract.guarantee
    if promised is None or not price.alone > 0:
        return None
    wanted, error = _read(asked, price.alone)
    fitting = _rounds_within(contract, wanted)
    if fitting is None:
        return None
    rounds = min(fitting, promised.steps)
    then = price_of(rounds) if rounds else None
    remains = then.remains if then else price.cap - price.before
    step = round(price.alone / _STEPS, 4)
    return WhatIf(
        dataset=price.dataset,
        lowest=step,
        highest=math.ceil(price.alone * 100) / 100,
        step=step,
        rounds=promised.steps,
        error=error,
        asked=Allowed(
            epsilon=wanted,
            rounds=rounds,
            remains=max(0.0, remains),
            more=int(max(0.0, remains) // wanted),
        ),
    )


def _read(asked: str | None, highest: float) -> tuple[float, str]:
    if asked is None:
        return highest / 2, ""
    try:
        value = float(asked.replace(",", "."))
    except ValueError:
        value = -1.0
    most = math.ceil(highest * 100) / 100
    if not 0 < value <= most:
        return highest / 2, f"Type a number above 0, at most {most:.2f}"
    return min(value, highest), ""


def _rounds_within(contract: Contract, epsilon: float) -> int | None:
    """Returns the steps that fit, or None where the contract does not name its noise."""
    promised, dp = contract.guarantee, contract.project.get("dp")
    if promised is None or not isinstance(dp, Mapping):
        return None
    settings = cast("Mapping[str, object]", dp)
    batch, patients = _positive(settings, "expected_batch"), _positive(settings, "patients")
    if batch is None or patients is None:
        return None
    accountant: Accountant = "rdp" if settings.get("accountant") == "rdp" else "pld"
    noise, target = _positive(settings, "noise_multiplier"), _positive(settings, "target_epsilon")
    sampling = _Sampling(promised.delta, batch / patients, accountant)
    try:
        if noise is None and target is not None:
            noise = _noise(sampling, target, _rounds(contract) or promised.steps)
        return None if noise is None else _steps(sampling, epsilon, noise)
    except ConsiliumError:
        return None


def _positive(settings: Mapping[str, object], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _rounds(contract: Contract) -> int | None:
    training = contract.project.get("training")
    rounds = training.get("rounds") if isinstance(training, Mapping) else None
    return rounds if isinstance(rounds, int) else None


@lru_cache(maxsize=64)
def _noise(sampling: _Sampling, target: float, steps: int) -> float:
    return calibrated_noise(
        target_epsilon=target,
        delta=sampling.delta,
        sampling_probability=sampling.probability,
        steps=steps,
        accountant=sampling.accountant,
    )


@lru_cache(maxsize=256)
def _steps(sampling: _Sampling, epsilon: float, noise: float) -> int:
    return steps_within(
        budget_epsilon=epsilon,
        delta=sampling.delta,
        sampling_probability=sampling.probability,
        noise_multiplier=noise,
        accountant=sampling.accountant,
    )
