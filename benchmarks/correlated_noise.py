# SPDX-License-Identifier: Apache-2.0
"""Correlated noise beside independent noise: the same patients, epsilon and delta, central arm.

    python benchmarks/correlated_noise.py mnist --bands 1,8 --rates 8,11,16 --seeds 5

For each mechanism the learning rate is chosen by the mean validation score over the seeds, and
the test figures of that rate are the ones to compare. Writes
benchmarks/out/correlated_RECIPE_BATCH.json. Images have one view. An experiment on open data: its
noise comes from a seeded generator, so nothing here may be released. It draws, clips and steps as
the product does; for a single linear layer it clips by a closed form, which every run compares
once with the product's sum.

Mechanism. G (n, dimension) holds the clipped sums of n steps, Z independent normal entries, S an
invertible lower triangular n x n matrix with b bands. Released is G + z C S^-1 Z, for clip norm
C and noise multiplier z, row after row. It is S^-1 (S G + z C Z), so it costs what the Gaussian
mechanism on S G costs, also where later rows of G depend on what was released (Denisov et al.
2022, arXiv:2202.08312, theorem 2.1). With S = 1 it is DP-SGD.

Price. A public coin gives each patient one of b groups; step i draws from group i mod b with
probability p = b q, so that the expected batch is q N as in DP-SGD. A patient can then be drawn
in steps i, i + b, ...; column i of S lies in rows i to i + b - 1, so the columns of two of these
steps share no row, and S G splits into ceil(n / b) blocks of rows. In each the patient appears
with probability p and moves S G by |S_i| C at most. With columns of norm 1 the price is that of
ceil(n / b) Gaussian sums with Poisson probability p and multiplier z, adaptively composed.
Source: Choquette-Choo et al. 2023, theorem 4 (arXiv:2306.08153). Without coins ("ftrl": p = 1, q
N patients a group, each drawn once an epoch; S may have more bands than groups) it is one
Gaussian sum of multiplier z and sensitivity max_j |sum of columns j, j + b, ...|, for S >= 0
elementwise. Source: Choquette-Choo et al. 2022, section 3 (arXiv:2211.06530).

S minimises |A S^-1|_F over b-banded S with columns of norm 1, where A takes gradients to the
recipe's weights (prefix sums of momentum), so |A S^-1|_F is the noise of all iterates together.

Under a secure sum. Row i of S^-1 Z is z_i less its band of earlier rows. Sites can each hold a
share of every z_i and apply the public S^-1 to their own rows, as it is linear. But a site then
has to keep its last b - 1 rows of noise, which unmask past rounds if they are stolen, and the
covariance (S'S)^-1 of the sum holds only if the same h honest sites stand in every round of the
run: a site that drops out takes with it what later rows were to cancel.
"""

import argparse
import copy
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that readers of PyTorch know
from dp_accounting.dp_event import GaussianDpEvent
from numpy.typing import NDArray
from recipes import HERE, commit, processor
from torch import Tensor, nn

import consilium
from consilium.adapters.dataset import Ready, make_ready, public_facts, read_dataset
from consilium.dp.accounting import calibrate, epsilon, poisson_gaussian
from consilium.dp.clipping import PatientBatch, clipped_sum
from consilium.federation.contribution import Trainee
from consilium.federation.progress import Agenda, Progress, begin, released, step_by_gradient
from consilium.federation.project import Project
from consilium.federation.setup import make_agenda
from consilium.learning.looks import Look, look
from consilium.learning.optimisers import Sgd
from consilium.learning.parameters import Vector, assign, flatten
from consilium.learning.training import predict

