# SPDX-License-Identifier: Apache-2.0
"""Tests of classification: one loss a record, probabilities that sum to one."""

import math

import pytest
import torch
from torch.func import vmap

from consilium.errors import ConfigError
from consilium.learning.tasks import Classification, Task

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
