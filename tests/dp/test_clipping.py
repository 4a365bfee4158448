# SPDX-License-Identifier: Apache-2.0
"""Tests of clipped gradients: against a loop of single backward passes, and their bound."""

import copy
import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from consilium.dp import clipping
from consilium.dp.clipping import PatientBatch, clipped_sum
from consilium.errors import PrivacyError

torch.set_num_threads(1)

CLIP = 0.7
record_counts = st.lists(st.integers(1, 9), max_size=8)


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")


def small_model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def batch_of(counts: list[int], seed: int = 0) -> PatientBatch:
    """Patients with `counts` records each, of gradients below and above the clip norm."""
    torch.manual_seed(seed)
    patients = torch.repeat_interleave(
        torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64)
    )
    scale = torch.logspace(-1, 1, len(patients))[:, None, None, None]
    inputs = torch.randn(len(patients), 1, 6, 6) * scale
    return PatientBatch(
        inputs=inputs, labels=torch.randint(0, 3, (len(patients),)), patients=patients
    )


def part(batch: PatientBatch, rows: Tensor) -> PatientBatch:
    return PatientBatch(
        inputs=batch.inputs[rows], labels=batch.labels[rows], patients=batch.patients[rows]
    )


def loop(model: nn.Module, batch: PatientBatch, clip: float = CLIP) -> Tensor:
    """One float64 backward pass a patient: slow, and obviously what is meant."""
    exact = copy.deepcopy(model).double()
    parameters = [p for p in exact.parameters() if p.requires_grad]
    total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
    for patient in torch.unique(batch.patients):
        rows = batch.patients == patient
        mean = loss(exact(batch.inputs[rows].double()), batch.labels[rows]).mean()
        gradient = parameters_to_vector(torch.autograd.grad(mean, parameters))
        total += gradient * min(1.0, clip * (1 - 1e-4) / float(gradient.norm()))
    return total


def patient_sum(model: nn.Module, batch: PatientBatch, clip: float = CLIP) -> Tensor:
    return clipped_sum(model, loss, batch, l2_clip_norm=clip)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=1e-4, atol=2e-6)


# -- What is meant --------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(record_counts, st.integers(0, 5))
def test_the_sum_is_that_of_a_loop_over_patients(counts: list[int], seed: int) -> None:
    model, batch = small_model(seed), batch_of(counts, seed)

    assert_close(patient_sum(model, batch), loop(model, batch))


@pytest.mark.parametrize("clip", [1e-3, 0.1, 10.0, 1e3])
def test_the_sum_is_that_of_a_loop_at_any_clip_norm(clip: float) -> None:
    model, batch = small_model(), batch_of([1, 3, 5, 2])

    found = patient_sum(model, batch, clip) / clip

    assert_close(found, loop(model, batch, clip) / clip)


def test_coordinates_are_in_the_order_of_the_parameters() -> None:
    model, batch = small_model(), batch_of([1])

    found = patient_sum(model, batch, 1e6)

    mean = loss(model(batch.inputs), batch.labels).mean()
    gradients = torch.autograd.grad(mean, list(model.parameters()))
    assert_close(found, parameters_to_vector(gradients))


def test_small_chunks_give_the_same_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = small_model(), batch_of([1, 1, 1, 2, 3, 3, 7])
    whole = patient_sum(model, batch)

    monkeypatch.setattr(clipping, "_MOST_RECORDS", 2)

    assert_close(patient_sum(model, batch), whole)


def test_one_record_a_patient_is_the_clipping_of_records() -> None:
    model, batch = small_model(), batch_of([4])
    alone = PatientBatch(inputs=batch.inputs, labels=batch.labels, patients=torch.arange(4))

    assert_close(patient_sum(model, alone), loop(model, alone))


def test_frozen_parameters_take_no_part() -> None:
    model, batch = small_model(), batch_of([1, 2])
    model[0].requires_grad_(requires_grad=False)

    found = patient_sum(model, batch)

    assert found.shape == (4 + 4 + 15,)
    assert_close(found, loop(model, batch))


def test_the_model_is_left_as_it_was() -> None:
    model = small_model()
    before = parameters_to_vector(model.parameters()).clone()

    patient_sum(model, batch_of([1, 2]))

    assert torch.equal(parameters_to_vector(model.parameters()), before)
    assert all(p.grad is None for p in model.parameters())


def test_an_empty_batch_gives_zeros() -> None:
    found = patient_sum(small_model(), batch_of([]))

    assert found.dtype == torch.float32
    assert found.shape == (40 + 8 + 15,)
    assert not found.any()


# -- What must not matter -------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(record_counts, st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(counts: list[int], random: Random) -> None:
    batch = batch_of(counts)
    rows = list(range(len(batch.labels)))
    random.shuffle(rows)

    found = patient_sum(small_model(), part(batch, torch.tensor(rows, dtype=torch.long)))

    assert_close(found, patient_sum(small_model(), batch))


def test_the_numbers_of_patients_do_not_matter() -> None:
    batch = batch_of([1, 3, 2])
    renamed = PatientBatch(
        inputs=batch.inputs, labels=batch.labels, patients=1_000_000 - 77 * batch.patients
    )

    assert_close(patient_sum(small_model(), renamed), patient_sum(small_model(), batch))


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_patient_whose_records_are_repeated_counts_the_same(times: int) -> None:
    batch = batch_of([1, 3, 2])
    rows = torch.arange(6).repeat(times)

    assert_close(patient_sum(small_model(), part(batch, rows)), patient_sum(small_model(), batch))


