# SPDX-License-Identifier: Apache-2.0
"""Clipped gradients of patients: one vector a patient, whatever number of records it has.

The privacy unit is the patient. The losses of a patient's records are averaged, the gradient
of that mean is clipped to one global L2 norm over all trainable parameters, and only then are
patients added up. Every patient has its own forward pass (`torch.func.vmap`), so no layer can
carry one patient's data into another's gradient.

Not here: sampling, noise, and the division by the expected number of patients. The sum that
`clipped_sum` returns is not private before noise is added.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from consilium.errors import PrivacyError

PerRecordLoss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Outputs (n, ...) and labels (n,) to losses (n,)."""

_SLACK: Final = 1e-4  # of the clip norm, for the float32 rounding of two sums
_MOST: Final = 384  # clip norms; 2 sums * 2 roundings * 2**-24 * 384 < 0.92 of the slack
_GRADIENT_BYTES: Final = 1 << 24  # of the gradients of patients that are held at once
_INPUT_BYTES: Final = 1 << 20  # of the records that go through the model at once
_MOST_RECORDS: Final = 256  # that do so, unless one patient has more


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatientBatch:
    """Records drawn for one step, and whose they are.

    Attributes:
        inputs: Shape (n, *shape), float32.
        labels: Shape (n,), int64.
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
            if found.shape != rows or found.dtype != torch.int64:
                raise ValueError(
                    f"{name} are {tuple(found.shape)}, {found.dtype}; expected "
                    f"{tuple(rows)}, torch.int64"
                )


def clipped_sum(
    model: nn.Module, loss: PerRecordLoss, batch: PatientBatch, *, l2_clip_norm: float
) -> Tensor:
    """Returns the sum over patients of the clipped gradient of their mean loss.

    Args:
        model: Parameters with `requires_grad` are trained; the others are constants.
        loss: Of each record.
        batch: May be empty, which gives zeros.
        l2_clip_norm: C, the largest norm of one patient's gradient.

    Returns:
        Shape (dimension,), float32, in the order of `model.parameters()`.

    Guarantees:
        Adding or removing one patient, with any number of records and any contents, moves
        the result by at most `l2_clip_norm` in L2. Gradients are clipped to
        (1 - 1e-4) * l2_clip_norm and added in float64, and a sum above 384 clip norms is
        scaled back to that, which moves no two sums apart; so the slack of 1e-4 covers two
        roundings of both sums to float32, here and when the caller scales the result. A
        gradient that is not finite becomes zero.
        Taken as given: the other patients' float32 gradients do not depend on the rest of
        the batch. They may in their last bits, when a chunk has another size (4e-7 of a
        gradient's norm, measured on a small CNN).

    Raises:
        PrivacyError: A layer keeps or uses statistics over records.
        ValueError: `l2_clip_norm` is not positive and finite, no parameter is trainable,
            dropout is active, or `loss` does not return one value a record.
    """
    if not 0 < l2_clip_norm < float("inf"):
        raise ValueError(f"{l2_clip_norm=} must be positive and finite")
    trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("no parameter has requires_grad; nothing to train")
    _check_layers(model)
    dimension = sum(p.numel() for p in trainable.values())
    total = torch.zeros(dimension, dtype=torch.float64, device=batch.inputs.device)
    gradients = _patient_gradients(model, loss)
    for rows, weights in _chunks(batch, dimension):
        found = gradients(trainable, batch.inputs[rows], batch.labels[rows], weights)
        wide = [gradient.flatten(1).double() for gradient in found.values()]
        factors = _clip_factors(wide, l2_clip_norm * (1 - _SLACK))
        total += torch.cat([factors @ gradient for gradient in wide])
    most = _MOST * l2_clip_norm
    within: Tensor = total * (most / total.norm().clamp(min=most))
    return within.float()


# -- Gradients ------------------------------------------------------------------------

_Gradients: TypeAlias = Callable[[Mapping[str, Tensor], Tensor, Tensor, Tensor], dict[str, Tensor]]


def _patient_gradients(model: nn.Module, loss: PerRecordLoss) -> _Gradients:
    """Returns the function from parameters and a chunk of patients to their gradients."""

    def mean_loss(
        trainable: Mapping[str, Tensor], inputs: Tensor, labels: Tensor, weights: Tensor
    ) -> Tensor:
        losses = loss(functional_call(model, dict(trainable), (inputs,)), labels)
        if losses.shape != labels.shape:
            raise ValueError(
                f"loss returned shape {tuple(losses.shape)}; expected one value a record, "
                f"{tuple(labels.shape)}"
            )
        return (losses * weights).sum()

    gradients: _Gradients = vmap(grad(mean_loss), in_dims=(None, 0, 0, 0))
    return gradients


def _clip_factors(gradients: list[Tensor], most: float) -> Tensor:
    """Returns the factor for each row that brings its norm, over all parts, to `most`.

    Rows that are not finite are set to zero, in place.
    """
    norms = torch.stack([part.norm(dim=1) for part in gradients]).norm(dim=0)
    finite = norms.isfinite()
    if not finite.all():
        for part in gradients:
            part[~finite] = 0
    factors: Tensor = (most / norms).clamp(max=1)
    return factors.where(finite, 0)


# -- Patients with different numbers of records ---------------------------------------


def _chunks(batch: PatientBatch, dimension: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields rows (chunk, records) and their weights, patients of like record counts together.

    A patient's records fill up to a power of two with repeats of its first record at weight
    0: a repeat can bring no value that the patient's own gradient does not have.
    """
    _, owner, counts = torch.unique(batch.patients, return_inverse=True, return_counts=True)
    order = owner.argsort(stable=True)
    starts = counts.cumsum(0) - counts
    widths = 2 ** torch.ceil(torch.log2(counts.double())).long()
    fitting = _GRADIENT_BYTES // (4 * dimension)
    records = min(_MOST_RECORDS, _INPUT_BYTES // max(1, 4 * batch.inputs[:1].numel()))
    for width in sorted(set(widths.tolist())):
        members = torch.nonzero(widths == width).flatten()
        place = torch.arange(width, device=owner.device)
        for part in torch.split(members, max(1, min(fitting, records // width))):
            real = place < counts[part, None]
            rows = order[starts[part, None] + place.where(real, 0)]
            yield rows, real / counts[part, None]


# -- Layers that are refused ----------------------------------------------------------


def _check_layers(model: nn.Module) -> None:
    for name, layer in model.named_modules():
        kind = type(layer).__name__
        if isinstance(layer, _BatchNorm | _InstanceNorm) and _mixes_records(layer):
            raise PrivacyError(
                f"layer {name!r} ({kind}) uses or keeps statistics over records; "
                "use GroupNorm or LayerNorm, or freeze it with eval()"
            )
        if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
            raise ValueError(f"layer {name!r} ({kind}) is random while training; call eval() on it")


def _mixes_records(layer: _BatchNorm | _InstanceNorm) -> bool:
    if isinstance(layer, _InstanceNorm):
        return layer.training and layer.track_running_stats
    return layer.training or not layer.track_running_stats
