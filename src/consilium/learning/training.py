# SPDX-License-Identifier: Apache-2.0
"""The training loop of one site without privacy, in plain sight, and prediction.

What `central` and `federated` run between two exchanges of weights. Nothing here bounds what
the weights reveal of a patient: the private arms do not use this loop.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, final, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consilium.errors import ConfigError
from consilium.learning.parameters import device_of
from consilium.learning.tasks import Task

OptimiserName: TypeAlias = Literal["sgd", "adam"]
Examples: TypeAlias = tuple[Tensor, Tensor]  # inputs (n, ...) float32 and labels (n,) int64


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """How a site trains between two exchanges; `momentum` is for SGD only."""

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.05
    momentum: float = 0.0
    optimiser: OptimiserName = "sgd"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ConfigError(
                f"epochs={self.epochs}, batch_size={self.batch_size}, expected 1 or more of each"
            )
        if not self.learning_rate > 0:
            raise ConfigError(f"learning_rate={self.learning_rate}, expected a number > 0")
        if self.optimiser not in get_args(OptimiserName):
            raise ConfigError(f"optimiser={self.optimiser!r}, expected one of 'sgd', 'adam'")
        if not 0 <= self.momentum < 1 or (self.optimiser == "adam" and self.momentum != 0):
            raise ConfigError(
                f"momentum={self.momentum} with {self.optimiser}, expected 0 or more and less "
                "than 1 with sgd, and 0 with adam, which has its own"
            )


def train_locally(
    model: nn.Module,
    task: Task,
    examples: Examples | Callable[[int], Examples],
    settings: LocalSettings,
    *,
    order_seed: int,
) -> None:
    """Trains `model` in place on `examples`, by minibatches in an order that `order_seed` fixes.

    `examples` may be a function of the epoch, counted from 0, that gives others for each.

    Guarantees: the same weights, examples, settings and seed give the same weights on one
    machine; global random state is unchanged. An empty set of examples changes nothing.
    """
    optimiser = _optimiser(model, settings)
    order = torch.Generator().manual_seed(order_seed)
    device = device_of(model)
    model.train()
    for epoch in range(settings.epochs):
        inputs, labels = examples(epoch) if callable(examples) else examples
        for batch in _batches(len(labels), settings.batch_size, order):
            optimiser.zero_grad()
            there = (inputs[batch].to(device), labels[batch].to(device))
            loss = task.loss(model(there[0]), there[1]).mean()
            torch.autograd.backward(loss)
            optimiser.step()


def predict(
    model: nn.Module, task: Task, inputs: Tensor, batch_size: int = 256
) -> NDArray[np.float32]:
    """Returns the probabilities, shape (n, classes), of inputs (n, ...); `model` is unchanged."""
    was_training, device = model.training, device_of(model)
    model.eval()
    with torch.inference_mode():
        parts = [
            task.probabilities(model(batch.to(device))).cpu()
            for batch in torch.split(inputs, batch_size)
        ]
    model.train(was_training)
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


def _batches(count: int, batch_size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Yields the indices of one epoch's minibatches; the last may be smaller."""
    if count:
        yield from torch.split(torch.randperm(count, generator=order), batch_size)


def _optimiser(model: nn.Module, settings: LocalSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=settings.learning_rate)
    return torch.optim.SGD(parameters, lr=settings.learning_rate, momentum=settings.momentum)