ARM = "central-dp"
Matrix = NDArray[np.float64]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mechanism:
    """What is compared: groups of patients, S, and the noise that meets the same budget."""

    name: str
    groups: int
    strategy: Matrix
    noise_multiplier: float
    expected_batch: float
    epsilon: float

    def noise_of_weights(self, workload: Matrix) -> float:
        """Returns the root mean square of A z S^-1 Z, in clip norms over the learning rate."""
        total = np.linalg.norm(workload @ np.linalg.inv(self.strategy))
        return float(self.noise_multiplier * total / math.sqrt(len(workload)))

    def noise(self, dimension: int, coins: np.random.Generator) -> Iterator[Vector]:
        """Yields the rows of S^-1 Z, as forward substitution does."""
        bands = max(1, int(np.count_nonzero(self.strategy, axis=0).max()))
        rows: list[Vector] = []
        for i, weights in enumerate(self.strategy):
            row = coins.standard_normal(dimension, dtype=np.float32)
            for back in range(1, min(i, bands - 1, len(rows)) + 1):
                row -= np.float32(weights[i - back]) * rows[-back]
            row /= np.float32(weights[i])
            rows = [*rows, row][-(bands - 1) :] if bands > 1 else []
            yield row


# -- Matrices -------------------------------------------------------------------------


def toeplitz(first_column: Sequence[float] | Matrix, n: int) -> Matrix:
    """Returns the lower triangular matrix with these diagonals, the main one first."""
    lags = np.subtract.outer(np.arange(n), np.arange(n))
    column = np.zeros(n)
    column[: len(first_column)] = first_column
    found: Matrix = np.where(lags >= 0, column[np.abs(lags)], 0.0)
    return found


def root_of_prefix_sums(n: int) -> Matrix:
    """Returns the first n coefficients of (1 - x)^(-1/2)."""
    steps = np.arange(1, n)
    found: Matrix = np.cumprod(np.concatenate([[1.0], (2 * steps - 1) / (2 * steps)]))
    return found


def weights_of_gradients(agenda: Agenda) -> Matrix:
    """Returns A: prefix sums of the velocities of momentum SGD."""
    n = agenda.rounds
    momentum = agenda.optimiser.momentum if isinstance(agenda.optimiser, Sgd) else 0.0
    return toeplitz(np.ones(n), n) @ toeplitz(momentum ** np.arange(n), n)


def banded(workload: Matrix, bands: int) -> Matrix:
    """Returns S with `bands` bands and columns of norm 1 that makes |A S^-1|_F small."""
    n = len(workload)
    free = torch.tensor(toeplitz(root_of_prefix_sums(bands), n), requires_grad=True)
    mask = torch.tensor(toeplitz(np.ones(bands), n))
    target, one = torch.tensor(workload), torch.eye(n, dtype=torch.float64)
    search = torch.optim.LBFGS([free], max_iter=800, line_search_fn="strong_wolfe")

    def strategy() -> Tensor:
        kept = free * mask
        return kept / kept.norm(dim=0, keepdim=True)

    def closure() -> Tensor:
        search.zero_grad()
        inverse = torch.linalg.solve_triangular(strategy(), one, upper=False)
        error = torch.log((target @ inverse).square().sum())
        torch.autograd.backward(error)
        return error

    search.step(closure)
    found: Matrix = strategy().detach().numpy()
    assert np.allclose(np.linalg.norm(found, axis=0), 1, atol=1e-12)
    assert not np.tril(found, -bands).any()
    return found


# -- Mechanisms at one price ----------------------------------------------------------


