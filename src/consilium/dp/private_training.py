# SPDX-License-Identifier: Apache-2.0
"""Private training in a plain PyTorch loop: what a step is cannot be taken apart.

    private = privatize(model, loss, records, plan, optimiser)
    for report in private.steps(plan.steps):
        ...

One call of `step` checks the model, charges, draws patients by Poisson sampling, clips each
patient's gradient, adds exact noise to the sum, divides by the public normaliser and moves the
optimiser. There is no other way to move it, and no flag: a step without a draw, a clip, noise
or a charge does not exist. Everything an optimiser does with the noised gradient is
post-processing, so any first-order optimiser and any schedule may be used.

Guarantees (Plan.epsilon, Plan.delta)-differential privacy for one patient added or removed, for
the model after every step together. It fails when the caller computes something else from the
records and lets it out (a loss, a chosen checkpoint, a hand-made gradient between two steps),
when the source of randomness is known or repeats, and when two trainings on the same patients
are each charged to itself only. It says nothing of time: a step takes longer for more patients.
"""

import hmac
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from consilium.dp.clip_kinds import FLAT, Clip, Clipping, PerLayer, Quantile
from consilium.dp.clipping import PatientBatch, check_layers, sum_of_patients
from consilium.dp.conformity import require
from consilium.dp.drawing import Roster
from consilium.dp.per_patient import Objective, PerRecordLoss, uncompiled
from consilium.dp.plan import Plan, View, alone, calibrated_noise, check_scale
from consilium.dp.team import ALONE, Team
from consilium.dp.truncated import delta_left
from consilium.errors import BudgetExceeded, ConfigError, PrivacyError
from consilium.keystream import KEY_BYTES, Keystream
from consilium.wire import derive

Source: TypeAlias = Callable[[], bytes]
"""32 fresh bytes a call, that nobody else knows."""

_BITS: Final = 32  # of the lattice: nothing is sent, so the finest
_STEP: Final = "dp/private-training/v1"


def operating_system() -> bytes:
    """Returns 32 bytes of the operating system's generator."""
    return os.urandom(KEY_BYTES)


# -- What is wanted -------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a training may cost one patient, and how it draws them.

    Attributes:
        epsilon: Of the whole training, at most.
        delta: Must be below one over the number of patients.
        expected_batch: Patients a step, on average.
        steps: Of the whole training.
        l2_clip_norm: Bound on one patient's gradient over all parameters; where `clipping` is
            `Quantile`, the first one.
        clipping: How a gradient is brought within it.
        most_drawn: Places in a batch of one shape; None: batches of any size.
    """

    epsilon: float
    delta: float
    expected_batch: float
    steps: int
    l2_clip_norm: float = 1.0
    clipping: Clipping = FLAT
    most_drawn: int | None = None


def plan_for(model: nn.Module, records: PatientBatch, goal: Goal) -> Plan:
    """Returns the plan of one party that trains `model` alone on `records` within `goal`.

    The number of patients in `records` becomes public by it, as does everything in a plan.

    Raises:
        PrivacyError: No noise reaches the goal, or delta is too large for so few patients.
        ConfigError: A number is outside its range.
    """
    patients = _count(records)
    if not patients:
        raise ConfigError("records hold no patient; expected at least 1: check the data")
    probability = goal.expected_batch / patients
    check_scale(sampling_probability=probability, patients=patients, delta=goal.delta)
    delta = goal.delta
    if goal.most_drawn is not None:
        delta = delta_left(
            delta,
            steps=goal.steps,
            count=patients,
            probability=probability,
            most=goal.most_drawn,
        )
    gradient = sum(parameter.numel() for parameter in model.parameters())
    return Plan(
        sampling_probability=probability,
        patients=patients,
        l2_clip_norm=goal.l2_clip_norm,
        noise_multiplier=calibrated_noise(
            target_epsilon=goal.epsilon,
            delta=delta,
            sampling_probability=probability,
            steps=goal.steps,
        ),
        steps=goal.steps,
        delta=goal.delta,
        dimension=gradient + _marks(goal.clipping),
        shares=alone(1),
        bits=_BITS,
        clipping=goal.clipping,
        most_drawn=goal.most_drawn,
    )


def _marks(clipping: Clipping) -> int:
    return 1 if isinstance(clipping, Quantile) else 0


def _count(records: PatientBatch) -> int:
    return len(set(records.patients.tolist()))


# -- The parts, and the training ------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a private training is made of.

    Attributes:
        model: Parameters with requires_grad are trained; which ones may change between steps.
        loss: Of each record.
        records: All training records, and whose they are.
        plan: Of one party alone (`plan_for`).
        optimiser: First order, over parameters of `model` and nothing else.
        charged: Steps that earlier trainings under this plan were charged, as after a restart.
        l2_clip_norm: Where they had taken the clip norm of `Quantile`; None: the plan's.
        team: Processes that take every step together, each with the same parts.

    Raises:
        PrivacyError: The parts together would void the guarantee.
        ConfigError: They do not fit one another.
    """

    model: nn.Module = field(repr=False)
    loss: PerRecordLoss
    records: PatientBatch = field(repr=False)
    plan: Plan
    optimiser: torch.optim.Optimizer = field(repr=False)
    charged: int = 0
    l2_clip_norm: float | None = None
    team: Team = ALONE

    def __post_init__(self) -> None:
        if self.plan.shares.members != 1:
            raise PrivacyError(
                f"the plan has {self.plan.shares.members} sites share the noise, expected 1: "
                "this party alone would add too little; build the plan with plan_for"
            )
        if self.charged < 0:
            raise ConfigError(f"charged is {self.charged}; expected 0 or more")
        if self.l2_clip_norm is not None and not 0 < self.l2_clip_norm < math.inf:
            raise ConfigError(
                f"l2_clip_norm is {self.l2_clip_norm}; expected a finite number above 0, or None"
            )
        patients = _count(self.records)
        check_scale(
            sampling_probability=self.plan.sampling_probability,
            patients=max(1, patients),
            delta=self.plan.delta,
        )
        _check_optimiser(self.model, self.optimiser)
        require(self.model, tuple(self.records.inputs.shape[1:]))


