# SPDX-License-Identifier: Apache-2.0
"""A trained network on the whole test set of a real data set: the same labels, on shares."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from consilium.data.sources import read_splits
from consilium.inference.cleartext import run_clear
from consilium.inference.compiler import compile_network
from consilium.inference.network import read_network
from consilium.inference.protocol import Randomness, run_inference
from consilium.inference.ranges import calibrate_ranges
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing
from consilium.learning.tasks import Classification
from consilium.learning.training import LocalSettings, train_locally

SOURCE = "pneumoniamnist"


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "bits"), [("small-cnn-relu", 40), ("small-cnn-relu", 64), ("nf-resnet", 40)]
)
def test_labels_agree_on_a_whole_test_set(real_data: Path, name: str, bits: int) -> None:
    splits = read_splits(SOURCE, real_data, image_size=None, unit="record")
    preprocessing, task = Preprocessing(), Classification(2)
    train, test = (preprocessing.tensors(one) for one in (splits.train, splits.test))
    model = build(name, shape=(1, 28, 28), classes=2, seed=0)
    settings = LocalSettings(epochs=3, learning_rate=0.02, momentum=0.9)
    train_locally(model, task, train, settings, order_seed=0)
    model.eval()
    network = read_network(model, (1, 28, 28))
    compiled = compile_network(network, calibrate_ranges(network, train[0][:512]), bits)
    asked = test[0].permute(0, 2, 3, 1).numpy()

    parts = [asked[k : k + 48] for k in range(0, len(asked), 48)]
    logits = np.concatenate(
        [
            run_inference(compiled.program, compiled.weights, part, Randomness(os.urandom(32)))
            for part in parts
        ]
    )

    with torch.no_grad():
        plain = model(test[0]).numpy()
    peaks = run_clear(compiled.program, compiled.weights, asked).peaks
    agree = float((logits.argmax(1) == plain.argmax(1)).mean())
    error = float(np.abs(logits - plain).max())
    print(  # noqa: T201 - the figures of the docs
        f"{name}, ring {bits}: {len(plain)} images, labels agree {agree:.4%}, largest logit error "
        f"{error:.2g} of {np.abs(plain).max():.3g}, window used {max(peaks.values()) / 2**20:.3f}"
    )
    assert agree >= 0.999
    assert max(peaks.values()) < 2**20
