# SPDX-License-Identifier: Apache-2.0
"""Tests of private steps in other formats: channels last, half precision, compiled models."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector
from torch.optim import SGD

from consilium.dp.clip_kinds import FLAT, Automatic, Clipping, PerLayer
from consilium.dp.clipping import PatientBatch, clipped_sum
from consilium.dp.conformity import check
from consilium.dp.plan import Plan, alone
from consilium.dp.private_training import PrivateTraining, privatize
from consilium.errors import PrivacyError

torch.set_num_threads(1)

CLIP = 0.3


def loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs, labels, reduction="none")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def records(patients: int = 12) -> PatientBatch:
    random = torch.Generator().manual_seed(4)
    return PatientBatch(
        inputs=torch.randn(2 * patients, 2, 9, 9, generator=random),
        labels=torch.arange(2 * patients) % 3,
        patients=torch.arange(2 * patients) // 2,
    )


def plan(clipping: Clipping = FLAT, most_drawn: int | None = None) -> Plan:
    return Plan(
        sampling_probability=1.0,
        patients=12,
        l2_clip_norm=CLIP,
        noise_multiplier=0.3,
        steps=2,
        delta=1e-2,
        dimension=76 + 8 + 195,
        shares=alone(1),
        bits=32,
        clipping=clipping,
        most_drawn=most_drawn,
    )


def private(model: nn.Module, agreed: Plan) -> PrivateTraining:
    optimiser = SGD(model.parameters(), lr=1.0)
    return privatize(model, loss, records(), agreed, optimiser)


def moved(private: PrivateTraining) -> Tensor:
    before = parameters_to_vector(private.model.parameters()).detach().clone()
    private.step()
    return parameters_to_vector(private.model.parameters()).detach() - before


def summed(model: nn.Module) -> Tensor:
    return clipped_sum(model, loss, records(), l2_clip_norm=CLIP)


# -- Memory formats and precisions ----------------------------------------------------


def test_channels_last_records_and_models_give_the_same_sum() -> None:
    model, batch = network(), records()
    expected = summed(model)

    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
    last = batch.inputs.contiguous(memory_format=torch.channels_last)
    found = clipped_sum(
        model,
        loss,
        PatientBatch(inputs=last, labels=batch.labels, patients=batch.patients),
        l2_clip_norm=CLIP,
    )

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("most_drawn", [None, 13])
@pytest.mark.parametrize("clipping", [FLAT, PerLayer(), Automatic()])
def test_a_private_step_in_half_precision_stays_within_its_bound(
    clipping: Clipping, most_drawn: int | None
) -> None:
    model = network()

    with torch.autocast("cpu", torch.bfloat16):
        found = moved(private(model, plan(clipping, most_drawn)))

    assert found.isfinite().all()
    assert found.norm() <= CLIP * (1 + 0.3 * 6 * 279**0.5 / 12)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_parameters_of_half_precision_may_be_frozen_and_not_trained(kind: torch.dtype) -> None:
    model = network()
    model[4].to(kind)

    with pytest.raises(PrivacyError, match=r"'4.weight' is trained in torch\..*float16"):
        summed(model)

    model[4].to(torch.float32)
    model[1].to(kind).requires_grad_(requires_grad=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert summed(model).norm() > 0


# -- Compiled models ------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_gives_the_same_sum(backend: str) -> None:
    model = network()

    found = summed(torch.compile(model, backend=backend))  # type: ignore[arg-type]  # it is a module

    assert found.equal(summed(model))


@pytest.mark.slow
def test_a_model_that_was_compiled_and_used_gives_the_same_sum() -> None:
    model = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the compiler's own libraries
        compiled = torch.compile(model)
        compiled(records().inputs)

        found = summed(compiled)  # type: ignore[arg-type]  # it is a module

    assert found.equal(summed(model))


def compiled_in_place(layer: nn.Module) -> nn.Module:
    layer.compile(backend="eager")
    return layer


@pytest.mark.parametrize(
    "compiled", [compiled_in_place, lambda layer: torch.compile(layer, backend="eager")]
)
def test_a_layer_compiled_by_itself_is_refused(
    compiled: Callable[[nn.Module], nn.Module],
) -> None:
    model = network()
    model[0] = compiled(model[0])

    with pytest.raises(ValueError, match=r"layer '0' .* is compiled by itself"):
        summed(model)


def test_private_training_moves_what_was_compiled() -> None:
    model = network()
    compiled = torch.compile(model, backend="eager")
    before = [each.detach().clone() for each in model.parameters()]
    named = PerLayer((("0", 1.0), ("", 1.0)))

    private(compiled, plan(named)).step()  # type: ignore[arg-type]  # it is a module

    # one weight may stay where it is: noise on the lattice is nought now and then
    pairs = zip(model.parameters(), before, strict=True)
    assert all((after != each).any() for after, each in pairs)


# -- Wrappers of several devices ------------------------------------------------------


def test_a_model_that_averages_over_devices_is_refused() -> None:
    wrapped = nn.DataParallel(network())

    with pytest.raises(PrivacyError, match="averages the gradients"):
        summed(wrapped)
    with pytest.raises(PrivacyError, match="give the module inside it"):
        private(wrapped, plan())
    assert check(wrapped.module) == ()
