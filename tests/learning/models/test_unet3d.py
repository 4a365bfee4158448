# SPDX-License-Identifier: Apache-2.0
"""Tests of the U-Nets for volumes: size, skips, and a clip that equals a loop over patients."""

import pytest
import torch
from torch import Tensor, nn

from consilium.dp.clipping import PatientBatch, clipped_sum, why_not_booked
from consilium.dp.conformity import check
from consilium.errors import ConfigError
from consilium.learning.front_end import split_front_end
from consilium.learning.models.registry import build
from consilium.learning.models.unet import DEPTH, Folded, unfolded
from consilium.learning.tasks import Segmentation

SHAPE = (1, 8, 16, 8)
SIZES = {"unet3d": 357_992, "unet3d-small": 23_420}


def volumes(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def maps(count: int) -> Tensor:
    drawn = torch.randint(0, 3, (count, *SHAPE[1:]), generator=torch.Generator().manual_seed(1))
    return drawn.to(torch.uint8)


def small() -> nn.Module:
    return build("unet3d-small", shape=SHAPE, classes=3, seed=0, label_maps=True)


@pytest.mark.parametrize("name", SIZES)
def test_a_logit_for_every_class_and_voxel(name: str) -> None:
    model = build(name, shape=SHAPE, classes=3, seed=0, label_maps=True)

    assert model(volumes(2)).shape == (2, 3, 8, 16, 8)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


def test_unfolding_undoes_folding() -> None:
    folded = Folded()(volumes(2))

    assert folded.shape == (2, 11, 4, 8, 4)
    assert torch.equal(unfolded(folded[:, :8]), volumes(2))


def test_folding_is_the_fixed_front_end() -> None:
    front, trained = split_front_end(small())

    assert trained(front(volumes(2))).shape == (2, 3, 8, 16, 8)


@pytest.mark.parametrize("level", range(DEPTH))
def test_removing_a_skip_changes_the_output(level: int) -> None:
    whole, cut = small(), small()
    weight = cut.get_parameter(f"1.up.{level}.first.weight")

    with torch.no_grad():
        weight[:, -weight.shape[0] :] = 0

    assert not torch.allclose(whole(volumes(2)), cut(volumes(2)), atol=1e-3)


def test_no_layer_breaks_a_patients_privacy() -> None:
    assert check(small(), SHAPE) == ()


def test_a_volume_gets_the_same_answer_alone_and_among_others() -> None:
    model, several = small(), volumes(5)

    torch.testing.assert_close(model(several)[2], model(several[2:3])[0])


def test_clipping_takes_one_pass() -> None:
    batch = PatientBatch(inputs=volumes(2), labels=maps(2), patients=torch.tensor([0, 1]))

    assert why_not_booked(small(), Segmentation(3).loss, batch) is None


def test_a_patients_volumes_are_averaged_and_clipped_as_one() -> None:
    model, task = small(), Segmentation(3)
    owners = torch.tensor([7, 3, 7, 7, 3])

    batch = PatientBatch(inputs=volumes(5), labels=maps(5), patients=owners)
    found = clipped_sum(model, task.loss, batch, l2_clip_norm=0.05)

    expected = torch.zeros_like(found)
    for patient in (3, 7):
        rows = owners == patient
        loss = task.loss(model(volumes(5)[rows]), maps(5)[rows]).mean()
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        expected += gradient * min(1.0, 0.05 / float(gradient.norm()))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("unet3d", (1, 16, 16)), ("unet", (1, 8, 16, 16))])
def test_pictures_and_volumes_are_told_apart(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="volumes"):
        build(name, shape=shape, classes=3, seed=0, label_maps=True)


def test_a_depth_that_does_not_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        build("unet3d", shape=(1, 12, 16, 16), classes=3, seed=0, label_maps=True)
