# SPDX-License-Identifier: Apache-2.0
"""Tests of the visible loop: it learns, repeats itself, and equals steps taken by hand."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from consilium.errors import ConfigError
from consilium.learning.models.registry import build
from consilium.learning.optimisers import Adam, Optimiser, Sgd, initial, update
from consilium.learning.parameters import assign, flatten
from consilium.learning.tasks import Classification
from consilium.learning.training import (
    Examples,
    LocalSettings,
    OptimiserName,
    predict,
    train_locally,
)

TASK = Classification(2)


def logistic() -> nn.Module:
    return build("logistic", shape=(3,), classes=2, seed=0)


def examples(count: int = 40) -> Examples:
    inputs = torch.randn(count, 3, generator=torch.Generator().manual_seed(5))
    return inputs, (inputs[:, 0] > 0).long()


def trained(order_seed: int, settings: LocalSettings) -> nn.Module:
    model = logistic()
    train_locally(model, TASK, examples(), settings, order_seed=order_seed)
    return model


# -- Training -------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_it_learns(optimiser: OptimiserName) -> None:
    settings = LocalSettings(epochs=30, batch_size=8, learning_rate=0.1, optimiser=optimiser)
    inputs, labels = examples()

    predicted = predict(trained(0, settings), TASK, inputs).argmax(axis=1)

    assert (predicted == labels.numpy()).mean() > 0.9


@pytest.mark.parametrize(
    ("settings", "optimiser"),
    [
        (LocalSettings(epochs=3, batch_size=100, momentum=0.9), Sgd(0.9)),
        (LocalSettings(epochs=3, batch_size=100, optimiser="adam"), Adam()),
    ],
)
def test_whole_batches_equal_steps_on_the_flat_vector(
    settings: LocalSettings, optimiser: Optimiser
) -> None:
    model, (inputs, labels) = logistic(), examples()
    state = initial(optimiser, len(flatten(model)))
    for _ in range(3):
        losses = TASK.loss(model(inputs), labels)
        parts = torch.autograd.grad(losses.mean(), list(model.parameters()))
        gradient = torch.cat([part.flatten() for part in parts]).numpy()
        state, weights = update(optimiser, state, gradient, settings.learning_rate, flatten(model))
        assign(model, weights)

    np.testing.assert_allclose(flatten(trained(0, settings)), flatten(model), atol=1e-6)


def test_one_seed_gives_one_order() -> None:
    first, second = (trained(3, LocalSettings(batch_size=4)) for _ in range(2))

    assert flatten(first).tobytes() == flatten(second).tobytes()


def test_another_seed_gives_another_order() -> None:
    first, second = (trained(seed, LocalSettings(batch_size=4)) for seed in (3, 4))

    assert flatten(first).tobytes() != flatten(second).tobytes()


def test_each_epoch_has_an_order_of_its_own() -> None:
    twice = logistic()
    for _ in range(2):
        train_locally(twice, TASK, examples(), LocalSettings(batch_size=4), order_seed=3)

    at_once = trained(3, LocalSettings(epochs=2, batch_size=4))

    assert flatten(at_once).tobytes() != flatten(twice).tobytes()


def test_training_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()

    trained(3, LocalSettings())

    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_parameters_stay() -> None:
    model = logistic()
    model.get_parameter("linear.bias").requires_grad = False

    train_locally(model, TASK, examples(), LocalSettings(), order_seed=0)

    assert model.get_parameter("linear.bias").tolist() == [0, 0]
    assert np.abs(flatten(model)).max() > 0


def test_a_site_without_examples_changes_nothing() -> None:
    model = logistic()

    train_locally(model, TASK, examples(0), LocalSettings(), order_seed=0)

    assert flatten(model).tolist() == [0] * 8


# -- Prediction -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 7, 40, 256])
def test_the_batch_size_does_not_change_predictions(batch_size: int) -> None:
    model = build("small-cnn", shape=(1, 8, 8), classes=2, seed=0)
    inputs = torch.randn(40, 1, 8, 8, generator=torch.Generator().manual_seed(5))

    found = predict(model, TASK, inputs, batch_size)

    np.testing.assert_allclose(found, predict(model, TASK, inputs), atol=1e-5)


def test_predictions_are_probabilities() -> None:
    found = predict(trained(0, LocalSettings()), TASK, examples()[0])

    assert found.dtype == np.float32
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_prediction_leaves_the_mode_of_the_model(training: bool) -> None:
    model = logistic().train(training)

    predict(model, TASK, examples()[0])

    assert model.training is training


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: LocalSettings(epochs=0), "epochs=0"),
        (lambda: LocalSettings(batch_size=0), "batch_size=0"),
        (lambda: LocalSettings(learning_rate=0.0), "learning_rate=0.0"),
        (lambda: LocalSettings(momentum=1.0), "momentum=1.0 with sgd"),
        (lambda: LocalSettings(momentum=0.9, optimiser="adam"), "0 with adam"),
        (lambda: LocalSettings(optimiser="rmsprop"), "expected one of 'sgd', 'adam'"),  # type: ignore[arg-type] # refused
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Callable[[], LocalSettings], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        make()
