# SPDX-License-Identifier: Apache-2.0
"""Tools that are said to make private training more accurate, each on and off on a recipe.

    python benchmarks/utility.py mnist --tools none,batch-2,views-4 --rates 8,11,16 --seeds 3

The arm is central-dp with one view an image; every tool meets the recipe's epsilon and delta. For
each tool the learning rate is chosen by the mean validation score over the seeds (AUC, or accuracy
where a recipe has more than two classes). Writes benchmarks/out/OUT_RECIPE.json. An experiment on
open data, with seeded noise: nothing here may be released.
"""

import argparse
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final

import numpy as np
import torch
from correlated_noise import ARM, HERE, Mechanism, figures, mechanisms, seen, train, write

import consilium
from consilium.adapters.dataset import Ready, make_ready, public_facts, read_dataset
from consilium.federation.contribution import Trainee
from consilium.federation.progress import Agenda, Progress, rate_of_next, step_by_gradient
from consilium.federation.project import Project
from consilium.learning.models.standardised_convolution import folded
from consilium.learning.parameters import Vector
from consilium.learning.schedules import Constant


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """What differs from the recipe.

    Attributes:
        changes: Settings of the project.
        batch_factor: Times the expected batch.
        warm_up: Rounds in which the learning rate rises from 0.
        floor: Least denominator of Adam after the noise's variance is taken off; None is not.
        plain_convolutions: Weights are not standardised, from the same first network.
        noise: False shows what is left when noise costs nothing.
    """

    changes: Mapping[str, str] = field(default_factory=dict)
    batch_factor: float = 1.0
    warm_up: int = 0
    floor: float | None = None
    plain_convolutions: bool = False
    noise: bool = True


ADAM: Final = {"optimiser.name": "adam"}
TOOLS: Final = {
    "none": Tool(),
    "no-noise": Tool(noise=False),
    "no-average": Tool(changes={"training.average_decay": "0.0"}),
    "batch-2": Tool(batch_factor=2),
    "batch-2-warm": Tool(batch_factor=2, warm_up=10),
    "warm": Tool(warm_up=10),
    "adam": Tool(changes=ADAM),
    "adam-corrected-1e-4": Tool(changes=ADAM, floor=1e-4),
    "adam-corrected-3e-4": Tool(changes=ADAM, floor=3e-4),
    "adam-corrected-1e-3": Tool(changes=ADAM, floor=1e-3),
    "adam-corrected-3e-3": Tool(changes=ADAM, floor=3e-3),
    "views-2": Tool(changes={"training.views": "2"}),
    "views-4": Tool(changes={"training.views": "4"}),
    "views-8": Tool(changes={"training.views": "8"}),
    "views-4-batch-2": Tool(changes={"training.views": "4"}, batch_factor=2),
    "small-cnn": Tool(changes={"model.name": "small-cnn"}),
    "nf-resnet": Tool(changes={"model.name": "nf-resnet"}),
    "nf-resnet-plain": Tool(changes={"model.name": "nf-resnet"}, plain_convolutions=True),
}


# -- Tools ----------------------------------------------------------------------------


def stepper(
    tool: Tool, project: Project, mechanism: Mechanism
) -> Callable[[Agenda, Progress, Vector], Progress]:
    """Returns how the coordinator steps with `tool`."""
    assert project.dp is not None
    deviation = mechanism.noise_multiplier * project.dp.l2_clip_norm / mechanism.expected_batch

    def step(agenda: Agenda, progress: Progress, gradient: Vector) -> Progress:
        if tool.warm_up:
            share = min(1.0, (progress.round + 1) / tool.warm_up)
            agenda = replace(agenda, schedule=Constant(share * rate_of_next(agenda, progress)))
        moved = step_by_gradient(agenda, progress, gradient)
        return moved if tool.floor is None else _corrected(agenda, progress, moved)

    def _corrected(agenda: Agenda, before: Progress, moved: Progress) -> Progress:
        """Tang et al. 2024, algorithm 1 (arXiv:2312.14334): the noise's share of v taken off."""
        state, adam = moved.optimiser, agenda.optimiser
        mean = state.first / (1 - adam.beta1**state.steps)
        square = state.second / (1 - adam.beta2**state.steps) - deviation**2
        size = np.sqrt(np.maximum(square, tool.floor**2))
        change = rate_of_next(agenda, before) * mean / size
        weights = (before.weights - change).astype(np.float32)
        return replace(moved, weights=weights, average=before.average.include(weights))

    return step


def trainee_of(tool: Tool, ready: Ready) -> Trainee:
    """Returns the training records, with the network that the tool wants."""
    found = ready.trainee(0)
    return replace(found, model=folded(found.model)) if tool.plain_convolutions else found


# -- Comparison -----------------------------------------------------------------------


def main() -> None:
    """Trains and writes down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--rates", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="utility", help="name of the file in benchmarks/out")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rates = [float(rate) for rate in asked.rates.split(",")]
    rows = []
    for name in asked.tools.split(","):
        for row in compare(asked.recipe, TOOLS[name], rates, asked.seeds):
            rows.append({"tool": name, **row})
            print(json.dumps(rows[-1]), flush=True)
            write(f"{asked.out}_{asked.recipe}", rows)


def compare(recipe: str, tool: Tool, rates: list[float], seeds: int) -> list[dict[str, object]]:
    """Returns one row of figures for each learning rate."""
    projects = [_project(recipe, tool, rate) for rate in rates]
    dataset = read_dataset(projects[0].data, Path(os.environ["CONSILIUM_DATA"]))
    ready = make_ready(projects[0], dataset, federated=False, seed=0)
    splits = [ready.features(part) for part in (dataset.splits.validation, dataset.splits.test)]
    mechanism = next(mechanisms(projects[0], public_facts(ready).patients, [1]))
    trainee, own = trainee_of(tool, ready), ready
    if tool.plain_convolutions:
        own = replace(ready, trained=trainee.model)
    drawn = mechanism
    if not tool.noise:
        drawn = replace(mechanism, noise_multiplier=0.0, epsilon=math.inf)
    rows = []
    for rate, project in zip(rates, projects, strict=True):
        step = stepper(tool, project, mechanism)
        weights = [train(project, trainee, drawn, seed, step) for seed in range(seeds)]
        looks = [[seen(own, one, split) for split in splits] for one in weights]
        rows.append({"rate": rate, **figures(drawn, looks)})
    return rows


def _project(recipe: str, tool: Tool, rate: float) -> Project:
    path = HERE.parent / "recipes" / f"{recipe}.toml"
    dp = consilium.load_project(path).for_arm(ARM).dp
    assert dp is not None
    changes = {
        "learning_rate.initial": repr(rate),
        "training.views": "1",
        "dp.expected_batch": repr(tool.batch_factor * dp.expected_batch),
    }
    return consilium.load_project(path, {**changes, **tool.changes}).for_arm(ARM)


if __name__ == "__main__":
    main()
