# SPDX-License-Identifier: Apache-2.0
"""Tests of private training: what a step does, what it charges, and what it refuses."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from inspect import signature
from itertools import count

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.optim import LBFGS, SGD, Adam, AdamW, Optimizer, RMSprop

from consilium.dp import private_training
from consilium.dp.clip_kinds import Automatic, Clip, Clipping, Flat, PerLayer, Quantile
from consilium.dp.clipping import PatientBatch, sum_of_patients
from consilium.dp.per_patient import Chunk, Objective
from consilium.dp.plan import Plan, View, alone
from consilium.dp.private_training import (
    Goal,
    Parts,
    PrivateTraining,
    StepReport,
    operating_system,
    plan_for,
    privatize,
)
from consilium.dp.team import Team
from consilium.errors import BudgetExceeded, ConfigError, PrivacyError

torch.set_num_threads(1)


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")


def records(patients: int = 60, each: int = 2) -> PatientBatch:
    inputs = torch.randn(patients * each, 3, generator=torch.Generator().manual_seed(5))
    return PatientBatch(
        inputs=inputs,
        labels=(inputs[:, 0] > 0).long(),
        patients=torch.arange(patients).repeat(each),
    )


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def plan(**changes: object) -> Plan:
    settings = {
        "sampling_probability": 0.5,
        "patients": 60,
        "l2_clip_norm": 1.0,
        "noise_multiplier": 2.0,
        "steps": 3,
        "delta": 1e-3,
        "dimension": 26,
        "shares": alone(1),
        "bits": 32,
    }
    return Plan(**{**settings, **changes})  # type: ignore[arg-type]  # tests name what they change


def training(network: nn.Module | None = None, **changes: object) -> PrivateTraining:
    network = network or model()
    return privatize(network, loss, records(), plan(**changes), SGD(network.parameters(), lr=1.0))


def vector(network: nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach().clone()


class Linear(nn.Module):
    """Its gradient is its input, and there is much of it."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dimension))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ self.weight


def moved(inputs: Tensor, extra: int = 0, **changes: object) -> NDArray[np.float64]:
    """How far one step of rate 1 moves a flat model, coordinate by coordinate."""
    rows, dimension = inputs.shape
    network = Linear(dimension)
    batch = PatientBatch(
        inputs=inputs, labels=torch.zeros(rows, dtype=torch.int64), patients=torch.arange(rows)
    )
    agreed = plan(dimension=dimension + extra, patients=rows, **changes)
    private = privatize(
        network, lambda outputs, _: outputs, batch, agreed, SGD(network.parameters(), lr=1.0)
    )
    private.step()
    return network.weight.detach().double().numpy()


# -- What a step does -----------------------------------------------------------------


def test_training_learns() -> None:
    network, data = model(), records(200)
    goal = Goal(epsilon=8.0, delta=1e-3, expected_batch=100, steps=25)
    agreed = plan_for(network, data, goal)
    private = privatize(network, loss, data, agreed, Adam(network.parameters(), lr=0.1))

    reports = list(private.steps(25))

    assert len(reports) == 25
    accuracy = (network(data.inputs).argmax(1) == data.labels).double().mean()
    assert accuracy > 0.9
    assert 7.9 < private.epsilon <= 8.0


@pytest.mark.parametrize("probability", [1.0, 0.01])
def test_noise_has_the_stated_law_whoever_was_drawn(probability: float) -> None:
    steps = moved(torch.zeros(20, 20_000), sampling_probability=probability)

    sigma = 2.0 / (probability * 20)
    assert stats.kstest(steps, "norm", args=(0, sigma)).pvalue > 1e-6
    assert stats.kstest(steps, "norm", args=(0, sigma * 2 / 3)).pvalue < 1e-6
    assert stats.kstest(steps, "norm", args=(0, sigma * 3 / 2)).pvalue < 1e-6


