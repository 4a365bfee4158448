# SPDX-License-Identifier: Apache-2.0
"""`consilium epsilon` and `consilium calibrate`."""

import json
import math
from dataclasses import dataclass
from typing import final

import typer

from consilium.dp.accounting import Accountant, epsilon, poisson_gaussian
from consilium.dp.plan import calibrated_noise, membership_advantage
from consilium.errors import ConfigError
from consilium.federation.statement import NEIGHBOURS, round_up
from consilium.web.formats import right_guesses


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What both questions are about: steps of Poisson sampling and Gaussian noise."""

    sampling_probability: float
    steps: int
    delta: float
    accountant: Accountant


def show_epsilon(of: Steps, noise_multiplier: float, *, as_json: bool) -> None:
    """Prints the epsilon of a training, rounded up.

    Raises:
        ConfigError: A number is out of range.
    """
    try:
        event = poisson_gaussian(
            sampling_probability=of.sampling_probability,
            noise_multiplier=noise_multiplier,
            steps=of.steps,
        )
        cost = epsilon(event, of.delta, of.accountant)
    except ValueError as error:
        raise ConfigError(f"{error}; see consilium epsilon --help") from None
    shown = round_up(cost) if math.isfinite(cost) else "infinite"
    advantage = membership_advantage(cost, of.delta)
    sentence = (
        f"epsilon {shown} at delta {of.delta:g} ({of.accountant}, Poisson sampling, add or remove "
        f"one); whoever guesses if a patient took part is right at most {right_guesses(advantage)} "
        "of the time"
    )
    facts = {"epsilon": shown, **_facts(of), "noise_multiplier": noise_multiplier}
    typer.echo(json.dumps(facts | {"membership_advantage": advantage}) if as_json else sentence)


def show_noise(of: Steps, target_epsilon: float, *, as_json: bool) -> None:
    """Prints the noise multiplier that keeps a training within `target_epsilon`.

    Raises:
        ConfigError: A number is out of range.
    """
    try:
        noise = calibrated_noise(
            target_epsilon=target_epsilon,
            delta=of.delta,
            sampling_probability=of.sampling_probability,
            steps=of.steps,
            accountant=of.accountant,
        )
    except ValueError as error:
        raise ConfigError(f"{error}; see consilium calibrate --help") from None
    facts = {"noise_multiplier": noise, "target_epsilon": target_epsilon, **_facts(of)}
    sentence = f"noise multiplier {noise:.6g} keeps epsilon within {target_epsilon:g}"
    typer.echo(json.dumps(facts) if as_json else sentence)


def _facts(of: Steps) -> dict[str, str | float]:
    return {
        "delta": of.delta,
        "sampling_probability": of.sampling_probability,
        "steps": of.steps,
        "accountant": of.accountant,
        "sampling": "Poisson",
        "neighbouring_relation": NEIGHBOURS,
    }