# -- The bound ------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(record_counts, st.integers(1, 20), st.floats(-3, 6), st.floats(1e-3, 10))
def test_adding_a_patient_moves_the_sum_by_at_most_the_clip_norm(
    counts: list[int], records: int, exponent: float, clip: float
) -> None:
    both = batch_of([*counts, records])
    planted = both.patients == len(counts)
    both.inputs[planted] *= 10**exponent
    without = part(both, torch.nonzero(~planted).flatten())

    moved = patient_sum(small_model(), both, clip) - patient_sum(small_model(), without, clip)

    assert moved.double().norm() <= clip


@pytest.mark.parametrize("value", [1e18, 1e30, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("records", [1, 3])
def test_a_planted_patient_cannot_move_the_sum_beyond_the_clip_norm(
    value: float, records: int
) -> None:
    both = batch_of([1, 2, records])
    both.inputs[3] = value
    without = part(both, torch.arange(3))

    moved = patient_sum(small_model(), both) - patient_sum(small_model(), without)

    assert moved.isfinite().all()
    assert moved.double().norm() <= CLIP


class Scaled(nn.Module):
    """Its gradient is its input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs * self.weight).sum(dim=1)


def linear_sum(inputs: Tensor, clip: float) -> Tensor:
    rows = len(inputs)
    batch = PatientBatch(
        inputs=inputs, labels=torch.zeros(rows, dtype=torch.int64), patients=torch.arange(rows)
    )
    return clipped_sum(Scaled(), lambda outputs, _: outputs, batch, l2_clip_norm=clip)


def test_a_huge_finite_gradient_is_clipped_and_kept() -> None:
    found = linear_sum(torch.tensor([[1e30, 0.0, 0.0]]), 2.0)

    assert found.tolist() == pytest.approx([2 * (1 - 1e-4), 0, 0])


def test_a_gradient_below_the_clip_norm_is_not_touched() -> None:
    assert linear_sum(torch.tensor([[0.5, -0.25, 1.0]]), 2.0).tolist() == [0.5, -0.25, 1.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_becomes_zero(value: float) -> None:
    found = linear_sum(torch.tensor([[0.5, value, 1.0], [1.0, 0.0, 0.0]]), 2.0)

    assert found.tolist() == [1.0, 0.0, 0.0]


def test_the_bound_holds_when_very_many_patients_agree() -> None:
    many = torch.tensor([[1.0, 1.0, 1.0]]).repeat(5000, 1)

    moved = linear_sum(many, 1.0) - linear_sum(many[1:], 1.0)

    assert moved.double().norm() <= 1
    assert linear_sum(many, 1.0).norm() <= 384


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(1),
        nn.BatchNorm2d(1, track_running_stats=False).eval(),
        nn.InstanceNorm2d(1, track_running_stats=True),
        nn.SyncBatchNorm(1),
    ],
)
def test_a_layer_with_statistics_over_records_is_refused_by_name(layer: nn.Module) -> None:
    model = nn.Sequential(layer, small_model())

    with pytest.raises(PrivacyError, match=rf"0 \({type(layer).__name__}\)"):
        patient_sum(model, batch_of([1]))


def test_a_batch_norm_of_public_statistics_is_allowed() -> None:
    layer = nn.BatchNorm2d(1).eval()
    model = nn.Sequential(layer, small_model())

    found = patient_sum(model, batch_of([1, 2]))

    assert_close(found, loop(model, batch_of([1, 2])))
    assert layer.running_mean is not None
    assert not layer.running_mean.any()


def test_active_dropout_is_refused_and_inactive_dropout_is_not() -> None:
    model = nn.Sequential(nn.Dropout(0.5), small_model())

    with pytest.raises(ValueError, match=r"'0' \(Dropout\)"):
        patient_sum(model, batch_of([1]))
    assert_close(patient_sum(model.eval(), batch_of([1])), patient_sum(model[1], batch_of([1])))


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_a_clip_norm_that_is_no_bound_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="l2_clip_norm"):
        patient_sum(small_model(), batch_of([1]), clip)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="requires_grad"):
        patient_sum(small_model().requires_grad_(requires_grad=False), batch_of([1]))


def test_a_loss_that_is_already_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="one value a record"):
        clipped_sum(small_model(), cross_entropy, batch_of([1, 2]), l2_clip_norm=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("inputs", torch.zeros(2, 1, 6, 6, dtype=torch.float64)),
        ("inputs", torch.tensor(1.0)),
        ("inputs", torch.zeros(3, 1, 6, 6)),
        ("labels", torch.zeros(3, dtype=torch.int64)),
        ("labels", torch.zeros(2)),
        ("patients", torch.zeros(2, 1, dtype=torch.int64)),
        ("patients", torch.zeros(2, dtype=torch.int32)),
    ],
)
def test_a_batch_of_another_shape_or_kind_is_refused(name: str, value: Tensor) -> None:
    whole = batch_of([2])
    fields = {"inputs": whole.inputs, "labels": whole.labels, "patients": whole.patients}

    with pytest.raises(ValueError, match="expected"):
        PatientBatch(**{**fields, name: value})


def test_a_batch_never_shows_its_contents() -> None:
    assert repr(batch_of([2])) == "PatientBatch()"