def test_a_step_goes_down_the_clipped_mean() -> None:
    inputs = torch.zeros(20, 20_000)
    inputs[:, 0] = 1e6
    inputs[0, 0] = -math.inf

    steps = moved(inputs, sampling_probability=1.0, noise_multiplier=0.3)

    assert abs(steps[0] + 19 / 20) < 6 * 0.3 / 20  # each clipped to 1, one of them refused
    assert np.abs(steps[1:]).max() < 6 * 0.3 / 20


def test_patients_are_drawn_not_records() -> None:
    inputs = torch.eye(8).repeat(3, 1) * 1e3
    network = Linear(8)
    batch = PatientBatch(
        inputs=inputs, labels=torch.zeros(24, dtype=torch.int64), patients=torch.arange(8).repeat(3)
    )
    agreed = plan(
        dimension=8, patients=8, sampling_probability=0.5, noise_multiplier=0.15, steps=1, delta=0.1
    )
    optimiser = SGD(network.parameters(), lr=4.0)

    privatize(network, lambda outputs, _: outputs, batch, agreed, optimiser).step()

    there = -network.weight.detach()  # about 1 for a patient who was drawn, 0 for another
    assert torch.minimum(there.abs(), (there - 1).abs()).max() < 0.15 * 6 * 0.5 + 0.01


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, RMSprop])
def test_any_first_order_optimiser_takes_the_step(make: Callable[..., Optimizer]) -> None:
    network = model()
    before = vector(network)

    privatize(network, loss, records(), plan(), make(network.parameters(), lr=0.1)).step()

    assert not vector(network).equal(before)
    assert vector(network).isfinite().all()


def test_gradients_that_lay_there_have_no_effect() -> None:
    network = model()
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e9)

    training(network).step()

    assert vector(network).abs().max() < 100
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_parameters_stay_and_may_thaw() -> None:
    network = model()
    network[0].requires_grad_(requires_grad=False)
    network[0].weight.grad = torch.full((4, 3), 1e9)
    private = training(network)
    before = vector(network)

    private.step()
    frozen = vector(network)
    network[0].requires_grad_(requires_grad=True)
    private.step()

    assert frozen[:16].equal(before[:16])
    assert (frozen[16:] != before[16:]).all()
    assert (vector(network) != frozen).all()


def test_seeding_the_generators_does_not_repeat_a_step() -> None:
    results = []
    for _ in range(2):
        network = model()
        private = training(network)
        torch.manual_seed(0)
        np.random.seed(0)
        private.step()
        results.append(vector(network))

    assert (results[0] != results[1]).all()


# -- Other kinds of clipping, and batches of one shape --------------------------------

KINDS = [Flat(), PerLayer(), PerLayer((("0", 2.0), ("2", 1.0))), Automatic(), Quantile()]


@pytest.mark.parametrize("most", [None, 150])
@pytest.mark.parametrize("kind", KINDS)
def test_training_learns_with_every_kind_of_clipping(kind: Clipping, most: int | None) -> None:
    network, data = model(), records(200)
    goal = Goal(
        epsilon=8.0,
        delta=1e-3,
        expected_batch=100,
        steps=25,
        l2_clip_norm=0.5,
        clipping=kind,
        most_drawn=most,
    )
    agreed = plan_for(network, data, goal)
    private = privatize(network, loss, data, agreed, Adam(network.parameters(), lr=0.1))

    list(private.steps(25))

    accuracy = (network(data.inputs).argmax(1) == data.labels).double().mean()
    assert accuracy > 0.9
    assert 7.9 < private.epsilon <= 8.0


@pytest.mark.parametrize(
    ("kind", "units"),
    [(PerLayer(), 1.0), (Automatic(), 1.0), (Quantile(angle=0.5), 1 / math.cos(0.5))],
)
def test_noise_has_the_stated_law_with_every_kind(kind: Clipping, units: float) -> None:
    extra = 1 if isinstance(kind, Quantile) else 0

    steps = moved(torch.zeros(20, 20_000), extra=extra, clipping=kind, l2_clip_norm=0.4)

    sigma = 2.0 * 0.4 * units / (0.5 * 20)
    assert stats.kstest(steps, "norm", args=(0, sigma)).pvalue > 1e-6
    assert stats.kstest(steps, "norm", args=(0, sigma * 2 / 3)).pvalue < 1e-6
    assert stats.kstest(steps, "norm", args=(0, sigma * 3 / 2)).pvalue < 1e-6


