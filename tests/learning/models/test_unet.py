# SPDX-License-Identifier: Apache-2.0
"""Tests of the U-Nets: their size, their skips, and that every weight's gradient is a record's."""

import pytest
import torch
from torch import Tensor, nn

from consilium.dp.clipping import PatientBatch, clipped_sum, why_not_booked
from consilium.dp.conformity import check
from consilium.errors import ConfigError
from consilium.learning.front_end import split_front_end
from consilium.learning.models.registry import build
from consilium.learning.models.unet import DEPTH, Folded
from consilium.learning.tasks import Segmentation

SIZES = {"unet": 120_044, "unet-small": 7_988}
SHAPE = (3, 16, 24)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def maps(count: int) -> Tensor:
    drawn = torch.randint(0, 3, (count, *SHAPE[1:]), generator=torch.Generator().manual_seed(1))
    return drawn.to(torch.uint8)


def small() -> nn.Module:
    return build("unet-small", shape=SHAPE, classes=3, seed=0, label_maps=True)


# -- Shape ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_a_logit_for_every_class_and_pixel(name: str) -> None:
    model = build(name, shape=SHAPE, classes=3, seed=0, label_maps=True)

    assert model(images(2)).shape == (2, 3, 16, 24)
    assert sum(parameter.numel() for parameter in model.parameters()) == SIZES[name]


def test_folding_is_the_fixed_front_end() -> None:
    front, trained = split_front_end(small())

    folded = front(images(2))

    assert folded.shape == (2, 14, 8, 12)
    assert folded[0, 12:, 0, 0].tolist() == [-1, -1]
    assert folded[1, 12:, -1, -1].tolist() == [1, 1]
    assert trained(folded).shape == (2, 3, 16, 24)


def test_folding_keeps_every_pixel() -> None:
    folded = Folded()(images(1))

    assert sorted(folded[0, :12].flatten().tolist()) == sorted(images(1).flatten().tolist())


@pytest.mark.parametrize("shape", [(1, 12, 16), (3, 16, 20)])
def test_sides_that_do_not_fold_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="multiples of 8"):
        build("unet", shape=shape, classes=3, seed=0, label_maps=True)


def test_label_maps_need_a_model_for_them() -> None:
    with pytest.raises(
        ConfigError,
        match="asked for label maps; expected one of jets, monet, unet, unet-small, unet3d",
    ):
        build("nf-resnet", shape=(1, 32, 32), classes=3, seed=0, label_maps=True)


def test_one_label_a_record_needs_another_model() -> None:
    with pytest.raises(ConfigError, match="asked for one label a record"):
        build("unet", shape=SHAPE, classes=3, seed=0)


# -- Skips ----------------------------------------------------------------------------


@pytest.mark.parametrize("level", range(DEPTH))
def test_removing_a_skip_changes_the_output(level: int) -> None:
    whole, cut = small(), small()
    weight = cut.get_parameter(f"1.up.{level}.first.weight")

    with torch.no_grad():
        weight[:, -weight.shape[0] :] = 0  # the skip has as many channels as the block gives back

    assert not torch.allclose(whole(images(2)), cut(images(2)), atol=1e-3)


# -- Privacy --------------------------------------------------------------------------


def test_no_layer_breaks_a_patients_privacy() -> None:
    assert check(small(), SHAPE) == ()


def test_an_image_gets_the_same_answer_alone_and_among_others() -> None:
    model, several = small(), images(5)

    torch.testing.assert_close(model(several)[2], model(several[2:3])[0])


def test_clipping_takes_one_pass() -> None:
    batch = PatientBatch(inputs=images(2), labels=maps(2), patients=torch.tensor([0, 1]))

    assert why_not_booked(small(), Segmentation(3).loss, batch) is None


def test_a_patients_slices_are_averaged_and_clipped_as_one() -> None:
    model, task = small(), Segmentation(3)
    owners = torch.tensor([7, 3, 7, 7, 3])

    found = clipped_sum(
        model,
        task.loss,
        PatientBatch(inputs=images(5), labels=maps(5), patients=owners),
        l2_clip_norm=0.05,
    )

    expected = torch.zeros_like(found)
    for patient in (3, 7):
        rows = owners == patient
        loss = task.loss(model(images(5)[rows]), maps(5)[rows]).mean()
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        expected += gradient * min(1.0, 0.05 / float(gradient.norm()))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
