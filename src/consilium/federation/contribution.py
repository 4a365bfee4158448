# SPDX-License-Identifier: Apache-2.0
"""What one site computes in one round, from its own patients to a vector in the ring.

`GradientWork`: draw patients, clip each, sum, add this site's share of noise. An empty draw
still sends noise. `TrainingWork`: train locally and send the change, no guarantee, named so.
Both are pure given the secret that the caller took from the operating system. Only the sum over
the patients drawn may be computed elsewhere (`Summing`); who is drawn and the noise are not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consilium.dp.clipping import PatientBatch, clipped_sum
from consilium.dp.noise import Ring
from consilium.dp.plan import NoiseShares, Plan
from consilium.dp.sampling import poisson_sample
from consilium.errors import DataError
from consilium.keystream import KEY_BYTES, Keystream
from consilium.learning.parameters import Vector, assign, device_of, flatten
from consilium.learning.tasks import Task
from consilium.learning.training import Examples, LocalSettings, train_locally
from consilium.secagg.quantize import FixedPoint
from consilium.wire import derive, digest

CHANGE_BOUND: Final = 16.0  # largest weighted change of one weight in one round of local training


class Fresh(Protocol):
    """Makes augmented views of a site's records, others for every key."""

    @property
    def views(self) -> int:
        """How many of each record."""
        ...

    def __call__(self, rows: NDArray[np.intp], key: bytes) -> Examples:
        """Returns inputs and labels of `views` times the records at `rows`, view by view.

        Guarantees: those of a record depend on it, its number of the view and the key alone.
        """
        ...


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Trainee:
    """A model and the records of one site, ready to compute on.

    Attributes:
        inputs: Shape (records, ...), float32.
        labels: Shape (records,), int64.
        rows: For each patient the indices of its records.
        fresh: Makes what is trained on out of the records, anew in every round and epoch; None
            trains on `inputs` as they are.
        seed: Of the experiment: which fresh views.
    """

    model: nn.Module = field(repr=False)
    task: Task
    inputs: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    rows: tuple[NDArray[np.intp], ...] = field(repr=False)
    fresh: Fresh | None = field(default=None, repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError("this site has no patient; expected at least 1: check its data")

    def examples(self, rows: NDArray[np.intp], moment: bytes) -> Examples:
        """Returns what is trained on of the records at `rows`, as many views of each as there are.

        Args:
            rows: Indices of records.
            moment: What is different in each round and epoch, and public.
        """
        if self.fresh is None:
            chosen = torch.from_numpy(rows)
            return self.inputs[chosen], self.labels[chosen]
        return self.fresh(rows, digest("fresh views", self.seed, moment))

    @property
    def views(self) -> int:
        """How often `examples` gives each record."""
        return 1 if self.fresh is None else self.fresh.views

    def clipped_sum(
        self, weights: Vector, drawn: Sequence[NDArray[np.intp]], l2_clip_norm: float
    ) -> Vector:
        """Returns the sum over the patients drawn, in this process; see `Summing`."""
        assign(self.model, weights)
        inputs, labels = self.examples(np.concatenate(drawn), weights.tobytes())
        owners = np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn])
        patients = torch.from_numpy(np.tile(owners, self.views))
        device = device_of(self.model)
        batch = PatientBatch(
            inputs=inputs.to(device), labels=labels.to(device), patients=patients.to(device)
        )
        total = clipped_sum(self.model, self.task.loss, batch, l2_clip_norm=l2_clip_norm)
        vector: Vector = total.cpu().numpy()
        return vector


class Summing(Protocol):
    """Computes the clipped sum over patients: in this process, or in others of this site."""

    def __call__(
        self, weights: Vector, drawn: Sequence[NDArray[np.intp]], l2_clip_norm: float
    ) -> Vector:
        """Returns the sum over patients of their clipped gradients, shape (dimension,).

        Args:
            weights: The model, shape (dimension,).
            drawn: The records of each patient, one patient or more.
            l2_clip_norm: C.

        Guarantees: one patient more or less moves the sum by at most C in L2; all patients
            drawn are in it, or it raises.
        """
        ...


def batch_of(inputs: Tensor, labels: Tensor, drawn: Sequence[NDArray[np.intp]]) -> PatientBatch:
    """Returns the records of the patients drawn, given where each one's lie."""
    chosen = torch.from_numpy(np.concatenate([np.zeros(0, np.intp), *drawn]))
    patients = torch.from_numpy(np.repeat(np.arange(len(drawn)), [len(rows) for rows in drawn]))
    return PatientBatch(inputs=inputs[chosen], labels=labels[chosen], patients=patients)