def mechanisms(project: Project, patients: int, bands: Sequence[int]) -> Iterator[Mechanism]:
    """Yields DP-SGD for 1 band and amplified banded matrices for more."""
    agenda, dp = make_agenda(project), project.dp
    assert dp is not None
    assert dp.target_epsilon is not None
    n, q, workload = agenda.rounds, dp.expected_batch / patients, weights_of_gradients(agenda)
    for b in bands:
        probability, rounds = b * q, -(-n // b)
        if probability > 1:
            raise SystemExit(f"{b} bands need {b} expected batches; expected at most {patients}")
        noise = calibrate(
            target_epsilon=dp.target_epsilon,
            delta=dp.delta,
            sampling_probability=probability,
            steps=rounds,
        )
        event = poisson_gaussian(
            sampling_probability=probability, noise_multiplier=noise, steps=rounds
        )
        yield Mechanism(
            name="dp-sgd" if b == 1 else f"banded, {b}",
            groups=b,
            strategy=banded(workload, b),
            noise_multiplier=noise,
            expected_batch=dp.expected_batch,
            epsilon=epsilon(event, dp.delta),
        )


def ftrl(project: Project, patients: int) -> Mechanism:
    """Returns DP-FTRL: groups in turn, no coins, S the root of the prefix sums."""
    dp, n = project.dp, make_agenda(project).rounds
    assert dp is not None
    assert dp.target_epsilon is not None
    groups = round(patients / dp.expected_batch)
    strategy = toeplitz(root_of_prefix_sums(n), n)
    sensitivity = max(
        np.linalg.norm(strategy[:, j::groups].sum(axis=1)) for j in range(min(groups, n))
    )
    low, high = 0.01, 100.0
    while high / low > 1 + 1e-4:
        middle = math.sqrt(low * high)
        affordable = epsilon(GaussianDpEvent(middle), dp.delta) <= dp.target_epsilon
        low, high = (low, middle) if affordable else (middle, high)
    return Mechanism(
        name=f"ftrl, {groups} groups",
        groups=groups,
        strategy=strategy / sensitivity,
        noise_multiplier=high,
        expected_batch=patients / groups,
        epsilon=epsilon(GaussianDpEvent(high), dp.delta),
    )


# -- Training -------------------------------------------------------------------------


def train(
    project: Project,
    trainee: Trainee,
    mechanism: Mechanism,
    seed: int,
    step: Callable[[Agenda, Progress, Vector], Progress] = step_by_gradient,
) -> Vector:
    """Returns the released weights of one run; `step` takes each noised mean gradient."""
    assert project.dp is not None
    agenda, clip = make_agenda(project), project.dp.l2_clip_norm
    coins = np.random.default_rng(seed)
    group = coins.integers(0, mechanism.groups, len(trainee.rows))
    share = mechanism.groups * mechanism.expected_batch / len(trainee.rows)
    model = copy.deepcopy(trainee.model)
    few = np.arange(min(50, len(trainee.rows)))
    sums = [form(model, trainee, few, clip) for form in (_clipped, product_sum)]
    assert np.linalg.norm(sums[0] - sums[1]) < 1e-3 * np.linalg.norm(sums[1])
    progress = begin(agenda, flatten(model))
    for k, noise in enumerate(mechanism.noise(len(progress.weights), coins)):
        own = np.flatnonzero(group == k % mechanism.groups)
        drawn = own[coins.random(len(own)) < share]
        assign(model, progress.weights)
        total = np.zeros_like(noise)
        if len(drawn):
            total = _clipped(model, trainee, drawn, clip)
        total = total + np.float32(mechanism.noise_multiplier * clip) * noise
        mean = (total / np.float32(mechanism.expected_batch)).astype(np.float32)
        progress = step(agenda, progress, mean)
    return released(progress)


def _clipped(model: nn.Module, trainee: Trainee, drawn: NDArray[np.intp], clip: float) -> Vector:
    """Returns the clipped sum of the drawn patients: the product's, or faster for one layer."""
    layers = list(model.children())
    if len(layers) == 1 and isinstance(layers[0], nn.Linear):
        return _clipped_linear(layers[0], trainee, drawn, clip)
    return product_sum(model, trainee, drawn, clip)


def product_sum(model: nn.Module, trainee: Trainee, drawn: NDArray[np.intp], clip: float) -> Vector:
    """Returns what a site of the product computes."""
    rows = [trainee.rows[patient] for patient in drawn]
    chosen = torch.from_numpy(np.concatenate(rows))
    patients = torch.from_numpy(np.repeat(np.arange(len(rows)), [len(r) for r in rows]))
    batch = PatientBatch(
        inputs=trainee.inputs[chosen], labels=trainee.labels[chosen], patients=patients
    )
    total = clipped_sum(model, trainee.task.loss, batch, l2_clip_norm=clip)
    found: Vector = total.numpy()
    return found


@torch.no_grad()
def _clipped_linear(
    layer: nn.Linear, trainee: Trainee, drawn: NDArray[np.intp], clip: float
) -> Vector:
    """The same sum in closed form: |sum_r d_r x_r'|^2 = sum_rs (d_r'd_s)(x_r'x_s)."""
    weights = torch.tensor(trainee.task.class_weights or [1.0] * layer.out_features)
    counts = np.array([len(trainee.rows[patient]) for patient in drawn])
    total = torch.zeros(layer.out_features, layer.in_features + 1)
    for count in np.unique(counts):
        members = drawn[counts == count]
        index = torch.from_numpy(np.stack([trainee.rows[patient] for patient in members]))
        inputs, labels = trainee.inputs[index], trainee.labels[index]
        slopes = torch.softmax(layer(inputs), dim=-1) - F.one_hot(labels, layer.out_features)
        slopes *= (weights[labels] / float(count))[..., None]
        inputs = F.pad(inputs, (0, 1), value=1.0)
        squares = (slopes @ slopes.mT) * (inputs @ inputs.mT)
        norms = squares.sum(dim=(1, 2)).clamp_min(1e-20).sqrt()
        slopes *= torch.clamp_max(clip / norms, 1.0)[:, None, None]
        total += slopes.flatten(0, 1).T @ inputs.flatten(0, 1)
    return torch.cat([total[:, :-1].flatten(), total[:, -1]]).numpy()


# -- Comparison -----------------------------------------------------------------------


def main() -> None:
    """Trains and writes down."""
    asked = _arguments()
    torch.set_num_threads(1)
    projects = [_project(asked, rate) for rate in asked.rates]
    dataset = read_dataset(projects[0].data, Path(os.environ["CONSILIUM_DATA"]))
    ready = make_ready(projects[0], dataset, federated=False, seed=0)
    splits = [ready.features(part) for part in (dataset.splits.validation, dataset.splits.test)]
    trainee, rows = ready.trainee(0), []
    patients = public_facts(ready).patients
    compared = list(mechanisms(projects[0], patients, asked.bands))
    if asked.ftrl:
        compared.append(ftrl(projects[0], patients))
    for mechanism in compared:
        for rate, project in zip(asked.rates, projects, strict=True):
            released_ = [train(project, trainee, mechanism, seed) for seed in range(asked.seeds)]
            looks = [[seen(ready, weights, split) for split in splits] for weights in released_]
            left = mechanism.noise_of_weights(weights_of_gradients(make_agenda(project)))
            head = {"mechanism": mechanism.name, "rate": rate, "noise_of_weights": round(left, 3)}
            rows.append({**head, **figures(mechanism, looks)})
            print(json.dumps(rows[-1]), flush=True)
    write(f"correlated_{asked.recipe}_{projects[0].dp.expected_batch:g}", rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--bands", type=_numbers(int), default=[1, 2])
    parser.add_argument("--rates", type=_numbers(float), required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--batch", type=float, help="expected batch, else the recipe's")
    parser.add_argument("--ftrl", action="store_true", help="compare DP-FTRL too")
    return parser.parse_args()


def _numbers(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: [kind(word) for word in text.split(",")]


def _project(asked: argparse.Namespace, rate: float) -> Project:
    changes = {"learning_rate.initial": repr(rate), "training.views": "1"}
    if asked.batch is not None:
        changes["dp.expected_batch"] = repr(asked.batch)
    recipe = HERE.parent / "recipes" / f"{asked.recipe}.toml"
    return consilium.load_project(recipe, changes).for_arm(ARM)


def seen(ready: Ready, weights: Vector, split: tuple[Tensor, Tensor]) -> Look:
    assign(ready.trained, weights)
    return look(predict(ready.trained, ready.task, split[0]), split[1].numpy())


def figures(mechanism: Mechanism, looks: list[list[Look]]) -> dict[str, object]:
    """Returns price and scores, mean and deviation over seeds, on validation and on test."""
    row: dict[str, object] = {
        "expected_batch": mechanism.expected_batch,
        "noise_multiplier": round(mechanism.noise_multiplier, 4),
        "epsilon": mechanism.epsilon,
    }
    for k, split in enumerate(("validation", "test")):
        for figure in ("auc", "accuracy"):
            found = [getattr(one[k], figure) for one in looks]
            row[f"{split}_{figure}"] = [round(float(np.mean(found)), 4), _deviation(found)]
    return row


def _deviation(found: list[float]) -> float | None:
    return round(float(np.std(found, ddof=1)), 4) if len(found) > 1 else None


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Writes benchmarks/out/NAME.json."""
    facts = {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(),
        "machine": processor(),
        "rows": rows,
    }
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
