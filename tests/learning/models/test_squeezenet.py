# SPDX-License-Identifier: Apache-2.0
"""Tests of SqueezeNet: the published layout, by the names and shapes of its parameters."""

from consilium.learning.models.squeezenet import SqueezeNet


def test_parameters_bear_the_published_names() -> None:
    names = {name.rsplit(".", 1)[0] for name, _ in SqueezeNet((3, 64, 64), 5).named_parameters()}

    fires = [f"features.{i}." for i in (3, 4, 6, 7, 9, 10, 11, 12)]
    parts = ["squeeze", "expand1x1", "expand3x3"]
    assert names == {"features.0", "classifier.1"} | {f + part for f in fires for part in parts}


def test_the_classifier_is_a_convolution_over_512_channels() -> None:
    weights = SqueezeNet((3, 64, 64), 5).state_dict()["classifier.1.weight"]

    assert weights.shape == (5, 512, 1, 1)
