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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.dp.clip_kinds import Clip
from consilium.dp.layer_rules import squared_norms
from consilium.dp.sums import Sums

PerRecordLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs (n, ...) and labels (n,), or label maps (n, ...), to losses (n,)."""


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
        if losses.shape != weights.shape:
            raise ValueError(
                f"loss returned shape {tuple(losses.shape)}; expected one value a record, "
                f"{tuple(weights.shape)}"
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


def uncompiled(model: nn.Module) -> nn.Module:
    """Returns the module inside what `torch.compile` made of it, with the same parameters.

    Patients are kept apart by what happens around each operation, so there is no compiled
    whole to run; and names of parameters stay those of the module itself.
    """
    inner = getattr(model, "_orig_mod", model)
    return inner if isinstance(inner, nn.Module) else model


@final
@dataclass(frozen=True, slots=True)
class Chunk:
    """Patients with like numbers of records: inputs (patients, records, *shape).

    Records of weight 0 fill up; a patient's weights sum to 1, and those of a place where nobody
    is present to 0.
    """

    inputs: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)

    @property
    def present(self) -> Tensor:
        """Which places are taken, shape (patients,)."""
        return (self.weights > 0).any(dim=1)

    def split(self, patients: int) -> Iterator["Chunk"]:
        """Yields chunks of at most `patients` patients."""
        whole = (self.inputs, self.labels, self.weights)
        parts = (torch.split(values, patients) for values in whole)
        return itertools.starmap(Chunk, zip(*parts, strict=True))


# -- One backward pass a patient ------------------------------------------------------


def looped(objective: Objective, chunk: Chunk, sums: Sums, *, clip: Clip, records: int) -> None:
    """Adds each patient's gradient, clipped; `records` pass at a time."""
    trained = objective.trained()
    for row in chunk.split(1):
        if not row.present.any():
            continue
        gradient = _gradient(objective, row, records)
        squares = torch.tensor([[_square(gradient.get(p)) for p in trained]], dtype=torch.float64)
        names = list(trained.values())
        norms = clip.gathered(squares, names).sqrt()
        factors, marks = clip.weights(norms, names, row.present.cpu())
        sums.add_marks(marks.to(row.weights.device))
        for parameter, factor in zip(trained, factors[0].tolist(), strict=True):
            if parameter in gradient and factor > 0:
                sums.add(parameter, gradient[parameter], factor)


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


def _square(gradient: Tensor | None) -> float:
    """Returns a squared norm, also where it overflows in the gradient's own precision."""
    if gradient is None:
        return 0.0
    square = float(squared_norms(gradient[None]))
    return square if math.isfinite(square) else float(gradient.double().square().sum())


# -- Several patients by torch.func ---------------------------------------------------


def vmapped(objective: Objective, chunk: Chunk, sums: Sums, *, clip: Clip) -> None:
    """Adds each patient's gradient, clipped; holds those of the whole chunk."""
    trained = objective.trained()
    names = list(trained.values())
    parameters = {name: parameter.detach() for parameter, name in trained.items()}
    gradients = vmap(grad(objective.with_parameters), in_dims=(None, 0, 0, 0))
    found = gradients(parameters, chunk.inputs, chunk.labels, chunk.weights)
    wide = [found[name].flatten(1).double() for name in names]
    squares = torch.stack([rows.square().sum(1) for rows in wide], dim=1)
    norms = clip.gathered(squares, names).sqrt()
    factors, marks = clip.weights(norms, names, chunk.present)
    sums.add_marks(marks)
    finite = norms.isfinite().all(dim=1)
    for parameter, rows, factor in zip(trained, wide, factors.T, strict=True):
        rows[~finite] = 0
        sums.add_rows(parameter, [rows], factor)
