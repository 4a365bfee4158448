# SPDX-License-Identifier: Apache-2.0
"""Tests of transfer: what fits by name and shape, and which parameters are trained on."""

import pytest
import torch
from torch import Tensor, nn

from consilium.errors import ConfigError, DataError
from consilium.learning.models.registry import MAP_NAMES, NAMES, build
from consilium.learning.parameters import dimension
from consilium.learning.transfer import check_frozen, fit_weights, train_only


def cnn(classes: int = 3, *, channels: int = 1, seed: int = 0) -> nn.Module:
    return build("small-cnn", shape=(channels, 28, 28), classes=classes, seed=seed)


def trained(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


# -- Which weights fit ----------------------------------------------------------------


def test_the_same_network_fits_whole() -> None:
    model, other = cnn(seed=0), cnn(seed=1)

    found = fit_weights(model, other.state_dict())

    assert len(found.fit) == 8
    assert found.fresh == found.unused == ()
    assert all(map(torch.equal, model.parameters(), other.parameters()))


def test_a_head_of_other_classes_starts_anew() -> None:
    model, other = cnn(classes=3), cnn(classes=10, seed=1)
    before = model.get_parameter("head.2.weight").clone()

    found = fit_weights(model, other.state_dict())

    assert found.reshaped == (
        ("head.2.weight", (10, 32), (3, 32)),
        ("head.2.bias", (10,), (3,)),
    )
    assert torch.equal(model.get_parameter("head.2.weight"), before)
    assert torch.equal(model.get_parameter("head.0.weight"), other.get_parameter("head.0.weight"))


def test_the_report_says_it_in_words() -> None:
    weights = dict(cnn(classes=10).state_dict()) | {"bn.running_mean": torch.zeros(2)}
    del weights["head.0.bias"]

    assert fit_weights(cnn(), weights).lines() == (
        "5 fit: features.0.weight, features.0.bias, features.3.weight, features.3.bias, "
        "head.0.weight",
        "2 have another shape and start anew: head.2.weight (10, 32), expected (3, 32), "
        "head.2.bias (10,), expected (3,)",
        "1 are not in the file and start anew: head.0.bias",
        "1 of the file are not used: bn.running_mean",
    )


def test_grey_images_get_what_three_equal_colours_got() -> None:
    grey, colour = cnn(), cnn(channels=3, seed=1)
    image = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    found = fit_weights(grey, colour.state_dict())

    assert found.summed == ("features.0.weight",)
    torch.testing.assert_close(grey(image), colour(image.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-4)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(ConfigError, match="no weight of the file fits"):
        fit_weights(cnn(), build("logistic", shape=(13,), classes=2, seed=0).state_dict())


@pytest.mark.parametrize("bad", [torch.full((3,), torch.nan), torch.zeros(3, dtype=torch.int64)])
def test_values_that_are_no_weights_are_refused_and_nothing_is_copied(bad: Tensor) -> None:
    model = cnn()
    before = [parameter.clone() for parameter in model.parameters()]

    with pytest.raises(DataError, match=r"weight 'head\.2\.bias' of the file"):
        fit_weights(model, dict(cnn(seed=1).state_dict()) | {"head.2.bias": bad})

    assert all(map(torch.equal, before, model.parameters()))


# -- Which parameters are trained -----------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_what_depends_on_the_number_of_classes(name: str) -> None:
    volumes = {"unet3d": (1, 8, 8, 8), "unet3d-small": (1, 8, 8, 8)}
    shape = (13,) if name == "logistic" else volumes.get(name, (1, 32, 32))
    maps = name in MAP_NAMES
    two, three = (
        build(name, shape=shape, classes=classes, seed=0, label_maps=maps) for classes in (2, 3)
    )

    train_only(two, "head")

    other = dict(three.named_parameters())
    assert trained(two) == [k for k, p in two.named_parameters() if p.shape != other[k].shape]


def test_biases_and_norms_are_few() -> None:
    model = build("resnet18", shape=(1, 32, 32), classes=2, seed=0)

    train_only(model, "biases-and-norms")

    assert dimension(model) == 9_600 + 1_026  # affine values of 4,800 channels, and the head
    assert "layer1.0.conv1.weight" not in trained(model)
    assert {"layer1.0.bn1.weight", "layer2.0.downsample.1.bias", "fc.weight"} <= {*trained(model)}


def test_from_a_layer_on() -> None:
    model = build("resnet18", shape=(1, 32, 32), classes=2, seed=0)

    train_only(model, "from:layer4.1")

    assert {name.split(".")[0] for name in trained(model)} == {"layer4", "fc"}
    assert "layer4.0.conv1.weight" not in trained(model)


def test_all_trains_what_was_frozen_before() -> None:
    model = cnn()
    train_only(model, "head")

    train_only(model, "all")

    assert len(trained(model)) == 8


@pytest.mark.parametrize(
    ("which", "told"),
    [
        ("from:layer9", "expected one of features, head, or a layer inside one"),
        ("from:", "has no parameter"),
        ("bitfit", "expected one of all, head, biases-and-norms, from:LAYER"),
    ],
)
def test_other_words_are_refused(which: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        train_only(cnn(), which)


def test_a_frozen_layer_that_the_file_lacks_is_refused() -> None:
    model, weights = cnn(), dict(cnn(seed=1).state_dict())
    del weights["features.3.weight"]
    fitting = fit_weights(model, weights)
    train_only(model, "head")

    with pytest.raises(ConfigError, match=r"freezes features\.3\.weight, which the file"):
        check_frozen(model, fitting)


def test_what_is_trained_may_be_new() -> None:
    model = cnn()
    fitting = fit_weights(model, cnn(classes=7, seed=1).state_dict())
    train_only(model, "head")

    check_frozen(model, fitting)


@pytest.mark.parametrize(
    ("name", "shape"), [("unet-small", (1, 16, 16)), ("unet3d-small", (1, 8, 8, 8))]
)
def test_an_encoder_alone_begins_a_u_net(name: str, shape: tuple[int, ...]) -> None:
    before = build(name, shape=shape, classes=4, seed=9, label_maps=True).state_dict()
    encoder = {key: value for key, value in before.items() if key.startswith("1.down.")}
    model = build(name, shape=shape, classes=3, seed=0, label_maps=True)

    fit_weights(model, encoder)

    found = model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in encoder.items())
    assert not torch.equal(found["1.up.0.first.weight"], before["1.up.0.first.weight"])