def following(scale: float, charged: int = 0, clip_norm: float | None = None) -> PrivateTraining:
    """A training whose gradients have norm `scale`, with a clip norm that follows."""
    network = Linear(1)
    rows = 600
    batch = PatientBatch(
        inputs=torch.full((rows, 1), scale),
        labels=torch.zeros(rows, dtype=torch.int64),
        patients=torch.arange(rows),
    )
    agreed = plan(
        patients=rows,
        steps=60,
        dimension=2,
        clipping=Quantile(learning_rate=0.5, angle=0.3),
    )
    parts = Parts(
        model=network,
        loss=lambda outputs, _: outputs,
        records=batch,
        plan=agreed,
        optimiser=SGD(network.parameters(), lr=0.0),
        charged=charged,
        l2_clip_norm=clip_norm,
    )
    return PrivateTraining(parts)


@pytest.mark.parametrize("scale", [0.05, 30.0])
def test_the_clip_norm_finds_the_gradients(scale: float) -> None:
    private = following(scale)
    assert private.l2_clip_norm == 1.0

    list(private.steps(60))

    assert 0.6 * scale < private.l2_clip_norm < 1.6 * scale


def test_a_restart_goes_on_from_the_clip_norm() -> None:
    private = following(30.0)
    first = private.step()

    again = following(30.0, charged=first.charged, clip_norm=private.l2_clip_norm)

    assert again.l2_clip_norm == private.l2_clip_norm
    assert again.l2_clip_norm > 1.1


def test_the_clip_norm_of_other_kinds_is_the_plans() -> None:
    private = training(l2_clip_norm=0.3, clipping=Automatic())

    private.step()

    assert private.l2_clip_norm == 0.3


@pytest.mark.parametrize("most", [40, 60])
@pytest.mark.parametrize("each", [1, 3])
def test_a_batch_of_one_shape_is_the_same_at_every_step(
    monkeypatch: pytest.MonkeyPatch, most: int, each: int
) -> None:
    network, shapes = model(), set()
    engine = sum_of_patients

    def watched(
        objective: Objective, batch: PatientBatch | Chunk, clip: Clip, team: Team
    ) -> Tensor:
        shapes.add((batch.inputs.shape, batch.labels.shape))
        return engine(objective, batch, clip, team=team)

    monkeypatch.setattr(private_training, "sum_of_patients", watched)
    agreed = plan(sampling_probability=0.4, most_drawn=most, delta=1e-2)
    optimiser = SGD(network.parameters(), lr=1.0)

    list(privatize(network, loss, records(60, each), agreed, optimiser).steps(3))

    places = (most, 1 if each == 1 else 4)
    assert shapes == {((*places, 3), places)}


def test_a_shuffled_batch_has_no_way_in() -> None:
    named = set(signature(privatize).parameters)

    assert named == {"model", "loss", "records", "plan", "optimiser"}
    assert list(signature(PrivateTraining.step).parameters) == ["self"]


def test_a_parameter_without_a_part_is_refused_before_the_charge() -> None:
    private = training(clipping=PerLayer((("0", 1.0),)))

    with pytest.raises(ConfigError, match=r"'2\.weight' belongs to none"):
        private.step()

    assert private.charged == 0


def test_the_coordinate_of_the_count_is_not_the_models() -> None:
    private = training(clipping=Quantile(), dimension=26)

    with pytest.raises(PrivacyError, match="26 coordinates are trainable; expected 1 to 25"):
        private.step()


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_clip_norm_to_go_on_from_must_be_a_bound(value: float) -> None:
    with pytest.raises(ConfigError, match="l2_clip_norm is"):
        following(1.0, clip_norm=value)


