# SPDX-License-Identifier: Apache-2.0
"""All that an operator sees is uniform, whatever the image and the model; and the tests notice
each guard that is taken away."""

from collections import Counter
from functools import cache
from typing import Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.programs import every_step, some_weights
from tests.inference.views import (
    LEAST_P,
    findings,
    p_value,
    reused,
    suspicious,
    tops,
    watched,
    without,
)
from torch import Tensor, nn

from consilium.inference import material, protocol
from consilium.inference.compiler import Compiled, compile_network
from consilium.inference.network import read_network
from consilium.inference.program import Positive, Program, Truncate
from consilium.inference.protocol import Randomness
from consilium.inference.ranges import Ranges, calibrate_ranges
from consilium.inference.ring import Words
from consilium.inference.weights import Weights
from consilium.learning.models.registry import build

SHAPE: Final = (3, 16, 16)
BATCH: Final = 12


class Fire(nn.Module):
    """ReLU, a maximum, and a concatenation, as SqueezeNet has them; small."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.squeeze = nn.Conv2d(16, 8, 1)
        self.expand1 = nn.Conv2d(8, 16, 1)
        self.expand3 = nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Conv2d(32, 32, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.pool(torch.relu(self.first(images)))
        maps = torch.relu(self.squeeze(maps))
        both = torch.cat([torch.relu(self.expand1(maps)), torch.relu(self.expand3(maps))], dim=1)
        return torch.relu(self.last(both)).mean(dim=(2, 3))


def black(shape: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    return np.full((count, shape[1], shape[2], shape[0]), -2.0, np.float32)


def structured(shape: tuple[int, int, int], count: int) -> NDArray[np.float32]:
    """A chessboard over a slope, the same in every image of the batch."""
    rows, columns = np.mgrid[: shape[1], : shape[2]]
    plane = 2.0 * ((rows // 4 + columns // 4) % 2) - 1.0 + rows / shape[1] - 0.5
    images = np.broadcast_to(plane[None, :, :, None], (count, *shape[1:], shape[0]))
    return np.ascontiguousarray(images, np.float32)


IMAGES: Final = {"black": black, "structured": structured}


@cache
def fire(name: str) -> Compiled:
    """Returns one of two models: one of random weights, one of none at all."""
    torch.manual_seed(0)
    model = Fire().eval()
    if name == "nothing":
        for parameter in model.parameters():
            parameter.data.zero_()
    network = read_network(model, SHAPE)
    bounds = Ranges(bounds=(8.0,) * (len(network.layers) + 1), basis="proved")
    return compile_network(network, bounds)


# -- Whole networks -------------------------------------------------------------------


@pytest.mark.parametrize("model", ["random", "nothing"])
@pytest.mark.parametrize("image", IMAGES)
def test_every_message_is_uniform_whatever_image_and_model(image: str, model: str) -> None:
    compiled = fire(model)

    views = watched(compiled.program, compiled.weights, IMAGES[image](SHAPE, BATCH), runs=4)

    found = findings(views)
    assert {name: p for name, p in found.items() if p < LEAST_P} == {}
    for what in ("input share", "material", "WeightOpening", "Exchange", "of two images"):
        assert any(what in name for name in found), what
    assert {name.split("/")[1].split()[0] for name in found if "Exchange" in name} >= {"40", "21"}


@pytest.mark.parametrize(("image", "model"), [("black", "nothing"), ("structured", "random")])
def test_shares_of_answers_are_uniform(image: str, model: str) -> None:
    compiled = fire(model)

    views = watched(compiled.program, compiled.weights, IMAGES[image](SHAPE, 64), seed=3)

    found = {name: p for name, p in findings(views).items() if "answer share" in name}
    assert len(found) == 2 * 5
    assert min(found.values()) >= LEAST_P


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_transcript_of_squeezenet_is_uniform(image: str, seed: int) -> None:
    shape = (3, 64, 64)
    model = build("squeezenet", shape=shape, classes=5, seed=seed)
    network = read_network(model, shape)
    generator = torch.Generator().manual_seed(seed)
    compiled = compile_network(
        network, calibrate_ranges(network, torch.randn(64, *shape, generator=generator))
    )

    views = watched(compiled.program, compiled.weights, IMAGES[image](shape, 2), seed=seed)

    assert suspicious(views) == {}


# -- What the tests would notice ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("mask", "opened opening/40"),
        ("mask", "opened opening/21"),
        ("cover", "opened opening/7"),
        ("beta", "opened opening/8"),
        ("weights", "opened opening/40"),
        ("tables", "operator 1 held material tables/32"),
        ("choice", "operator 1 held material choice/40"),
        ("chosen", "operator 1 held material chosen/21"),
        ("wraps", "operator 1 held material wraps/19"),
    ],
)
def test_a_guard_that_is_gone_is_noticed(
    name: str, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the others see of it then is not uniform; zeros that a party holds do not count."""
    without(monkeypatch, name)

    views = watched(fire("random").program, fire("random").weights, structured(SHAPE, BATCH))

    assert any(one.startswith(seen) for one in suspicious(views)), suspicious(views).keys()


def test_material_for_two_images_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    reused(monkeypatch)

    views = watched(fire("random").program, fire("random").weights, structured(SHAPE, 2))

    assert any("of two images" in name for name in suspicious(views))


