# SPDX-License-Identifier: Apache-2.0
"""The question "what if I only allow this much?": priced by the accountant.

Guarantees: the rounds that fit a smaller epsilon are those that the accountant prices within it
in the worst view; where a contract does not say enough to price a step, there is no answer.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import cast

from consilium.dp.accounting import Accountant, steps_within
from consilium.dp.plan import calibrated_noise
from consilium.errors import ConsiliumError
from consilium.governance.contract import Contract
from consilium.web.pages.views import Allowed, Price, WhatIf

_STEPS = 20  # of the slider


def what_if(contract: Contract, price: Price, asked: str | None) -> WhatIf | None:
    """Returns the answer to `asked`, half the price where nothing was asked yet."""
    promised = contract.guarantee
    if promised is None or not price.alone > 0:
        return None
    wanted, error = _read(asked, price.alone)
    rounds = _rounds_within(contract, wanted)
    if rounds is None:
        return None
    highest = price.alone
    return WhatIf(
        dataset=price.dataset,
        lowest=round(highest / _STEPS, 4),
        highest=highest,
        step=round(highest / _STEPS, 4),
        rounds=promised.steps,
        error=error,
        asked=Allowed(
            epsilon=wanted,
            rounds=min(rounds, promised.steps),
            remains=max(0.0, price.cap - price.before - wanted),
            more=int(max(0.0, price.cap - price.before - wanted) // wanted),
        ),
    )


def _read(asked: str | None, highest: float) -> tuple[float, str]:
    if asked is None:
        return highest / 2, ""
    try:
        value = float(asked.replace(",", "."))
    except ValueError:
        value = -1.0
    if not 0 < value <= highest * (1 + 1e-9) + 0.01:
        return highest / 2, f"Type a number above 0, at most {highest:.2f}"
    return min(value, highest), ""


def _rounds_within(contract: Contract, epsilon: float) -> int | None:
    """Returns the steps that fit, or None where the contract does not name its noise."""
    promised, dp = contract.guarantee, contract.project.get("dp")
    if promised is None or not isinstance(dp, Mapping):
        return None
    settings = cast("Mapping[str, object]", dp)
    batch, patients = _positive(settings, "expected_batch"), _positive(settings, "patients")
    accountant: Accountant = "rdp" if settings.get("accountant") == "rdp" else "pld"
    if batch is None or patients is None:
        return None
    target = _positive(settings, "target_epsilon")
    noise = _positive(settings, "noise_multiplier")
    if noise is None and target is not None:
        noise = _noise(target, promised.delta, batch / patients, promised.steps, accountant)
    if noise is None:
        return None
    return _steps(epsilon, promised.delta, batch / patients, noise, accountant)


def _positive(settings: Mapping[str, object], name: str) -> float | None:
    value = settings.get(name)
    return float(value) if isinstance(value, int | float) and value > 0 else None


@lru_cache(maxsize=64)
def _noise(
    target: float, delta: float, probability: float, steps: int, accountant: Accountant
) -> float | None:
    try:
        return calibrated_noise(
            target_epsilon=target,
            delta=delta,
            sampling_probability=probability,
            steps=steps,
            accountant=accountant,
        )
    except ConsiliumError:
        return None


@lru_cache(maxsize=256)
def _steps(
    epsilon: float, delta: float, probability: float, noise: float, accountant: Accountant
) -> int | None:
    try:
        return steps_within(
            budget_epsilon=epsilon,
            delta=delta,
            sampling_probability=probability,
            noise_multiplier=noise,
            accountant=accountant,
        )
    except ConsiliumError:
        return None
