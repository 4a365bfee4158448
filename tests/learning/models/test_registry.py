# SPDX-License-Identifier: Apache-2.0
"""Tests of every model alike: sizes, gradients record by record, and what a name may ask for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from consilium.errors import ConfigError
from consilium.learning.models.registry import MAP_NAMES, RECORD_NAMES, Shape, build, summary
from consilium.learning.parameters import flatten
from consilium.learning.tasks import Classification

PARAMETERS: list[tuple[str, Shape, int, int]] = [
    ("small-cnn", (1, 28, 28), 10, 26_010),
    ("small-cnn", (1, 64, 64), 2, 25_746),
    ("small-cnn", (3, 28, 28), 5, 27_893),
    ("small-cnn", (1, 8, 8), 10, 26_010),
    ("small-cnn-relu", (1, 28, 28), 10, 26_010),
    ("squeezenet", (3, 224, 224), 5, 725_061),
    ("squeezenet", (1, 64, 64), 5, 723_909),
    ("squeezenet-average", (3, 64, 64), 5, 725_061),
    ("nf-resnet", (1, 28, 28), 2, 174_450),
    ("nf-resnet", (3, 64, 64), 5, 174_933),
    ("nf-resnet18", (3, 64, 64), 5, 11_179_077),
    ("resnet18", (3, 128, 128), 1000, 11_689_512),  # torchvision's count
    ("resnet50", (3, 128, 128), 1000, 25_557_032),  # the same
    ("vgg11", (3, 32, 32), 5, 9_220_480 + 5 * 513),
    ("vgg11-gn", (3, 32, 32), 5, 9_228_549),
    ("vgg16", (3, 32, 32), 5, 14_714_688 + 5 * 513),
    ("vgg16-gn", (3, 32, 32), 5, 14_725_701),
    ("wavelet", (1, 64, 64), 2, 2_178),
    ("wavelet", (1, 28, 28), 10, 8_340),
    ("wavelet", (3, 28, 28), 5, 12_500),
    ("wavelet", (1, 224, 224), 2, 1_668),
    ("wavelet-second-order", (1, 28, 28), 10, 12_260),
    ("wavelet-second-order", (1, 8, 8), 10, 1_010),
    ("wavelet-pyramid", (3, 28, 28), 5, 9_560),
    ("logistic", (1, 28, 28), 10, 7_850),
    ("logistic", (13,), 2, 28),
]
SMALLEST: list[tuple[str, Shape]] = [
    ("small-cnn", (1, 8, 8)),
    ("small-cnn-relu", (3, 28, 28)),
    ("small-cnn", (1, 28, 28)),
    ("squeezenet", (3, 32, 32)),
    ("squeezenet-average", (3, 32, 32)),
    ("nf-resnet", (1, 28, 28)),
    ("wavelet", (1, 28, 28)),
    ("wavelet", (3, 9, 11)),
    ("wavelet-second-order", (1, 8, 8)),
    ("wavelet-pyramid", (1, 16, 16)),
    ("logistic", (1, 5, 7)),
    ("logistic", (13,)),
]
LARGE: list[tuple[str, Shape]] = [  # millions of weights; `test_every_model` has these as well
    ("nf-resnet18", (1, 32, 32)),
    ("resnet18", (1, 32, 32)),
    ("resnet50", (1, 32, 32)),
    ("vgg11", (1, 32, 32)),
    ("vgg11-gn", (1, 32, 32)),
    ("vgg16", (1, 32, 32)),
    ("vgg16-gn", (1, 32, 32)),
]
EVERY = [*SMALLEST, *(pytest.param(*one, marks=pytest.mark.slow) for one in LARGE)]
CROSS_RECORD = (
    nn.modules.batchnorm._BatchNorm,  # the class that all of PyTorch's share
    nn.modules.instancenorm._InstanceNorm,
    nn.modules.dropout._DropoutNd,
)


def records(count: int, shape: Shape, seed: int = 1) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def gradient_of_one(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    loss = Classification(3).loss(model(inputs), labels).sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def gradients_of_each(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    def loss(parameters: dict[str, Tensor], record: Tensor, label: Tensor) -> Tensor:
        outputs = functional_call(model, parameters, (record[None],))
        return Classification(3).loss(outputs, label[None])[0]

    parameters = {name: p.detach() for name, p in model.named_parameters()}
    each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
    return torch.cat([part.flatten(start_dim=1) for part in each.values()], dim=1)


# -- Sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape", "classes", "expected"), PARAMETERS)
def test_parameter_counts(name: str, shape: Shape, classes: int, expected: int) -> None:
    model = build(name, shape=shape, classes=classes, seed=0)

    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.parametrize(("name", "shape", "classes", "expected"), PARAMETERS)
def test_one_logit_a_class(name: str, shape: Shape, classes: int, expected: int) -> None:
    model = build(name, shape=shape, classes=classes, seed=0)

    assert model(records(2, shape)).shape == (2, classes)
    assert expected > 0


def test_every_name_has_its_count_tested() -> None:
    assert {name for name, *_ in PARAMETERS} == {name for name, _ in [*SMALLEST, *LARGE]}
    assert {name for name, *_ in PARAMETERS} == set(RECORD_NAMES)


def test_models_of_label_maps_have_their_own_tests() -> None:
    assert set(MAP_NAMES) == {"jets", "monet", "unet", "unet-small", "unet3d", "unet3d-small"}


def test_images_need_not_be_square() -> None:
    assert build("small-cnn", shape=(1, 17, 40), classes=2, seed=0)(
        records(2, (1, 17, 40))
    ).shape == (2, 2)


# -- Records do not meet --------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_no_layer_looks_across_records(name: str, shape: Shape) -> None:
    model = build(name, shape=shape, classes=3, seed=0)

    assert not [layer for layer in model.modules() if isinstance(layer, CROSS_RECORD)]


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([0.01, 1.0, 10.0]))
@settings(max_examples=5, deadline=None)
@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_a_record_gets_the_same_answer_alone_and_in_a_batch(
    name: str, shape: Shape, seed: int, scale: float
) -> None:
    model = build(name, shape=shape, classes=3, seed=0).eval()
    batch = records(5, shape, seed) * scale

    together = torch.softmax(model(batch), dim=1)
    alone = torch.cat([torch.softmax(model(record[None]), dim=1) for record in batch])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_training_mode_changes_no_output(name: str, shape: Shape) -> None:
    model = build(name, shape=shape, classes=3, seed=0)

    torch.testing.assert_close(
        model.train()(records(2, shape)), model.eval()(records(2, shape)), atol=0, rtol=0
    )


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_gradient_of_each_record_equals_a_loop_of_single_ones(name: str, shape: Shape) -> None:
    model = build(name, shape=shape, classes=3, seed=0).double()  # float32 may turn a ReLU over
    inputs, labels = records(3, shape).double(), torch.tensor([0, 1, 2])

    each = gradients_of_each(model, inputs, labels)
    loop = [gradient_of_one(model, inputs[i : i + 1], labels[i : i + 1]) for i in range(3)]

    torch.testing.assert_close(each, torch.stack(loop), atol=1e-9, rtol=1e-6)


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_every_parameter_learns(name: str, shape: Shape) -> None:
    model = build(name, shape=shape, classes=3, seed=0)

    torch.autograd.backward(
        Classification(3).loss(model(records(8, shape)), torch.arange(8) % 3).sum()
    )

    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


# -- Initial weights ------------------------------------------------------------------


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_one_seed_gives_one_model(name: str, shape: Shape) -> None:
    first, second = (build(name, shape=shape, classes=3, seed=7) for _ in range(2))

    assert flatten(first).tobytes() == flatten(second).tobytes()


def test_another_seed_gives_another_model() -> None:
    first, second = (build("small-cnn", shape=(1, 8, 8), classes=3, seed=s) for s in (7, 8))

    assert flatten(first).tobytes() != flatten(second).tobytes()


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_building_leaves_the_global_generator_alone(name: str, shape: Shape) -> None:
    before = torch.get_rng_state()

    build(name, shape=shape, classes=3, seed=7)

    assert torch.equal(torch.get_rng_state(), before)


# -- Refusals -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("smallcnn", "small-cnn"),
        ("SqueezeNet", "squeezenet"),
        ("nfresnet", "nf-resnet"),
        ("vgg-11", "vgg11"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(wrong: str, right: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{right}'"):
        build(wrong, shape=(1, 28, 28), classes=2, seed=0)


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("small-cnn", (13,), "use 'logistic'"),
        ("small-cnn", (28, 28), "use 'logistic'"),
        ("small-cnn", (2, 28, 28), "1 or 3 channels"),
        ("small-cnn", (1, 7, 28), "8 pixels or more"),
        ("squeezenet", (3, 32, 31), "32 pixels or more"),
        ("nf-resnet", (1, 27, 27), "28 pixels or more"),
        ("resnet18", (1, 15, 28), "16 pixels or more"),
        ("vgg11", (3, 31, 31), "32 pixels or more"),
        ("logistic", (2, 3), "reshape them"),
        ("logistic", (0,), "reshape them"),
        ("logistic", (), "reshape them"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(name: str, shape: Shape, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(name, shape=shape, classes=2, seed=0)


def test_one_class_is_refused() -> None:
    with pytest.raises(ConfigError, match="classes=1, expected 2"):
        build("logistic", shape=(13,), classes=1, seed=0)


# -- Summary --------------------------------------------------------------------------


def test_summary_names_layers_shapes_and_parameters() -> None:
    model = build("small-cnn", shape=(1, 28, 28), classes=10, seed=0)

    found = summary(model, (1, 28, 28))

    assert [(row.name, row.kind, row.output_shape, row.parameters) for row in found.layers] == [
        ("features.0", "Conv2d", (16, 14, 14), 1040),
        ("features.1", "Tanh", (16, 14, 14), 0),
        ("features.2", "MaxPool2d", (16, 13, 13), 0),
        ("features.3", "Conv2d", (32, 5, 5), 8224),
        ("features.4", "Tanh", (32, 5, 5), 0),
        ("features.5", "MaxPool2d", (32, 4, 4), 0),
        ("features.6", "AdaptiveAvgPool2d", (32, 4, 4), 0),
        ("features.7", "Flatten", (512,), 0),
        ("head.0", "Linear", (32,), 16416),
        ("head.1", "Tanh", (32,), 0),
        ("head.2", "Linear", (10,), 330),
    ]
    assert found.total == 26_010


@pytest.mark.parametrize(("name", "shape"), EVERY)
def test_rows_of_a_summary_add_up(name: str, shape: Shape) -> None:
    found = summary(build(name, shape=shape, classes=3, seed=0))

    assert sum(row.parameters for row in found.layers) == found.total
    assert {row.output_shape for row in found.layers} == {None}
