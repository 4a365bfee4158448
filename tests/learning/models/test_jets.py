# SPDX-License-Identifier: Apache-2.0
"""Tests of the jets: derivatives of known images, a small network, one record at a time."""

import pytest
import torch
from torch import Tensor, nn

from consilium.dp.clipping import PatientBatch, why_not_booked
from consilium.dp.conformity import check
from consilium.learning.front_end import split_front_end
from consilium.learning.models.jets import SCALES, Jets, derivative
from consilium.learning.models.registry import build
from consilium.learning.tasks import Segmentation

SHAPE = (3, 16, 24)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def model(classes: int = 3) -> nn.Module:
    return build("jets", shape=SHAPE, classes=classes, seed=0, label_maps=True)


def ramp(power: int, side: int = 41) -> Tensor:
    """An image whose grey level is a power of the column, from the middle."""
    columns = torch.arange(side, dtype=torch.float32) - side // 2
    return (columns**power).expand(1, 1, side, side)


# -- Features -------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES[:2])
def test_derivatives_of_powers_are_known(scale: float) -> None:
    middle = (0, 0, 20, 20)

    slope = derivative(ramp(1), scale, (0, 1))[middle]
    curvature = derivative(ramp(2), scale, (0, 2))[middle]

    assert float(slope) == pytest.approx(scale, rel=0.05)
    assert float(curvature) == pytest.approx(2 * scale**2, rel=0.12)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1)])
def test_an_even_image_has_no_slope(order: tuple[int, int]) -> None:
    flat = torch.full((1, 1, 20, 20), 3.0)

    assert float(derivative(flat, 1.5, order).abs().max()) < 1e-5


def test_a_derivative_down_is_that_across_of_the_turned_image() -> None:
    image = images(1)[:, :1]

    down = derivative(image, 1.5, (1, 0))

    torch.testing.assert_close(down, derivative(image.mT, 1.5, (0, 1)).mT)


@pytest.mark.parametrize(("channels", "expected"), [(1, 27), (3, 33)])
def test_features_lie_on_half_the_grid(channels: int, expected: int) -> None:
    assert Jets()(torch.zeros(2, channels, 16, 24)).shape == (2, expected, 8, 12)


# -- Network --------------------------------------------------------------------------


def test_a_logit_for_every_class_and_pixel() -> None:
    assert model()(images(2)).shape == (2, 3, 16, 24)
    assert sum(parameter.numel() for parameter in model().parameters()) == 1020


def test_the_features_are_the_fixed_front_end() -> None:
    front, trained = split_front_end(model())

    assert [type(layer).__name__ for layer in front.children()] == ["Jets"]
    torch.testing.assert_close(trained(front(images(2))), model()(images(2)))


def test_no_layer_breaks_a_patients_privacy() -> None:
    assert check(model(), SHAPE) == ()


def test_an_image_gets_the_same_answer_alone_and_among_others() -> None:
    torch.testing.assert_close(model()(images(5))[2], model()(images(5)[2:3])[0])


def test_clipping_takes_one_pass() -> None:
    maps = torch.zeros(2, 16, 24, dtype=torch.uint8)
    batch = PatientBatch(inputs=images(2), labels=maps, patients=torch.tensor([0, 1]))

    assert why_not_booked(model(), Segmentation(3).loss, batch) is None
