# SPDX-License-Identifier: Apache-2.0
"""Tests of the converter: what becomes of a layer, what it keeps, and that records part."""

import copy
from collections.abc import Callable
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from consilium.dp.conformity import check
from consilium.dp.conversion import Kind, converted, groups

torch.set_num_threads(1)

KINDS: list[Kind] = ["group", "layer", "instance"]
kinds = st.sampled_from(KINDS)


def network(channels: int) -> nn.Sequential:
    torch.manual_seed(channels)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Sequential(nn.Conv2d(channels, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def trained(layer: nn.Module) -> nn.Module:
    """The same layer with parameters and statistics that are not the initial ones."""
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 2)
    return layer


# -- What becomes of a layer ----------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "kind", "expected"),
    [
        (nn.BatchNorm2d(64), "group", "GroupNorm(32, 64"),
        (nn.BatchNorm3d(6), "group", "GroupNorm(6, 6"),
        (nn.BatchNorm2d(37), "group", "GroupNorm(1, 37"),
        (nn.BatchNorm2d(66), "group", "GroupNorm(22, 66"),
        (nn.SyncBatchNorm(64), "group", "GroupNorm(32, 64"),
        (nn.BatchNorm1d(64), "group", "GroupNorm(1, 64"),
        (nn.BatchNorm2d(64), "layer", "GroupNorm(1, 64"),
        (nn.BatchNorm2d(5), "instance", "InstanceNorm2d(5"),
        (nn.BatchNorm3d(5), "instance", "InstanceNorm3d(5"),
        (nn.InstanceNorm1d(5, track_running_stats=True), "group", "InstanceNorm1d(5"),
        (nn.InstanceNorm3d(5, track_running_stats=True), "layer", "InstanceNorm3d(5"),
    ],
)
def test_a_layer_becomes_its_counterpart(layer: nn.Module, kind: Kind, expected: str) -> None:
    new = converted(nn.Sequential(layer), kind=kind)[0]  # type: ignore[index]  # a Sequential

    assert repr(new).startswith(expected)
    assert "track_running_stats=True" not in repr(new)


@given(st.integers(1, 500))
def test_groups_are_the_largest_divisor_up_to_32(channels: int) -> None:
    divisors = [n for n in range(1, 33) if channels % n == 0]

    assert groups(channels) == divisors[-1]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(3, affine=True), nn.LayerNorm(3)]
)
def test_other_layers_stay(layer: nn.Module) -> None:
    model = nn.Sequential(layer)

    assert repr(converted(model)) == repr(model)


def test_a_model_that_is_one_layer_is_converted() -> None:
    assert isinstance(converted(nn.BatchNorm2d(4)), nn.GroupNorm)


def test_a_layer_in_two_places_is_converted_once() -> None:
    layer = nn.BatchNorm2d(4)

    new = cast("nn.Sequential", converted(nn.Sequential(layer, nn.ReLU(), layer)))

    assert new[0] is new[2]
    assert isinstance(new[0], nn.GroupNorm)


# -- What it keeps --------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "make",
    [lambda: nn.BatchNorm2d(6, eps=0.25), lambda: nn.InstanceNorm2d(6, 0.25, 0.1, True, True)],
)
def test_affine_values_type_mode_and_freezing_are_kept(
    make: Callable[[], nn.Module], kind: Kind
) -> None:
    old = trained(make()).double().eval()
    next(old.parameters()).requires_grad = False

    new = converted(old, kind=kind)

    before, after = dict(old.named_parameters()), dict(new.named_parameters())
    assert before.keys() == after.keys() == {"weight", "bias"}
    assert all(after[name].equal(before[name]) for name in before)
    assert [p.dtype for p in after.values()] == [torch.float64] * 2
    assert [p.requires_grad for p in after.values()] == [False, True]
    assert not new.training
    assert new.eps == 0.25


def test_the_device_is_kept() -> None:
    new = converted(nn.Sequential(nn.BatchNorm2d(4)).to("meta"))

    assert {parameter.device.type for parameter in new.parameters()} == {"meta"}


def test_a_layer_without_affine_parameters_stays_so() -> None:
    assert list(converted(nn.BatchNorm2d(4, affine=False)).parameters()) == []


def test_the_original_is_untouched() -> None:
    model = network(8)
    twin = copy.deepcopy(model)

    new = converted(model)
    nn.init.zeros_(next(new.parameters()))

    assert repr(model) == repr(twin)
    before, after = twin.state_dict(), model.state_dict()
    assert all(after[name].equal(before[name]) for name in before)


# -- Records part ---------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(kinds, st.integers(1, 70), st.integers(1, 9), st.booleans())
def test_evaluation_of_an_image_does_not_depend_on_its_batch(
    kind: Kind, channels: int, count: int, training: bool
) -> None:
    model = converted(network(channels), kind=kind).train(training)
    images = torch.randn(count, 1, 8, 8)

    together = model(images)

    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_batch_norm_fails_that_test() -> None:
    model = network(8)
    images = torch.randn(3, 1, 8, 8)

    together = model(images)

    alone = torch.cat([model(image[None]) for image in images])
    assert not torch.allclose(together, alone, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_that_the_conformity_check_names(kind: Kind) -> None:
    assert check(converted(network(8), kind=kind), (1, 8, 8)) == ()


@pytest.mark.parametrize("kind", ["group", "layer"])
def test_a_norm_of_vectors_keeps_what_tells_them_apart(kind: Kind) -> None:
    model = converted(nn.BatchNorm1d(8), kind=kind)
    vectors = torch.arange(40.0).reshape(5, 8) ** 2 % 7

    out: Tensor = model(vectors).detach()

    alone = torch.cat([model(row[None]) for row in vectors])
    torch.testing.assert_close(out, alone, rtol=1e-5, atol=1e-5)
    assert float(torch.pdist(out).min()) > 0.1


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.SyncBatchNorm(4)])
def test_an_instance_norm_that_could_mix_is_refused_by_name(layer: nn.Module) -> None:
    with pytest.raises(ValueError, match=rf"'0' is a {type(layer).__name__}.*kind=\"group\""):
        converted(nn.Sequential(layer), kind="instance")


def test_a_layer_without_a_size_is_refused() -> None:
    with pytest.raises(ValueError, match="uninitialized"):
        converted(nn.Sequential(nn.LazyBatchNorm2d()))


def test_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="batch"):
        converted(nn.ReLU(), kind="batch")  # type: ignore[arg-type]  # what is refused
