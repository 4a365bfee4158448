# SPDX-License-Identifier: Apache-2.0
"""Real pictures, in Python: exported models equal PyTorch, and kinds are told apart."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.phone.made import finished

from consilium.adapters.onnx_export import TOLERANCE, compare, to_onnx
from consilium.adapters.picture_kinds import learn_published
from consilium.data.rendering import in_channels
from consilium.learning.deployed import Deployed
from consilium.learning.familiarity import Kind, colourfulness

pytestmark = pytest.mark.data


def held(folder: Path, name: str) -> NDArray[np.uint8]:
    with np.load(folder / name) as archive:
        images = archive["test_images"]
    return np.asarray(images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2))


def refused(kind: Kind, pictures: NDArray[np.uint8]) -> float:
    known = [
        kind.knows(in_channels(one, 1 if kind.channels == 1 else 3), colourfulness(one))
        for one in pictures
    ]
    return 1 - float(np.mean(known))


@pytest.mark.parametrize("network", ["squeezenet", "nf-resnet", "wavelet"])
def test_100_real_pictures_give_the_same_outputs(real_data: Path, network: str) -> None:
    made = finished(network)
    deployed = Deployed(made.model, made.preprocessing).eval()
    graph = to_onnx(deployed, made.shape)

    pictures = held(real_data, "pneumonia_cxr/cxr64.npz")[:100]

    assert compare(deployed, graph.SerializeToString(), pictures) <= TOLERANCE


def test_real_pictures_are_told_apart(real_data: Path) -> None:
    lungs = held(real_data, "pneumonia_cxr/cxr64.npz")
    eyes = held(real_data, "medmnist/retinamnist.npz")

    chest, fundus = (learn_published(name, real_data) for name in ("chest-x-ray", "fundus"))
    assert refused(chest, lungs) < 0.04
    assert refused(chest, eyes) == 1
    assert refused(fundus, eyes) < 0.04
    assert refused(fundus, lungs) == 1
