# SPDX-License-Identifier: Apache-2.0
"""Tests of tasks: one loss a record, probabilities that sum to one."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.func import vmap

from consilium.dp.clipping import PatientBatch, clipped_sum
from consilium.errors import ConfigError
from consilium.learning.models.registry import build
from consilium.learning.tasks import SMOOTHING, Classification, MapLoss, Segmentation, Task

LOGITS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [100.0, -100.0, 0.0]])
LABELS = torch.tensor([2, 0, 1])


def test_loss_of_each_record_is_its_cross_entropy() -> None:
    losses = Classification(3).loss(LOGITS, LABELS)

    softmax = math.exp(1) / (math.exp(1) + math.exp(2) + math.exp(3))
    torch.testing.assert_close(losses, torch.tensor([math.log(3), -math.log(softmax), 200.0]))


def test_class_weights_multiply_the_loss_of_their_records() -> None:
    weighted = Classification(3, class_weights=(0.5, 1.0, 3.0)).loss(LOGITS, LABELS)

    plain = Classification(3).loss(LOGITS, LABELS)
    torch.testing.assert_close(weighted, plain * torch.tensor([3.0, 0.5, 1.0]))


def test_class_weights_work_record_by_record() -> None:
    task = Classification(3, class_weights=(0.5, 1.0, 3.0))

    each = vmap(lambda logits, label: task.loss(logits[None], label[None])[0])(LOGITS, LABELS)

    torch.testing.assert_close(each, task.loss(LOGITS, LABELS))


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, math.nan), (1.0, 1.0, 1.0)])
def test_class_weights_that_make_no_sense_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="expected 2 numbers > 0"):
        Classification(2, class_weights=weights)


def test_probabilities_sum_to_one() -> None:
    probabilities = Classification(3).probabilities(LOGITS)

    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(3))


def test_gradient_of_the_loss_is_probability_minus_label() -> None:
    logits = LOGITS.clone().requires_grad_()

    torch.autograd.backward(Classification(3).loss(logits, LABELS).sum())

    expected = Classification(3).probabilities(LOGITS) - torch.eye(3)[LABELS]
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


def test_classification_is_a_task() -> None:
    task: Task = Classification(2)

    assert task == Classification(2)


def test_one_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="classes=1, expected 2 or more"):
        Classification(1)


# -- Label maps -----------------------------------------------------------------------

MAPS = torch.tensor([[[0, 1], [2, 2]], [[0, 0], [0, 0]]], dtype=torch.uint8)
KINDS: list[MapLoss] = ["dice", "dice-ce"]


def map_logits(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def slow_loss(logits: Tensor, truth: Tensor, kind: MapLoss) -> float:
    """The loss of one image, pixel by pixel."""
    probabilities = torch.softmax(logits.double(), dim=0)
    pixels = [(i, j) for i in range(2) for j in range(2)]
    quotients = []
    for k in (1, 2):
        both = sum(float(probabilities[k, i, j]) for i, j in pixels if truth[i, j] == k)
        either = sum(float(probabilities[k, i, j]) + float(truth[i, j] == k) for i, j in pixels)
        quotients.append((2 * both + SMOOTHING) / (either + SMOOTHING))
    entropy = [-math.log(float(probabilities[int(truth[i, j]), i, j])) for i, j in pixels]
    return 1 - sum(quotients) / 2 + (sum(entropy) / 4 if kind == "dice-ce" else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_each_image_is_its_own_dice(kind: MapLoss) -> None:
    losses = Segmentation(3, kind).loss(map_logits(), MAPS)

    expected = [slow_loss(map_logits()[i], MAPS[i], kind) for i in range(2)]
    torch.testing.assert_close(losses, torch.tensor(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_label_maps_are_those_of_small_steps(kind: MapLoss) -> None:
    logits = map_logits().double().requires_grad_()

    assert torch.autograd.gradcheck(lambda x: Segmentation(3, kind).loss(x, MAPS), (logits,))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_label_maps_work_record_by_record(kind: MapLoss) -> None:
    task = Segmentation(3, kind)

    each = vmap(lambda logits, one: task.loss(logits[None], one[None])[0])(map_logits(), MAPS)

    torch.testing.assert_close(each, task.loss(map_logits(), MAPS))


def test_probabilities_of_a_pixel_sum_to_one() -> None:
    probabilities = Segmentation(3).probabilities(map_logits())

    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 2, 2))


def test_class_weights_multiply_the_cross_entropy_of_their_pixels() -> None:
    weights = (0.5, 2.0, 3.0)

    found = Segmentation(3, "dice-ce", weights).loss(map_logits(), MAPS)

    own = torch.log_softmax(map_logits(), dim=1).gather(1, MAPS[:, None].long())[:, 0]
    entropy = (-own * torch.tensor(weights)[MAPS.long()]).mean(dim=(1, 2))
    torch.testing.assert_close(found, Segmentation(3, "dice").loss(map_logits(), MAPS) + entropy)


@pytest.mark.parametrize(
    ("classes", "kind", "weights"),
    [(1, "dice", ()), (3, "focal", ()), (3, "dice", (1.0, 1.0, 1.0)), (3, "dice-ce", (1.0,))],
)
def test_a_segmentation_that_makes_no_sense_is_refused(
    classes: int, kind: MapLoss, weights: tuple[float, ...]
) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Segmentation(classes, kind, weights)


# -- Soft labels ----------------------------------------------------------------------


@pytest.mark.parametrize("weights", [(), (0.5, 1.0, 2.0)])
def test_sure_soft_labels_have_the_loss_of_their_class(weights: tuple[float, ...]) -> None:
    outputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    task = Classification(3, weights)

    torch.testing.assert_close(
        task.loss(outputs, F.one_hot(labels, 3).float()), task.loss(outputs, labels)
    )


def test_soft_labels_have_torchs_loss_and_a_right_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    outputs = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    soft = torch.softmax(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    task = Classification(3)

    torch.testing.assert_close(
        task.loss(outputs, soft), F.cross_entropy(outputs, soft, reduction="none")
    )
    assert torch.autograd.gradcheck(lambda logits: task.loss(logits, soft), [outputs])


def test_soft_labels_are_clipped_by_patient() -> None:
    model = build("logistic", shape=(5,), classes=3, seed=0)
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(6, 5, generator=generator)
    soft = torch.softmax(torch.randn(6, 3, generator=generator), dim=1)
    owners = torch.tensor([0, 0, 1, 1, 1, 2])
    task = Classification(3)

    batch = PatientBatch(inputs=inputs, labels=soft, patients=owners)
    found = clipped_sum(model, task.loss, batch, l2_clip_norm=0.3)

    expected = torch.zeros_like(found)
    for patient in range(3):
        rows = owners == patient
        loss = task.loss(model(inputs[rows]), soft[rows]).mean()
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradient = torch.cat([part.flatten() for part in parts])
        expected += gradient * min(1.0, 0.3 / float(gradient.norm()))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
