# SPDX-License-Identifier: Apache-2.0
"""What every model of the registry keeps: records apart, in answers and in gradients.

The oracle of the gradients is `dp.per_patient.looped`, one backward pass a patient. The conformity
check of every model is in `tests/dp/test_conformity.py`.
"""

from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from consilium.dp.clip_kinds import Clip
from consilium.dp.clipping import PatientBatch, clipped_sum, why_not_booked
from consilium.dp.per_patient import Chunk, Objective, looped
from consilium.dp.sums import Sums
from consilium.learning.front_end import apply_front_end, split_front_end
from consilium.learning.models.registry import MAP_NAMES, NAMES, Shape, build
from consilium.learning.tasks import Classification, Segmentation, Task
from consilium.learning.training import predict

CLASSES = 3
SHAPES: dict[str, Shape] = {
    "small-cnn": (1, 28, 28),
    "small-cnn-relu": (3, 32, 32),
    "squeezenet": (3, 32, 32),
    "squeezenet-average": (3, 32, 32),
    "nf-resnet": (1, 28, 28),
    "nf-resnet18": (1, 32, 32),
    "resnet18": (3, 16, 16),
    "resnet50": (1, 16, 16),
    "vgg11": (3, 32, 32),
    "vgg11-gn": (1, 32, 32),
    "vgg16": (1, 32, 32),
    "vgg16-gn": (3, 32, 32),
    "wavelet": (1, 28, 28),
    "wavelet-second-order": (1, 8, 8),
    "wavelet-pyramid": (1, 28, 28),
    "logistic": (13,),
    "jets": (1, 16, 16),
    "monet": (1, 16, 16),
    "unet": (1, 16, 16),
    "unet-small": (3, 16, 24),
    "unet3d": (1, 8, 8, 16),
    "unet3d-small": (1, 8, 8, 8),
}
CLIP = 0.05


@cache
def made(name: str) -> nn.Module:
    return build(
        name, shape=SHAPES[name], classes=CLASSES, seed=0, label_maps=name in MAP_NAMES
    ).eval()


def task(name: str) -> Task:
    return Segmentation(CLASSES) if name in MAP_NAMES else Classification(CLASSES)


def records(name: str, count: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, *SHAPES[name], generator=random)
    shape = (count, *SHAPES[name][1:]) if name in MAP_NAMES else (count,)
    labels = torch.randint(0, CLASSES, shape, generator=random)
    return inputs, labels.to(torch.uint8) if name in MAP_NAMES else labels


def test_every_model_is_here() -> None:
    assert set(SHAPES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_does_not_depend_on_the_rest_of_the_batch(name: str) -> None:
    inputs, _ = records(name, 4)

    together = predict(made(name), task(name), inputs)
    alone = [predict(made(name), task(name), one[None])[0] for one in inputs]

    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_clipped_sum_is_that_of_one_backward_pass_a_patient(name: str) -> None:
    front_end, trained = split_front_end(made(name))
    inputs, labels = records(name, 4)
    features = apply_front_end(front_end, inputs)
    objective = Objective(trained, task(name).loss)
    slow = Sums(objective.trained())
    pairs, classes = (torch.stack(torch.split(values, 2)) for values in (features, labels))
    chunk = Chunk(pairs, classes, torch.full((2, 2), 0.5, dtype=torch.float64))
    looped(objective, chunk, slow, clip=Clip(CLIP * (1 - 1e-4)), records=2)

    batch = PatientBatch(inputs=features, labels=labels, patients=torch.tensor([0, 0, 1, 1]))
    found = clipped_sum(trained, task(name).loss, batch, l2_clip_norm=CLIP)

    expected = slow.bounded(1e9, torch.float32)
    assert float(expected.norm()) > CLIP / 4
    assert float((found - expected).norm()) < 1e-3 * CLIP


@pytest.mark.parametrize("name", MAP_NAMES)  # of the others: tests/dp/test_bookkeeping.py
def test_clipping_takes_one_pass(name: str) -> None:
    front_end, trained = split_front_end(made(name))
    inputs, labels = records(name, 2)
    batch = PatientBatch(
        inputs=apply_front_end(front_end, inputs), labels=labels, patients=torch.tensor([0, 1])
    )

    assert why_not_booked(trained, task(name).loss, batch) is None
