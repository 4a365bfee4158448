# SPDX-License-Identifier: Apache-2.0
"""Patients' gradients one by one: slower than book-keeping, and right for any model.

Two ways. `looped` makes one backward pass a patient; `vmapped` makes those of several at once
by `torch.func`. Neither knows anything of layers. They take what book-keeping cannot: layers
without a rule, patients with more records than a microbatch holds, gradients whose norm
overflows.

Guarantees: every patient has its own forward pass. A gradient that is not finite becomes
zero. Norms and sums are taken in float64.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.dp.layer_rules import squared_norms
from consilium.dp.sums import Sums

PerRecordLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs (n, ...) and labels (n,) to losses (n,)."""


@final
@dataclass(frozen=True, slots=True)
class Objective:
    """A model and the loss of a record; together, the weighted loss of one patient."""

    model: nn.Module
    loss: PerRecordLoss

    def __call__(self, inputs: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        """Returns the sum of one patient's losses times weights (records,).

        Raises:
            ValueError: `loss` does not return one value a record.
        """
        losses = self.loss(self.model(inputs), labels)
        if losses.shape != labels.shape:
            raise ValueError(
                f"loss returned shape {tuple(losses.shape)}; expected one value a record, "
                f"{tuple(labels.shape)}"
            )
        return (losses * weights.to(losses.dtype)).sum()

    def with_parameters(
        self, parameters: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, weights: Tensor
    ) -> Tensor:
        """Returns the same with other parameters than the model's."""

        def loss(_: Tensor, labels: Tensor) -> Tensor:
            return self.loss(functional_call(self.model, dict(parameters), (inputs,)), labels)

        return Objective(nn.Identity(), loss)(inputs, labels, weights)

    def trained(self) -> dict[Tensor, str]:
        """Returns the trained parameters, in order, and their names."""
        return {p: name for name, p in self.model.named_parameters() if p.requires_grad}


@final
@dataclass(frozen=True, slots=True)
class Chunk:
    """Patients with like numbers of records: inputs (patients, records, *shape).

    Records of weight 0 fill up; a patient's weights sum to 1.
    """

    inputs: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)

    def split(self, patients: int) -> Iterator["Chunk"]:
        """Yields chunks of at most `patients` patients."""
        whole = (self.inputs, self.labels, self.weights)
        parts = (torch.split(values, patients) for values in whole)
        return itertools.starmap(Chunk, zip(*parts, strict=True))


# -- One backward pass a patient ------------------------------------------------------


def looped(objective: Objective, chunk: Chunk, sums: Sums, *, most: float, records: int) -> None:
    """Adds each patient's gradient, clipped to norm `most`; `records` pass at a time."""
    for row in chunk.split(1):
        gradient = _gradient(objective, row, records)
        factor = _factor(gradient.values(), most)
        if factor > 0:
            for parameter, part in gradient.items():
                sums.add(parameter, part, factor)


def _gradient(objective: Objective, patient: Chunk, records: int) -> dict[Tensor, Tensor]:
    """Returns the gradient of one patient's mean loss, without parameters that have none."""
    real = patient.weights[0] > 0
    values = (patient.inputs, patient.labels, patient.weights)
    total: dict[Tensor, Tensor] = {}
    for part in zip(*(torch.split(value[0][real], records) for value in values), strict=True):
        trained = list(objective.trained())
        with torch.enable_grad():
            loss = objective(*part)
            if not loss.requires_grad:
                continue
            found = torch.autograd.grad(loss, trained, allow_unused=True)
        for parameter, gradient in zip(trained, found, strict=True):
            if gradient is not None:
                before = total.get(parameter)
                total[parameter] = gradient if before is None else before + gradient
    return total


def _factor(gradient: Iterable[Tensor], most: float) -> float:
    """Returns what brings the norm over all parts to `most`; 0 where that is not finite."""
    parts = [part[None] for part in gradient]
    squares = sum(float(squared_norms(part)) for part in parts)
    if not math.isfinite(squares):
        squares = sum(float(part.double().square().sum()) for part in parts)
    if not math.isfinite(squares):
        return 0.0
    return min(1.0, most / math.sqrt(squares)) if squares else 1.0


# -- Several patients by torch.func ---------------------------------------------------


def vmapped(objective: Objective, chunk: Chunk, sums: Sums, *, most: float) -> None:
    """Adds each patient's gradient, clipped to norm `most`; holds those of the whole chunk."""
    trained = objective.trained()
    parameters = {name: parameter.detach() for parameter, name in trained.items()}
    gradients = vmap(grad(objective.with_parameters), in_dims=(None, 0, 0, 0))
    found = gradients(parameters, chunk.inputs, chunk.labels, chunk.weights)
    wide = {parameter: found[name].flatten(1).double() for parameter, name in trained.items()}
    norms = torch.stack([part.norm(dim=1) for part in wide.values()]).norm(dim=0)
    finite = norms.isfinite()
    factors = (most / norms).clamp(max=1).where(finite, 0)
    for parameter, rows in wide.items():
        rows[~finite] = 0
        sums.add_rows(parameter, rows, factors)