# -- What it charges ------------------------------------------------------------------


def test_the_step_beyond_the_plan_is_refused_and_moves_nothing() -> None:
    private = training()
    reports = [private.step() for _ in range(3)]
    before = vector(private.model)

    with pytest.raises(BudgetExceeded, match="3 of 3 steps are charged"):
        private.step()

    assert reports == [StepReport(1, 2), StepReport(2, 1), StepReport(3, 0)]
    assert vector(private.model).equal(before)
    assert private.charged == 3


def test_steps_end_with_the_plan() -> None:
    private = training()

    taken = list(private.steps(100))

    assert [report.left for report in taken] == [2, 1, 0]
    assert list(private.steps(100)) == []


def test_a_loop_that_stops_early_has_charged_what_it_saw() -> None:
    private = training()

    next(private.steps(3))

    assert (private.charged, private.steps_left) == (1, 2)


def test_epsilon_is_that_of_the_plan() -> None:
    private = training()
    before = private.epsilon

    private.step()

    assert before == 0
    assert private.epsilon == plan().epsilon(1, View.PARTICIPANT)


def test_a_restart_goes_on_from_what_was_charged() -> None:
    network = model()
    optimiser = SGD(network.parameters(), lr=1.0)
    parts = Parts(
        model=network, loss=loss, records=records(), plan=plan(), optimiser=optimiser, charged=2
    )

    private = PrivateTraining(parts)

    assert private.epsilon == plan().epsilon(2, View.PARTICIPANT)
    assert len(list(private.steps(9))) == 1


def test_a_step_that_fails_in_the_middle_is_charged() -> None:
    network = model()
    private = privatize(
        network, cross_entropy, records(), plan(), SGD(network.parameters(), lr=1.0)
    )

    with pytest.raises(ValueError, match="one value a record"):
        private.step()

    assert private.charged == 1


# -- What it refuses ------------------------------------------------------------------


def test_a_model_that_mixes_patients_is_refused_at_once() -> None:
    with pytest.raises(PrivacyError, match=r"1 \(BatchNorm1d\)"):
        training(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


def test_a_layer_that_begins_to_mix_later_is_refused_before_the_charge() -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2).eval())
    private = training(network)
    network.train()
    before = vector(network)

    with pytest.raises(PrivacyError, match="BatchNorm1d"):
        private.step()

    assert private.charged == 0
    assert vector(network).equal(before)


@pytest.mark.parametrize("error", [None, RuntimeError("in the middle")])
def test_a_buffer_that_is_written_is_put_back_and_refused(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2).eval())
    private = training(network)
    before = vector(network)

    def engine(objective: Objective, *_: object, **__: object) -> Tensor:
        objective.model.get_buffer("1.running_mean").add_(1)
        if error:
            raise error
        return torch.zeros(10)

    monkeypatch.setattr(private_training, "sum_of_patients", engine)

    with pytest.raises(PrivacyError, match=r"wrote to its buffers \['1.running_mean'\]"):
        private.step()

    assert network.get_buffer("1.running_mean").tolist() == [0, 0]
    assert vector(network).equal(before)


def sources() -> Iterator[tuple[str, Callable[[], bytes]]]:
    yield "the same again", lambda: bytes(32)
    numbers = count()
    yield "too short", lambda: next(numbers).to_bytes(16, "big")


@pytest.mark.parametrize("source", [s for _, s in sources()], ids=[name for name, _ in sources()])
def test_a_bad_source_of_randomness_is_refused(source: Callable[[], bytes]) -> None:
    network = model()
    parts = Parts(
        model=network,
        loss=loss,
        records=records(),
        plan=plan(),
        optimiser=SGD(network.parameters(), lr=1.0),
    )
    private = PrivateTraining(parts, source)

    with pytest.raises(PrivacyError, match="source of randomness"):
        list(private.steps(2))

    assert private.charged <= 1


