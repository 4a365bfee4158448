# SPDX-License-Identifier: Apache-2.0
"""Tests of the conformity check: what is named, what is noted, what is let pass."""

import pytest
import torch
from torch import Tensor, nn

from consilium.dp.conformity import Severity, check, require
from consilium.errors import PrivacyError
from consilium.learning.models.registry import MAP_NAMES, NAMES, build

torch.set_num_threads(1)


class Centred(nn.Module):
    """Subtracts the mean over the batch."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs - inputs.mean(dim=0)


class Borrowing(nn.Module):
    """Its last record takes the first feature of the one before, if that is large."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + inputs.roll(1, 0).relu() * 1e-3


class Remembering(nn.Module):
    """Keeps the mean of what it has seen, and uses it for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen = inputs.mean().reshape(1)
        return inputs


class Paired(nn.Module):
    """Gives one linear layer two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(inputs))
        return out


class Hidden(nn.Module):
    """A clean layer inside a block that mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.inner(inputs)
        return out * float(out.norm())


def forbidden(model: nn.Module, shape: tuple[int, ...] | None = None) -> list[str]:
    return [o.layer for o in check(model, shape) if o.severity is Severity.FORBIDDEN]


def noted(model: nn.Module, shape: tuple[int, ...] | None = None) -> list[str]:
    return [o.layer for o in check(model, shape) if o.severity is Severity.NOTED]


# -- By kind --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2),
        nn.SyncBatchNorm(2),
        nn.BatchNorm2d(2, track_running_stats=False).eval(),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.InstanceNorm2d(2, track_running_stats=True),
    ],
)
def test_statistics_over_records_are_found(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(), layer))

    assert forbidden(model) == ["1.1"]


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
        nn.InstanceNorm2d(2),
        nn.InstanceNorm2d(2, affine=True),
        nn.Conv2d(2, 2, 1),
        nn.Dropout(0.0),
    ],
)
def test_layers_that_work_on_each_record_are_let_pass(layer: nn.Module) -> None:
    assert check(nn.Sequential(layer)) == ()


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(2).eval(),
        nn.InstanceNorm2d(2, track_running_stats=True).eval(),
        nn.Dropout(0.1),
    ],
)
def test_what_is_safe_under_a_condition_is_noted(layer: nn.Module) -> None:
    model = nn.Sequential(layer)

    assert noted(model) == ["0"]
    require(model)


def test_shared_parameters_are_noted_with_both_names() -> None:
    (offence,) = check(Paired())

    assert (offence.layer, offence.severity) == ("second", Severity.NOTED)
    assert "shares its weight with first.weight" in offence.why


# -- By probe -------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Centred(), Borrowing(), Remembering(), nn.Softmax(dim=0)])
def test_a_planted_layer_is_found_by_the_probe_and_not_by_its_kind(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(3, 3), layer, nn.Linear(3, 2))

    assert forbidden(model) == []
    assert forbidden(model, (3,)) == ["1"]


def test_a_block_that_mixes_is_named_when_none_of_its_layers_does() -> None:
    assert forbidden(nn.Sequential(nn.Linear(3, 3), Hidden()), (3,)) == ["1"]


def test_a_model_that_mixes_in_its_own_forward_is_named() -> None:
    (offence,) = check(Hidden(), (3,))

    assert str(offence).startswith("the model itself (Hidden) lets one record")


def test_each_mixing_layer_is_named_though_the_input_of_the_second_is_mixed() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), Centred(), nn.Linear(3, 3), Centred())

    assert forbidden(model, (3,)) == ["0", "1", "3"]


@pytest.mark.parametrize("name", NAMES)
def test_models_of_the_registry_have_no_offence(name: str) -> None:
    maps = name in MAP_NAMES
    shape = (1, 8, 8, 8) if name.startswith("unet3d") else (1, 64, 64)
    model = build(name, shape=shape, classes=3, seed=1, label_maps=maps)

    assert forbidden(model, shape) == []


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_mixes_records_only_if_it_takes_them_for_a_sequence(batch_first: bool) -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=batch_first)

    assert forbidden(model, (5, 8)) == ([] if batch_first else ["self_attn"])


def test_a_layer_that_gives_nan_for_everybody_is_no_mixing() -> None:
    model = nn.Linear(3, 3)
    torch.nn.init.constant_(model.bias, torch.nan)

    assert forbidden(model, (3,)) == []


def test_the_model_and_the_generator_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), nn.RReLU(), Remembering())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    check(model, (3,))

    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert torch.get_rng_state().equal(state)
    assert model[1].training
    assert not any(layer._forward_hooks for layer in model.modules())


def test_an_input_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"4 records of shape \(5,\).*expected the shape"):
        check(nn.Linear(3, 3), (5,))


# -- Refusal --------------------------------------------------------------------------


def test_all_offences_are_in_one_message() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), Centred(), nn.InstanceNorm1d(3), nn.Dropout())

    with pytest.raises(PrivacyError) as caught:
        require(model, (3, 2))

    assert "2 of the model's layers" in str(caught.value)
    assert "0 (BatchNorm1d) uses statistics" in str(caught.value)
    assert "1 (Centred) lets one record" in str(caught.value)
    assert "Dropout" not in str(caught.value)