def _check_optimiser(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    if isinstance(optimiser, torch.optim.LBFGS):
        raise PrivacyError(
            "LBFGS asks for the loss again within a step, which is not charged; expected a "
            "first-order optimiser such as SGD or Adam"
        )
    own = set(model.parameters())
    strange = [p for p in _held_by(optimiser) if p not in own]
    if strange:
        raise ConfigError(
            f"the optimiser moves {len(strange)} tensors that are not parameters of the model; "
            "expected none: build it with model.parameters()"
        )


def _held_by(optimiser: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimiser.param_groups:
        yield from group["params"]


@final
@dataclass(frozen=True, slots=True)
class StepReport:
    """What may be told about a step: nothing that depends on who was drawn.

    Attributes:
        charged: Steps so far, this one included.
        left: Steps until the plan is spent.
    """

    charged: int
    left: int


@final
class PrivateTraining:
    """A model, its optimiser and the records, that only take whole private steps.

    Raises:
        TypeError: Something tries to copy or pickle it: a copy would be charged for itself only.
    """

    __slots__ = ("_charged", "_clip_norm", "_last", "_parts", "_roster", "_source")

    def __init__(self, parts: Parts, source: Source = operating_system) -> None:
        self._parts = parts
        self._source = source
        self._charged = parts.charged
        self._last = b""
        self._clip_norm = parts.l2_clip_norm or parts.plan.l2_clip_norm
        self._roster = Roster(parts.records, parts.plan)

    def step(self) -> StepReport:
        """Takes one step: the model has moved, and one step more is charged.

        Guarantees: the charge comes first, so an error in the middle costs budget, never
            privacy; whatever is refused before it changes nothing.

        Raises:
            BudgetExceeded: The plan's steps are spent.
            PrivacyError: A layer mixes or keeps patients, the source repeats itself, or a
                buffer was written to; then it is as before, and the model has not moved.
            ValueError: The clipping refuses the model or its loss.
        """
        plan, model = self._parts.plan, self._parts.model
        if self._charged >= plan.steps:
            raise BudgetExceeded(
                f"{self._charged} of {plan.steps} steps are charged; expected one to be left: "
                "stop here, the model is the last one inside the budget"
            )
        trainable = _trainable(model, plan)
        _check_optimiser(model, self._parts.optimiser)
        check_layers(model)
        secret = self._secret()
        self._charged += 1
        total = self._drawn_and_clipped(Keystream(derive(secret, _STEP, "coins")[:KEY_BYTES]))
        lattice = plan.lattice(plan.shares)
        noise = Keystream(derive(secret, _STEP, "noise")[:KEY_BYTES])
        noised = lattice.decode(lattice.encode(total.cpu().numpy(), noise))
        gradient = self._read(np.divide(noised, np.float32(plan.normaliser)))
        _move(self._parts.optimiser, model, trainable, torch.from_numpy(gradient))
        return StepReport(self._charged, self.steps_left)

    def steps(self, count: int) -> Iterator[StepReport]:
        """Yields the report of each of the next `count` steps, or of all that are left.

        A loop that stops early has taken and charged only the steps it saw.

        Raises:
            ValueError: `count` is negative.
        """
        if count < 0:
            raise ValueError(f"{count=} must be >= 0")
        return (self.step() for _ in range(min(count, self.steps_left)))

    @property
    def model(self) -> nn.Module:
        """The model; evaluate it on public records, or charge what you learn."""
        return self._parts.model

    @property
    def plan(self) -> Plan:
        """Sampling, clipping, noise and price."""
        return self._parts.plan

    @property
    def charged(self) -> int:
        """Steps so far: keep it with every checkpoint, and give it to `Parts` to go on."""
        return self._charged

    @property
    def steps_left(self) -> int:
        """Steps until the plan is spent."""
        return max(0, self.plan.steps - self._charged)

    @property
    def l2_clip_norm(self) -> float:
        """Of the next step, released like the model; with `Quantile`, keep it with `charged`."""
        return self._clip_norm

    @property
    def epsilon(self) -> float:
        """Of everything so far, at the plan's delta; takes a second where it is first asked."""
        return self.plan.epsilon(self._charged, View.OUTSIDER)

    def __repr__(self) -> str:
        """Shows what is public."""
        return f"PrivateTraining(charged {self._charged} of {self.plan.steps} steps)"

    def __reduce__(self) -> str:
        raise TypeError("a private training cannot be copied or pickled; keep model and charged")

    def _secret(self) -> bytes:
        secret = self._parts.team.agree(self._source())
        if len(secret) != KEY_BYTES or hmac.compare_digest(secret, self._last):
            raise PrivacyError(
                f"the source of randomness gave {len(secret)} bytes, or the same as before; "
                f"expected {KEY_BYTES} fresh ones: use the operating system's"
            )
        self._last = secret
        return secret

    def _drawn_and_clipped(self, coins: Keystream) -> Tensor:
        plan, model = self.plan, self._parts.model
        team = self._parts.team
        batch = self._roster.draw(coins, next(model.parameters()).device, team)
        kind = plan.clipping
        clip = Clip(
            plan.l2_clip_norm, kind.at(self._clip_norm) if isinstance(kind, Quantile) else kind
        )
        buffers = {name: value.clone() for name, value in model.named_buffers()}
        try:
            return sum_of_patients(Objective(model, self._parts.loss), batch, clip, team=team)
        finally:
            _check_buffers(model, buffers)

    def _read(self, mean: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the gradient in a release, and takes the next clip norm from it."""
        rule, first = self.plan.clipping, self.plan.l2_clip_norm
        if not isinstance(rule, Quantile):
            return mean
        mean, clip_norm = np.divide(mean, np.float32(first)), self._clip_norm
        self._clip_norm = rule.following(mean, clip_norm, first)
        return rule.gradient(mean, clip_norm)


def privatize(
    model: nn.Module,
    loss: PerRecordLoss,
    records: PatientBatch,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
) -> PrivateTraining:
    """Returns the private training of `model`, with the operating system's randomness.

    Args:
        model: Trained in place.
        loss: Outputs (n, ...) and labels (n,) to losses (n,).
        records: All training records, and whose they are.
        plan: From `plan_for`.
        optimiser: Any first-order optimiser over `model.parameters()`.

    Raises:
        PrivacyError: The parts together would void the guarantee.
        ConfigError: They do not fit one another.
    """
    parts = Parts(
        model=uncompiled(model), loss=loss, records=records, plan=plan, optimiser=optimiser
    )
    return PrivateTraining(parts)


# -- The parts of a step --------------------------------------------------------------


def _trainable(model: nn.Module, plan: Plan) -> list[nn.Parameter]:
    found = [p for p in model.parameters() if p.requires_grad]
    dimension, most = sum(p.numel() for p in found), plan.dimension - _marks(plan.clipping)
    if not 0 < dimension <= most:
        raise PrivacyError(
            f"{dimension} coordinates are trainable; expected 1 to {most}, the plan's: "
            "unfreeze something, or build the plan for this model"
        )
    if isinstance(plan.clipping, PerLayer):
        plan.clipping.parts([n for n, p in model.named_parameters() if p.requires_grad])
    return found


def _check_buffers(model: nn.Module, before: dict[str, Tensor]) -> None:
    """Puts every buffer back that a forward pass wrote to, and refuses the model if one did."""
    written = [
        n for n, value in model.named_buffers() if n in before and not value.equal(before[n])
    ]
    with torch.no_grad():
        for name in written:
            model.get_buffer(name).copy_(before[name])
    if written:
        raise PrivacyError(
            f"the model wrote to its buffers {written} in a forward pass; expected none, as they "
            "would hold patients' data without noise: call eval() on those layers or drop them"
        )


def _move(
    optimiser: torch.optim.Optimizer,
    model: nn.Module,
    trainable: list[nn.Parameter],
    gradient: Tensor,
) -> None:
    """Gives the optimiser the noised gradient, and nothing that was there before."""
    for parameter in model.parameters():
        parameter.grad = None
    parts = torch.split(gradient, [p.numel() for p in trainable])
    for parameter, part in zip(trainable, parts, strict=True):
        parameter.grad = part.view_as(parameter).to(parameter)
    optimiser.step()
    for parameter in trainable:
        parameter.grad = None
