# SPDX-License-Identifier: Apache-2.0
"""Files of weights: read if they are the agreed ones, never run, trained on in every arm."""

import hashlib
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.torch import load_file, save_file
from tests.adapters.conftest import make_project
from torch import Tensor

from consilium.adapters.dataset import Dataset
from consilium.adapters.pretrained import read_weights, weights_path
from consilium.adapters.processes import Launch, make_runner
from consilium.adapters.stage import MODEL, WEIGHTS, NobodyWatches, Run
from consilium.adapters.training import train_arm
from consilium.errors import ConfigError, DataError
from consilium.federation.arms import ARMS
from consilium.learning.models.registry import build

SHAPE = (1, 8, 8)


def state(classes: int = 10) -> dict[str, Tensor]:
    return dict(build("small-cnn", shape=SHAPE, classes=classes, seed=9).state_dict())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Hostile:
    """What runs when a pickle of it is loaded without care."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


# -- Names ----------------------------------------------------------------------------


class FakeTorchvision(ModuleType):
    """Says of networks what torchvision.models says; nobody has the real one in these tests."""

    def get_model_weights(self, name: str) -> SimpleNamespace:
        if name != "resnet18":
            raise ValueError(f"Unknown model {name}")
        url = "https://download.example/models/resnet18-f37072fd.pth"
        return SimpleNamespace(DEFAULT=SimpleNamespace(url=url))


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", FakeTorchvision("torchvision.models"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


@pytest.mark.usefixtures("torchvision")
def test_a_name_of_torchvision_is_the_file_in_its_cache(tmp_path: Path) -> None:
    found = weights_path("torchvision:resnet18", Path("elsewhere"))

    assert found == tmp_path / "checkpoints" / "resnet18-f37072fd.pth"


@pytest.mark.usefixtures("torchvision")
def test_a_name_that_torchvision_does_not_know_is_refused() -> None:
    with pytest.raises(DataError, match="no weights for 'resnet19'"):
        weights_path("torchvision:resnet19", None)


def test_a_name_without_torchvision_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)

    with pytest.raises(DataError, match="torchvision is not installed"):
        weights_path("torchvision:resnet18", None)


def test_a_path_stays_in_the_data_folder() -> None:
    assert weights_path("own.pt", Path("data")) == Path("data/own.pt")


# -- Reading --------------------------------------------------------------------------


def test_safetensors_and_a_saved_state_dict_give_the_same(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "w.safetensors")
    torch.save(state(), tmp_path / "w.pt")

    first, second = (
        read_weights(path, digest(path).upper()) for path in sorted(tmp_path.iterdir())
    )

    assert first.keys() == second.keys() == state().keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_pickle_is_refused_and_does_not_run(tmp_path: Path, legacy: bool) -> None:
    path, marker = tmp_path / "w.pt", tmp_path / "it-ran"
    hostile = state() | {"features.0.weight": Hostile(marker)}
    torch.save(hostile, path, _use_new_zipfile_serialization=not legacy)

    with pytest.raises(DataError, match="refused"):
        read_weights(path, digest(path))

    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # without the refusal it would have


def test_another_file_than_agreed_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"not a file of weights at all")

    with pytest.raises(DataError, match=r"expected model\.weights_sha256 0000"):
        read_weights(path, "0" * 64)


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04broken", b"\xff" * 40])
def test_a_broken_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(DataError, match="expected tensors and nothing else"):
        read_weights(path, digest(path))


@pytest.mark.parametrize("held", [[1.0], {"state_dict": {"a": torch.zeros(1)}}, {1: "a"}])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, held: object) -> None:
    path = tmp_path / "w.pt"
    torch.save(held, path)

    with pytest.raises(DataError, match=r"save model\.state_dict\(\)"):
        read_weights(path, digest(path))


def test_a_missing_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.pt cannot be read"):
        read_weights(tmp_path / "none.pt", "0" * 64)


# -- Training -------------------------------------------------------------------------


def run(tmp_path: Path, arm: str, which: str, classes: int = 7) -> Run:
    path = tmp_path / "w.safetensors"
    save_file(state(classes), path)
    changes = {
        "model.name": "small-cnn",
        "model.weights": path.name,
        "model.weights_sha256": f'"{digest(path)}"',
        "model.train": which,
        "training.rounds": "2",
    }
    return Run(
        project=make_project(changes),
        arm=arm,
        seed=0,
        folder=tmp_path / arm,
        data_folder=tmp_path,
        threads=2,
    )


@pytest.mark.parametrize("arm", ARMS)
def test_frozen_weights_stay_bit_for_bit_and_the_rest_moves(
    tmp_path: Path, arm: str, digits: Dataset
) -> None:
    result = train_arm(run(tmp_path, arm, "head"), digits, NobodyWatches())

    left = load_file(tmp_path / arm / MODEL)
    frozen = [key for key in left if not key.startswith("head.2.")]
    assert result.parameters == 330
    assert all(torch.equal(left[key], state(7)[key]) for key in frozen)
    assert float(left["head.2.weight"].std()) > 0
    assert (tmp_path / arm / WEIGHTS).read_text().startswith("6 fit: features.0.weight")


def test_the_statement_says_what_it_takes_for_public(tmp_path: Path, digits: Dataset) -> None:
    result = train_arm(run(tmp_path, "federated-dp", "all"), digits, NobodyWatches())

    short = digest(tmp_path / "w.safetensors")[:12]
    assert f"the weights that training began with, SHA-256 {short}..." in result.statement.public
    assert f"records whose data the weights {short}... were learnt from" in (
        result.statement.not_covered
    )


def test_a_site_process_reads_its_own_copy(tmp_path: Path) -> None:
    asked = run(tmp_path, "federated-local-dp", "head")
    keys = [Ed25519PrivateKey.generate() for _ in range(4)]
    launch = Launch(
        project=asked.project.resolved(),
        arm=asked.arm,
        seed=0,
        site=0,
        data_folder=str(tmp_path),
        ledger=str(tmp_path / "ledger"),
        identity=keys[0].private_bytes_raw(),
        identities=tuple(key.public_key().public_bytes_raw() for key in keys),
    )

    with ExitStack() as stack:
        assert make_runner(launch, stack).start()

    (tmp_path / "w.safetensors").write_bytes(b"another file")
    with ExitStack() as stack, pytest.raises(DataError, match=r"expected model\.weights_sha256"):
        make_runner(launch, stack)


def test_another_digest_makes_other_terms(tmp_path: Path) -> None:
    project = run(tmp_path, "central", "head").project
    other = make_project(
        {
            "model.weights": "w.safetensors",
            "model.weights_sha256": f'"{"0" * 64}"',
            "model.train": "head",
            "model.name": "small-cnn",
            "training.rounds": "2",
        }
    )

    assert project.terms("federated-dp") != other.terms("federated-dp")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model.weights": "w.pt"}, "weights and weights_sha256 go together"),
        ({"model.weights_sha256": f'"{"0" * 64}"'}, "weights and weights_sha256 go together"),
        ({"model.weights": "w.pt", "model.weights_sha256": "abc"}, "expected 64 hexadecimal"),
        ({"model.train": "head"}, "frozen at random learn nothing"),
        ({"model.train": "some"}, "expected one of all, head"),
    ],
)
def test_half_a_wish_is_refused(changes: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        make_project(changes)
