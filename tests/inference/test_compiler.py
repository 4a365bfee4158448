# SPDX-License-Identifier: Apache-2.0
"""From our models to programs: the same answers, ranges that hold, and what is refused."""

import os

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from consilium.errors import ConfigError
from consilium.inference.cleartext import run_clear
from consilium.inference.compiler import compile_network
from consilium.inference.network import evaluate, read_network
from consilium.inference.protocol import Randomness, run_inference
from consilium.inference.ranges import calibrate_ranges, prove_ranges
from consilium.learning.models.registry import build

MODELS = [
    ("squeezenet", (3, 48, 48)),
    ("squeezenet-average", (3, 48, 48)),
    ("nf-resnet", (1, 28, 28)),
    ("nf-resnet18", (3, 64, 64)),
    ("small-cnn-relu", (1, 28, 28)),
    ("small-cnn-relu", (3, 64, 64)),
    ("logistic", (1, 28, 28)),
    ("vgg11", (3, 32, 32)),
]


def made(name: str, shape: tuple[int, int, int]) -> nn.Module:
    """Returns a model whose last layer is not zero."""
    model = build(name, shape=shape, classes=5, seed=0)
    if name == "logistic":
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            parameter.data = 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def some_images(shape: tuple[int, int, int], count: int) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, *shape, generator=generator).clamp(-2, 2)


@pytest.mark.parametrize(("name", "shape"), MODELS)
def test_layers_give_what_the_model_gives(name: str, shape: tuple[int, int, int]) -> None:
    model, images = made(name, shape), some_images(shape, 2)

    found = evaluate(read_network(model, shape), images)[-1].flatten(1)

    assert torch.allclose(found.float(), model(images), atol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [*MODELS[:2], *MODELS[3:6]])
def test_shares_give_what_the_model_gives(name: str, shape: tuple[int, int, int]) -> None:
    model, images = made(name, shape), some_images(shape, 64)
    network = read_network(model, shape)
    compiled = compile_network(network, calibrate_ranges(network, images))
    asked = images[:2].permute(0, 2, 3, 1).numpy()

    logits = run_inference(compiled.program, compiled.weights, asked, Randomness(os.urandom(32)))

    with torch.no_grad():
        plain = model(images[:2]).numpy()
    assert np.abs(logits - plain).max() < 2e-3
    clear = run_clear(compiled.program, compiled.weights, asked)
    assert np.abs(logits - clear.logits).max() < 2e-3


def test_proved_ranges_hold_for_the_worst_corner() -> None:
    shape = (1, 28, 28)
    network = read_network(made("small-cnn-relu", shape), shape)
    bounds = prove_ranges(network, -2.0, 2.0).bounds

    generator = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 2, (50, *shape), generator=generator) * 4.0 - 2.0
    seen = [float(value.abs().max()) for value in evaluate(network, corners)]

    assert all(one <= bound + 1e-9 for one, bound in zip(seen, bounds, strict=True))


def test_a_small_network_needs_no_calibration() -> None:
    shape = (1, 28, 28)
    network = read_network(made("small-cnn-relu", shape), shape)

    compiled = compile_network(network, prove_ranges(network, -2.0, 2.0))

    assert compiled.ranges.basis == "proved"


def test_a_deep_network_without_calibration_is_refused() -> None:
    network = read_network(made("squeezenet", (3, 48, 48)), (3, 48, 48))

    with pytest.raises(ConfigError, match=r"values may reach .* \(proved\).*calibrate"):
        compile_network(network, prove_ranges(network, -2.0, 2.0))


def test_a_few_images_are_no_calibration() -> None:
    network = read_network(made("squeezenet", (3, 48, 48)), (3, 48, 48))

    with pytest.raises(ConfigError, match="expected 64 or more"):
        calibrate_ranges(network, some_images((3, 48, 48), 3))


def test_a_ring_that_is_too_narrow_is_refused() -> None:
    shape = (1, 28, 28)
    network = read_network(made("nf-resnet", shape), shape)
    bounds = calibrate_ranges(network, some_images(shape, 64))
    spread = type(bounds)(
        bounds=(bounds.bounds[0], 4000.0, *bounds.bounds[2:]), basis="calibrated", images=64
    )

    with pytest.raises(ConfigError, match="bits for its weights"):
        compile_network(network, spread, 32)


@pytest.mark.parametrize(
    ("name", "what"),
    [("resnet18", "GroupNorm"), ("small-cnn", "Tanh"), ("wavelet", "depend on")],
)
def test_what_is_not_computed_on_shares_is_refused_by_name(name: str, what: str) -> None:
    shape = (1, 32, 32)

    with pytest.raises(ConfigError, match=what):
        read_network(build(name, shape=shape, classes=3, seed=0), shape)


def test_a_factor_that_is_not_positive_is_refused() -> None:
    class Negative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(1, 2, 3)

        def forward(self, maps: Tensor) -> Tensor:
            return torch.relu(self.first(maps)) * -1.0

    with pytest.raises(ConfigError, match="factor of -1"):
        read_network(Negative(), (1, 8, 8))
