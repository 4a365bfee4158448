# SPDX-License-Identifier: Apache-2.0
"""`consilium epsilon` and `consilium calibrate`."""

import json as json_
import math

import typer

from consilium.dp.accounting import Accountant, epsilon, poisson_gaussian
from consilium.dp.plan import calibrated_noise, membership_advantage
from consilium.errors import ConfigError
from consilium.federation.statement import NEIGHBOURS, round_up
from consilium.web.formats import right_guesses


def show_epsilon(
    *,
    sampling_probability: float,
    noise_multiplier: float,
    steps: int,
    delta: float,
    accountant: Accountant,
    json: bool,
) -> None:
    """Prints the epsilon of a training, rounded up.

    Raises:
        ConfigError: A number is out of range.
    """
    try:
        event = poisson_gaussian(
            sampling_probability=sampling_probability,
            noise_multiplier=noise_multiplier,
            steps=steps,
        )
        cost = epsilon(event, delta, accountant)
    except ValueError as error:
        raise ConfigError(f"{error}; see consilium epsilon --help") from None
    advantage = membership_advantage(cost, delta)
    facts = {
        "epsilon": round_up(cost) if math.isfinite(cost) else "infinite",
        "delta": delta,
        "sampling_probability": sampling_probability,
        "noise_multiplier": noise_multiplier,
        "steps": steps,
        "accountant": accountant,
        "sampling": "Poisson",
        "neighbouring_relation": NEIGHBOURS,
        "membership_advantage": advantage,
    }
    sentence = (
        f"epsilon {facts['epsilon']} at delta {delta:g} ({accountant}, Poisson sampling, "
        f"add or remove one); whoever guesses if a patient took part is right at most "
        f"{right_guesses(advantage)} of the time"
    )
    typer.echo(json_.dumps(facts) if json else sentence)


def show_noise(
    *,
    target_epsilon: float,
    sampling_probability: float,
    steps: int,
    delta: float,
    accountant: Accountant,
    json: bool,
) -> None:
    """Prints the noise multiplier that keeps a training within `target_epsilon`.

    Raises:
        ConfigError: A number is out of range.
    """
    try:
        noise = calibrated_noise(
            target_epsilon=target_epsilon,
            delta=delta,
            sampling_probability=sampling_probability,
            steps=steps,
            accountant=accountant,
        )
    except ValueError as error:
        raise ConfigError(f"{error}; see consilium calibrate --help") from None
    facts = {
        "noise_multiplier": noise,
        "target_epsilon": target_epsilon,
        "delta": delta,
        "sampling_probability": sampling_probability,
        "steps": steps,
        "accountant": accountant,
    }
    sentence = f"noise multiplier {noise:.6g} keeps epsilon within {target_epsilon:g}"
    typer.echo(json_.dumps(facts) if json else sentence)
