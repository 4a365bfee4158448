# SPDX-License-Identifier: Apache-2.0
"""Clipped gradients of patients: one vector a patient, whatever number of records it has.

The privacy unit is the patient. The losses of a patient's records are averaged, the gradient
of that mean is clipped (`clip_kinds`: to one L2 norm over all trainable parameters, unless a
plan says otherwise), and only then are patients added up. Every patient has its own forward
pass (`torch.func.vmap`), so no layer can carry one patient's data into another's gradient.

Not here: sampling, noise, and the division by the expected number of patients. The sum that
`clipped_sum` returns is not private before noise is added.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from consilium.dp.bookkeeping import booked, records_at_once
from consilium.dp.clip_kinds import Clip
from consilium.dp.conformity import require
from consilium.dp.norm_book import Budget, Unrouted
from consilium.dp.per_patient import (
    Chunk,
    Objective,
    PerRecordLoss,
    looped,
    uncompiled,
    vmapped,
)
from consilium.dp.sums import Sums
from consilium.dp.team import ALONE, Team
from consilium.errors import PrivacyError

_SLACK: Final = 1e-4  # of the clip norm, for the float32 rounding of two sums
_MOST: Final = 384  # clip norms; 2 sums * 2 roundings * 2**-24 * 384 < 0.92 of the slack
_GRADIENT_BYTES: Final = 1 << 24  # of the gradients of patients that are held at once
_INPUT_BYTES: Final = 1 << 20  # of the records that go through the model at once
_PRECISIONS: Final = (torch.float32, torch.float64)
_MOST_RECORDS: Final = 256  # that do so, unless one patient has more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientBatch:
    """Records drawn for one step, and whose they are.

    Attributes:
        inputs: Shape (n, *shape), float32.
        labels: Shape (n,), int64; label maps, shape (n, ...), uint8; or soft labels, shape
            (n, classes), float32.
        patients: Shape (n,), int64: a number for each patient, any numbers, in any order.

    Raises:
        ValueError: A shape or a dtype is another one.
    """

    inputs: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    patients: Tensor = field(repr=False)

    def __post_init__(self) -> None:
        rows = self.inputs.shape[:1]
        if self.inputs.dtype != torch.float32 or not rows:
            raise ValueError(
                f"inputs are {tuple(self.inputs.shape)}, {self.inputs.dtype}; expected "
                "(n, *shape), torch.float32"
            )
        for name in ("labels", "patients"):
            found = getattr(self, name)
            maps = name == "labels" and found.dtype == torch.uint8 and found.ndim > 1
            soft = name == "labels" and found.dtype == torch.float32 and found.ndim == 2
            if found.shape[:1] != rows or not (maps or soft or _numbers(found)):
                raise ValueError(
                    f"{name} are {tuple(found.shape)}, {found.dtype}; expected "
                    f"{tuple(rows)}, torch.int64"
                )


def _numbers(column: Tensor) -> bool:
    return column.ndim == 1 and column.dtype == torch.int64


def clipped_sum(
    model: nn.Module,
    loss: PerRecordLoss,
    batch: PatientBatch,
    *,
    l2_clip_norm: float,
    budget: Budget | None = None,
) -> Tensor:
    """Returns the sum over patients of the clipped gradient of their mean loss.

    Args:
        model: Parameters with `requires_grad` are trained; the others are constants. What
            `torch.compile` made runs as the module inside it.
        loss: Of each record.
        batch: May be empty, which gives zeros.
        budget: Bounds on memory; the default suits CPUs.
        l2_clip_norm: C, the largest norm of one patient's gradient.

    Returns:
        Shape (dimension,), float32, in the order of `model.parameters()`.

    Guarantees:
        Adding or removing one patient, with any number of records and any contents, moves
        the result by at most `l2_clip_norm` in L2. Gradients are clipped to
        (1 - 1e-4) * l2_clip_norm, microbatches are added in float64, and a sum above 384
        clip norms is scaled back to that, which moves no two sums apart; so the slack of
        1e-4 covers two roundings of both sums to float32, here and when the caller scales
        the result. A gradient that is not finite becomes zero, and a norm counts what
        rounding may hide.
        Taken as given: the other patients' float32 gradients do not depend on the rest of
        the batch. They may in their last bits, when a microbatch has another size or is one
        contraction in which float32 products of its patients are added.

    Raises:
        PrivacyError: A layer keeps or uses statistics over records, or a trained parameter is
            of half precision.
        ValueError: `l2_clip_norm` is not positive and finite, no parameter is trainable,
            dropout is active, a layer is compiled by itself, or `loss` does not return one
            value a record.
    """
    return sum_of_patients(
        Objective(uncompiled(model), loss), batch, Clip(l2_clip_norm), budget=budget
    )


def sum_of_patients(
    objective: Objective,
    batch: PatientBatch | Chunk,
    clip: Clip,
    *,
    budget: Budget | None = None,
    team: Team = ALONE,
) -> Tensor:
    """Returns the sum over patients of the vectors that `clip` makes of their gradients.

    Args:
        objective: Model and loss, as for `clipped_sum`.
        batch: As for `clipped_sum`; or patients laid out in places already, of which some may
            be empty, so that every step has one shape.
        clip: The kind, and C.
        budget: Bounds on memory; the default suits CPUs.
        team: Other processes that clip other patients; all get the sum over all patients.

    Returns:
        Shape (dimension + clip.marks,), float32; marks come last.

    Guarantees: those of `clipped_sum`, for every kind. A place where nobody is present adds
        nothing, whatever lies there.

    Raises:
        PrivacyError, ValueError: As `clipped_sum`.
        ConfigError: The kind has no place for a parameter.
    """
    if not 0 < clip.bound < float("inf"):
        raise ValueError(f"l2_clip_norm={clip.bound} must be positive and finite")
    trained = objective.trained()
    if not trained:
        raise ValueError("no parameter has requires_grad; nothing to train")
    check_layers(objective.model)
    sums = Sums(trained, clip.marks)
    tight = Clip(clip.bound * (1 - _SLACK), clip.rule)
    add_patients(objective, batch, sums, clip=tight, budget=budget or Budget())
    if team.size > 1:
        sums.merge(team.together)
    return sums.bounded(_MOST * clip.bound, torch.float32)


def why_not_booked(model: nn.Module, loss: PerRecordLoss, batch: PatientBatch) -> str | None:
    """Returns why `clipped_sum` is slow for this model: a parameter, and who uses it; or None.

    A fact to be logged once by whoever trains. It costs one step of one patient.
    """
    objective = Objective(uncompiled(model), loss)
    sums = Sums(objective.trained())
    chunk = next(_chunks(batch, 1))
    try:
        booked(objective, chunk, sums, clip=Clip(1.0), budget=Budget())
    except Unrouted as reason:
        return str(reason)
    return None


# -- Which way for which patients -----------------------------------------------------


def add_patients(
    objective: Objective, batch: PatientBatch | Chunk, sums: Sums, *, clip: Clip, budget: Budget
) -> None:
    """Adds every patient's clipped gradient to `sums`, by the fastest way that takes it.

    `sum_of_patients` without its checks, its slack and its last bound: not for a release.
    """
    if not len(batch.labels):
        return
    one = batch.inputs[:, 0] if isinstance(batch, Chunk) else batch.inputs
    records = min(_MOST_RECORDS, records_at_once(objective, one, budget))
    routed = True
    for chunk in _chunks(batch, records):
        if chunk.labels.shape[1] > records:
            looped(objective, chunk, sums, clip=clip, records=records)
            continue
        if routed:
            try:
                if not booked(objective, chunk, sums, clip=clip, budget=budget):
                    looped(objective, chunk, sums, clip=clip, records=records)
            except Unrouted:
                routed = False
        if not routed:
            _add_unrouted(objective, chunk, sums, clip)


def _add_unrouted(objective: Objective, chunk: Chunk, sums: Sums, clip: Clip) -> None:
    patients = _GRADIENT_BYTES // (4 * sum(p.numel() for p in objective.trained()))
    if patients < 2:
        looped(objective, chunk, sums, clip=clip, records=chunk.labels.shape[1])
        return
    held = _INPUT_BYTES // max(1, chunk.inputs[0].nbytes)
    for part in chunk.split(max(1, min(patients, held))):
        vmapped(objective, part, sums, clip=clip)


# -- Patients with different numbers of records ---------------------------------------


def _chunks(batch: PatientBatch | Chunk, records: int) -> Iterator[Chunk]:
    """Yields all patients, those of like record counts together, about `records` at a time.

    A patient's records fill up to a power of two with repeats of its first record at weight
    0: a repeat can bring no value that the patient's own gradient does not have.
    """
    if isinstance(batch, Chunk):
        yield from batch.split(max(1, records // batch.labels.shape[1]))
        return
    _, owner, counts = torch.unique(batch.patients, return_inverse=True, return_counts=True)
    order = owner.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    widths = 2 ** torch.ceil(torch.log2(counts.double())).long()
    for width in sorted(set(widths.tolist())):
        members = torch.nonzero(widths == width).flatten()
        place = torch.arange(width, device=owner.device)
        for part in members.tensor_split(math.ceil(len(members) / max(1, records // width))):
            real = place < counts[part, None]
            rows = order[starts[part, None] + place.where(real, 0)]
            yield Chunk(batch.inputs[rows], batch.labels[rows], real / counts[part, None].double())


# -- Layers that are refused ----------------------------------------------------------


def check_layers(model: nn.Module) -> None:
    """Returns only if every layer of `model` can be clipped per patient.

    Raises:
        PrivacyError: A layer mixes or remembers patients; the message names all of them. Or a
            trained parameter is of half precision: then so is the sum over patients, whose
            rounding moves by more than the slack when one patient more comes in.
        ValueError: Dropout is active, or a layer is compiled by itself.
    """
    require(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype not in _PRECISIONS:
            raise PrivacyError(
                f"parameter {name!r} is trained in {parameter.dtype}; expected float32 or float64, "
                "as sums over patients have the precision of the parameters: keep them in "
                "float32 and compute under torch.autocast"
            )
    for name, layer in model.named_modules():
        if hasattr(layer, "_orig_mod") or layer._compiled_call_impl is not None:
            raise ValueError(
                f"layer {name!r} ({type(layer).__name__}) is compiled by itself, and the compiler "
                "would trace the book-keeping; expected layers as they are: give torch.compile "
                "the whole model, or nothing"
            )
        if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            kind = type(layer).__name__
            raise ValueError(f"layer {name!r} ({kind}) is random while training; call eval() on it")