def test_the_operating_system_does_not_repeat_itself() -> None:
    assert len({operating_system() for _ in range(100)}) == 100
    assert len(operating_system()) == 32


def test_noise_that_is_shared_with_absent_sites_is_refused() -> None:
    with pytest.raises(PrivacyError, match="2 sites share the noise"):
        training(shares=alone(2))


def test_more_patients_than_delta_allows_are_refused() -> None:
    network = model()
    with pytest.raises(PrivacyError, match="delta"):
        privatize(network, loss, records(1200), plan(), SGD(network.parameters(), lr=1.0))


def test_more_coordinates_than_the_plan_has_are_refused() -> None:
    private = training(dimension=25)

    with pytest.raises(PrivacyError, match="26 coordinates are trainable; expected 1 to 25"):
        private.step()

    assert private.charged == 0


def test_an_optimiser_of_something_else_is_refused() -> None:
    network, other = model(), nn.Linear(2, 2)

    with pytest.raises(ConfigError, match="moves 2 tensors"):
        privatize(network, loss, records(), plan(), SGD(other.parameters(), lr=1.0))


def test_an_optimiser_that_is_given_something_else_later_is_refused() -> None:
    network = model()
    optimiser = SGD(network.parameters(), lr=1.0)
    private = privatize(network, loss, records(), plan(), optimiser)
    optimiser.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})

    with pytest.raises(ConfigError, match="moves 1 tensors"):
        private.step()


def test_an_optimiser_that_asks_for_the_loss_is_refused() -> None:
    network = model()

    with pytest.raises(PrivacyError, match="LBFGS"):
        privatize(network, loss, records(), plan(), LBFGS(network.parameters()))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_is_refused(copied: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="cannot be copied"):
        copied(training())


def test_nothing_private_is_shown_or_told() -> None:
    private = training()

    assert repr(private) == "PrivateTraining(charged 0 of 3 steps)"
    assert [field.name for field in fields(StepReport)] == ["charged", "left"]
    assert [name for name in dir(private) if not name.startswith("_")] == [
        *("charged", "epsilon", "l2_clip_norm", "model", "plan", "step", "steps", "steps_left")
    ]


def test_a_negative_charge_is_refused() -> None:
    network = model()
    parts = Parts(
        model=network,
        loss=loss,
        records=records(),
        plan=plan(),
        optimiser=SGD(network.parameters(), lr=1.0),
    )

    with pytest.raises(ConfigError, match="charged is -1"):
        replace(parts, charged=-1)


# -- The plan -------------------------------------------------------------------------


def test_a_plan_counts_patients_and_stays_within_the_goal() -> None:
    goal = Goal(epsilon=3.0, delta=1e-3, expected_batch=15, steps=20, l2_clip_norm=0.5)

    found = plan_for(model(), records(60, each=3), goal)

    assert (found.patients, found.sampling_probability, found.dimension) == (60, 0.25, 26)
    assert (found.steps, found.l2_clip_norm, found.shares) == (20, 0.5, alone(1))
    assert 2.97 < found.epsilon(20, View.OUTSIDER) <= 3.0


@pytest.mark.parametrize(
    ("goal", "error"),
    [
        (Goal(epsilon=3.0, delta=1 / 60, expected_batch=15, steps=20), PrivacyError),
        (Goal(epsilon=3.0, delta=1e-3, expected_batch=61, steps=20), ConfigError),
        (Goal(epsilon=1e-9, delta=1e-9, expected_batch=60, steps=10**7), PrivacyError),
    ],
)
def test_a_goal_out_of_reach_is_refused(goal: Goal, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan_for(model(), records(60), goal)


def test_nobody_cannot_be_trained_on() -> None:
    goal = Goal(epsilon=3.0, delta=1e-3, expected_batch=15, steps=20)

    with pytest.raises(ConfigError, match="no patient"):
        plan_for(model(), records(0), goal)