@final
@dataclass(frozen=True, slots=True)
class GradientWork:
    """One step of DP-SGD among sites, as `plan` says."""

    plan: Plan

    def width(self) -> int:
        """Returns the number of ring elements a site sends."""
        return self.plan.dimension

    def word(self) -> type[np.uint16] | type[np.uint32]:
        """Returns the type of a ring element."""
        return self.plan.lattice(self.plan.shares).word

    def gradient(self, total: Ring, shares: NoiseShares) -> Vector:
        """Returns the noised average gradient in an opened sum, shape (dimension,)."""
        summed = self.plan.lattice(shares).decode(total)
        mean: Vector = np.divide(summed, np.float32(self.plan.normaliser), dtype=np.float32)
        return mean


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingWork:
    """Local training and an average weighted by records, without any privacy guarantee.

    Attributes:
        settings: Of the local optimiser; the learning rate comes with every round.
        dimension: Number of weights.
        mean_records: Public average of records a site; only scales the weights.
        ring: Fixed point of the sum.
        seed: Of the order of records, an experiment's randomness.
    """

    settings: LocalSettings
    dimension: int
    mean_records: float
    ring: FixedPoint
    seed: int

    def width(self) -> int:
        """Returns the number of ring elements a site sends: the weights and its own weight."""
        return self.dimension + 1

    def word(self) -> type[np.uint32]:
        """Returns the type of a ring element."""
        return np.uint32

    def change(self, total: Ring) -> Vector:
        """Returns the average change of the weights in an opened sum, shape (dimension,)."""
        sums = self.ring.decode(total.astype(np.uint32))
        mean: Vector = (sums[:-1] / sums[-1]).astype(np.float32)
        return mean


Work: TypeAlias = GradientWork | TrainingWork


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What the coordinator asks of every site in a round.

    Attributes:
        round: Its number.
        weights: The model, shape (dimension,), float32.
        learning_rate: Of local training.
        shares: Who adds noise in this round.
    """

    round: int
    weights: Vector = field(repr=False)
    learning_rate: float
    shares: NoiseShares


def contribute(
    trainee: Trainee,
    work: Work,
    assignment: Assignment,
    secret: bytes,
    summing: Summing | None = None,
) -> Ring:
    """Returns this site's vector of the round, shape (work.width(),), in the ring.

    Args:
        trainee: This site's model and records.
        work: What the project says.
        assignment: What the coordinator asked.
        secret: 32 fresh bytes of the operating system: the coins and the noise come from it.
        summing: What adds up the patients drawn with `GradientWork`; None is this process.

    Guarantees: With `GradientWork`, replacing one patient's data by nothing moves the vector
        before noise by at most C in L2; the noise is this site's exact share. The secret is
        used for this round only, by the caller's promise; using it twice voids the guarantee.

    Raises:
        DataError: Local training diverged.
    """
    match work:
        case GradientWork(plan):
            drawn = poisson_sample(
                len(trainee.rows), plan.sampling_probability, _stream(secret, "sampling")
            )
            total = np.zeros(plan.dimension, np.float32)
            if len(drawn):
                rows = [trainee.rows[patient] for patient in drawn]
                sum_of = summing or trainee.clipped_sum
                total = sum_of(assignment.weights, rows, plan.l2_clip_norm)
            return plan.lattice(assignment.shares).encode(total, _stream(secret, "noise"))
        case TrainingWork():
            return work.ring.encode(_local_change(trainee, work, assignment))


def _stream(secret: bytes, purpose: str) -> Keystream:
    return Keystream(derive(secret, purpose)[:KEY_BYTES])


def order_seed(weights: Vector) -> int:
    """Returns what fixes the order of records in a round that begins with this model.

    Not its number: a lost round that is done again under a new one trains as it would have.
    """
    return int.from_bytes(digest("order of records", weights.tobytes())[:4], "big")


def _local_change(trainee: Trainee, work: TrainingWork, assignment: Assignment) -> Vector:
    assign(trainee.model, assignment.weights)
    everybody = np.arange(len(trainee.labels))

    def epoch(number: int) -> Examples:
        moment = digest("epoch", number, assignment.weights.tobytes())
        return trainee.examples(everybody, moment)

    train_locally(
        trainee.model,
        trainee.task,
        (trainee.inputs, trainee.labels) if trainee.fresh is None else epoch,
        replace(work.settings, learning_rate=assignment.learning_rate),
        order_seed=work.seed + order_seed(assignment.weights),
    )
    weight = np.float32(trainee.views * len(trainee.labels) / work.mean_records)
    change = flatten(trainee.model) - assignment.weights
    if not np.isfinite(change).all():
        raise DataError("local training diverged; expected finite weights: lower learning_rate")
    return np.append(change * weight, weight).astype(np.float32)