def test_shares_without_randomness_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Randomness.take

    def take(self: Randomness, use: str, count: int = 32) -> bytes:
        return bytes(count) if use == "images" else drawn(self, use, count)

    monkeypatch.setattr(protocol.Randomness, "take", take)

    views = watched(fire("random").program, fire("random").weights, structured(SHAPE, BATCH))

    assert {name.split(" byte")[0] for name in suspicious(views)} >= {
        "operator 0 held input share/40",
        "operator 1 held input share/40",
    }


def test_a_small_bias_is_noticed() -> None:
    values = np.random.default_rng(0).integers(0, 256, 1 << 16)

    assert p_value(values, 256) > LEAST_P
    assert p_value(np.where(values < 2, 0, values), 256) < LEAST_P


# -- Place by place, and exactly ------------------------------------------------------


@pytest.mark.parametrize("level", [-3.0, 3.0])
def test_each_opened_value_is_uniform_in_its_place(level: float) -> None:
    """Not only all together: the four top bits of every value, over 512 images that are alike."""
    program = every_step()
    images = np.full((64, *program.image), level, np.float32)

    worst, places = least_p_of_a_place(program, some_weights(program), images)

    assert places > 100
    assert worst >= LEAST_P


def test_one_place_without_its_mask_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = material.Expander.words

    def words(
        self: material.Expander, step: int, name: str, shape: tuple[int, ...], bits: int
    ) -> Words:
        made = drawn(self, step, name, shape, bits)
        if name == "mask":
            made.reshape(-1)[3] = 0
        return made

    monkeypatch.setattr(material.Expander, "words", words)
    program = every_step()
    images = np.full((64, *program.image), 3.0, np.float32)

    worst, _ = least_p_of_a_place(program, some_weights(program), images)

    assert worst < LEAST_P


def least_p_of_a_place(
    program: Program, weights: Weights, images: NDArray[np.float32]
) -> tuple[float, int]:
    """Returns the least p-value of all places of all openings, and how many places there are."""
    views = watched(program, weights, images, runs=8)
    found = []
    for (number, (_, bits)), arrays in views.opened.items():
        if number == 0 or bits == 8:
            continue
        by_image = np.concatenate([one.reshape(len(images), -1) for one in arrays])
        found += [p_value(tops(place, bits), 16) for place in by_image.T]
    return min(found), len(found)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.5])
def test_a_comparison_shows_each_combination_once(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the masks running through all values, what is opened runs through all values.

    For each of 256 masks r every cover and every beta once: then beside s + r every combination
    of leaves and choice bit is opened exactly once, whatever s is. No statistics.
    """
    masks, covers = 256, 2**material.COVER_BITS
    count = masks * covers * 2
    everything = np.arange(count)
    running = {
        "mask": everything // (covers * 2) * 8191,
        "cover": everything // 2 % covers,
        "beta": everything % 2,
    }
    enumerated(monkeypatch, running)
    round_alike(monkeypatch)
    program = Program(
        ring_bits=40,
        image=(1, 1, count),
        image_fraction=8,
        weights=(),
        steps=(Truncate(0, 1), Positive(1)),
        unit=1.0,
    )

    views = watched(program, Weights((), ()), np.full((1, 1, 1, count), value, np.float32))

    (top, leaves, packed) = [arrays[0] for key, arrays in sorted(views.opened.items())][-3:]
    bits = np.unpackbits(packed.astype(np.uint8))
    seen = Counter(zip(top.tolist(), leaves.tolist(), bits.tolist(), strict=True))
    assert len(seen) == count
    assert set(Counter(one for one, _, _ in seen).values()) == {covers * 2}


def round_alike(patch: pytest.MonkeyPatch) -> None:
    """Clears the lowest bit of each word of the first share: all are truncated the same way."""
    drawn = Randomness.take

    def take(self: Randomness, use: str, count: int = 32) -> bytes:
        data = bytearray(drawn(self, use, count))
        if use == "images":
            data[::8] = bytes(one & 0xFE for one in data[::8])
        return bytes(data)

    patch.setattr(protocol.Randomness, "take", take)


def enumerated(patch: pytest.MonkeyPatch, running: dict[str, NDArray[np.int64]]) -> None:
    """Lets the sum of both operators' arrays run through given values; the first's stay drawn."""
    drawn, first = material.Expander.words, list[bytes]()

    def words(
        self: material.Expander, step: int, name: str, shape: tuple[int, ...], bits: int
    ) -> Words:
        made = drawn(self, step, name, shape, bits)
        if name not in running:
            return made
        if name == "beta":
            return running[name].astype(made.dtype).reshape(shape)
        if not first or self.seed == first[0]:
            first[:] = [self.seed]
            return made
        own = drawn(material.Expander(first[0]), step, name, shape, bits)
        whole = running[name].astype(made.dtype).reshape(shape)
        total = whole ^ own if name == "cover" else (whole - own) & made.dtype.type(2**bits - 1)
        return np.asarray(total, made.dtype)

    patch.setattr(material.Expander, "words", words)


# -- Two runs -------------------------------------------------------------------------


def test_two_runs_of_one_image_differ_in_every_message() -> None:
    compiled = fire("random")
    images = structured(SHAPE, 1)

    one, other = (watched(compiled.program, compiled.weights, images, seed=seed) for seed in (1, 2))

    for views, again in ((one.held, other.held), (one.heard, other.heard)):
        assert views.keys() == again.keys()
        for key, arrays in views.items():
            for words, others in zip(arrays, again[key], strict=True):
                alike = float((words == others).mean())
                assert alike < 0.5 if len(words) < 64 else alike < 0.05 or key[1][1] < 8, key
