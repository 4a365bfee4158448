# SPDX-License-Identifier: Apache-2.0
"""Exported models: equal to PyTorch, described, and refused where they would not be."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch
from tests.adapters.conftest import make_project
from tests.phone.made import exported, finished, released

from consilium.adapters import onnx_export
from consilium.adapters.finished_models import load_finished
from consilium.adapters.model_card import ModelCard, card_path, decode_card, read_model
from consilium.adapters.onnx_export import (
    OPSET,
    TOLERANCE,
    Wishes,
    compare,
    export_model,
    made_up_pictures,
    to_onnx,
)
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.learning.deployed import Deployed
from consilium.sdk import Options, train


@pytest.mark.parametrize(
    ("network", "side", "own_moments"),
    [
        ("small-cnn", 28, True),
        pytest.param("squeezenet", 32, False, marks=pytest.mark.slow),
        pytest.param("resnet18", 32, False, marks=pytest.mark.slow),
        pytest.param("vgg11-gn", 32, False, marks=pytest.mark.slow),
        ("nf-resnet", 28, False),
        ("wavelet", 28, False),
        ("logistic", 8, True),
    ],
)
def test_outputs_are_those_of_pytorch(network: str, side: int, *, own_moments: bool) -> None:
    made = finished(network, shape=(3, side, side), own_moments=own_moments)
    deployed = Deployed(made.model, made.preprocessing).eval()

    graph = to_onnx(deployed, made.shape)

    pictures = made_up_pictures(made.shape, 10)
    assert compare(deployed, graph.SerializeToString(), pictures) <= TOLERANCE


def test_another_model_is_noticed() -> None:
    made = finished(shape=(1, 28, 28))
    deployed = Deployed(made.model, made.preprocessing).eval()
    graph = to_onnx(deployed, made.shape)
    with torch.no_grad():
        next(deployed.parameters()).add_(0.1)

    with pytest.raises(DataError, match=r"onnxruntime differs from PyTorch by .* nothing was"):
        compare(deployed, graph.SerializeToString(), made_up_pictures(made.shape, 4))


def test_weights_that_are_no_numbers_are_noticed(tmp_path: Path) -> None:
    made = finished("logistic", shape=(1, 8, 8))
    with torch.no_grad():
        next(made.model.parameters()).fill_(float("nan"))

    with pytest.raises(DataError, match="weights may not be finite"):
        exported(tmp_path, made)
    assert list(tmp_path.iterdir()) == []


def test_made_up_pictures_hold_black_and_white() -> None:
    pictures = made_up_pictures((1, 8, 8), 6)

    assert pictures.dtype == np.uint8
    assert (pictures[0].max(), pictures[1].min()) == (0, 255)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("once"), finished("logistic", shape=(1, 28, 28)))


@pytest.fixture
def out(once: Path, tmp_path: Path) -> Path:
    """A copy of one exported model and its card."""
    for path in (once, card_path(once)):
        shutil.copy(path, tmp_path)
    return tmp_path / once.name


def test_file_says_what_it_is(out: Path) -> None:
    graph = onnx.load(out)
    said = {one.key: msgspec.json.decode(one.value) for one in graph.metadata_props}
    assert said["consilium.classes"] == ["normal", "pneumonia"]
    assert said["consilium.privacy"]["unit"] == "patient"
    assert [(one.domain, one.version) for one in graph.opset_import] == [("", OPSET)]
    assert b"/src/" not in out.read_bytes()


def test_card_belongs_to_the_file(out: Path) -> None:
    data, card = read_model(out)

    assert card.sha256 == hashlib.sha256(data).hexdigest()
    assert card.input.frame == "squash"
    assert [one.right_of_ten for one in card.certainties] == [5, 9]


def test_another_file_under_the_card_is_refused(out: Path) -> None:
    out.write_bytes(out.read_bytes() + b"\0")

    with pytest.raises(ConfigError, match=r"model\.onnx has the digest .* its card says"):
        read_model(out)


def test_a_missing_card_is_named(out: Path) -> None:
    card_path(out).unlink()

    with pytest.raises(ConfigError, match=r"model\.json cannot be read"):
        read_model(out)


@pytest.mark.parametrize("written", [b"{}", b"[", b'{"format":"consilium-model/2"}'])
def test_what_is_no_card_is_refused(written: bytes) -> None:
    with pytest.raises(DataError, match="card cannot be read"):
        decode_card(written)


def test_a_card_of_any_size_is_not_read() -> None:
    with pytest.raises(DataError, match="at most"):
        decode_card(b" " * (1 << 22) + b"{}")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (13,)}, "expected square pictures"),
        ({"shape": (1, 8, 9)}, "expected square pictures"),
    ],
)
def test_what_takes_no_pictures_is_refused(
    tmp_path: Path, changes: dict[str, tuple[int, ...]], words: str
) -> None:
    made = dataclasses.replace(finished("logistic", shape=(1, 8, 8)), **changes)  # type: ignore[arg-type]  # shapes

    with pytest.raises(ConfigError, match=words):
        exported(tmp_path, made)


def test_file_name_and_folder_are_checked(tmp_path: Path) -> None:
    made = finished("logistic", shape=(1, 8, 8))

    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export_model(made, tmp_path / "model.bin", Wishes(release=released(made)))
    with pytest.raises(ConfigError, match="a folder that is there"):
        export_model(made, tmp_path / "no" / "model.onnx", Wishes(release=released(made)))


def test_an_unknown_source_needs_words(tmp_path: Path) -> None:
    made = finished("logistic", shape=(1, 8, 8), source="ward.npz")
    out = tmp_path / "model.onnx"

    with pytest.raises(ConfigError, match=r"source ward\.npz is not here to say"):
        export_model(made, out, Wishes(release=released(made)))


def test_words_of_the_exporter_count(tmp_path: Path) -> None:
    made = finished("logistic", shape=(1, 8, 8), source="ward.npz")

    card = export_model(made, tmp_path / "model.onnx", Wishes(frame="crop", release=released(made)))

    assert (card.kind, card.input.frame) == (None, "crop")


def test_another_opset_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = finished("logistic", shape=(1, 8, 8))
    deployed = Deployed(made.model, made.preprocessing).eval()
    asked = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *a, **k: asked(*a, **{**k, "opset_version": OPSET - 1})
    )

    with pytest.raises(DataError, match="expected ONNX opset 20 alone"):
        onnx_export.to_onnx(deployed, made.shape)


# -- From a run -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two arms leave behind, of a training of two rounds."""
    folder = tmp_path_factory.mktemp("run") / "out"
    changes = {"training.rounds": "2"}
    train(make_project(changes), folder, Options(arms=("federated-dp", "federated")))
    return folder


def exported_run(source: Path, folder: Path, arm: str = "federated-dp") -> ModelCard:
    made = load_finished(source, arm=arm)
    return export_model(made, folder / "m.onnx", Wishes(release=released(made)))


@pytest.mark.parametrize("inside", ["", "model.safetensors", "runs/federated-dp-seed0"])
def test_a_run_is_exported(run_folder: Path, tmp_path: Path, inside: str) -> None:
    card = exported_run(run_folder / inside, tmp_path)

    assert (card.arm, card.input.size, len(card.classes)) == ("federated-dp", 8, 10)
    assert card.privacy.private


def test_an_arm_without_a_promise_stays(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="carries no privacy guarantee"):
        exported_run(run_folder, tmp_path, "federated")
    assert list(tmp_path.iterdir()) == []


def test_an_arm_that_was_not_trained_is_refused(run_folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished run of arm 'central'; found federated"):
        load_finished(run_folder, arm="central")


def test_a_model_of_another_project_is_refused(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "runs" / "federated-dp-seed0"
    copy.mkdir(parents=True)
    for name in ("model.safetensors", "result.json"):
        (copy / name).write_bytes((run_folder / "runs/federated-dp-seed0" / name).read_bytes())
    (tmp_path / "copy/project.toml").write_text(make_project({"dp.delta": "1e-5"}).resolved())

    with pytest.raises(DataError, match=r"model\.safetensors was trained under terms"):
        load_finished(tmp_path / "copy")


def test_a_damaged_model_is_refused(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy" / "runs" / "federated-dp-seed0"
    copy.mkdir(parents=True)
    (copy / "result.json").write_bytes(
        (run_folder / "runs/federated-dp-seed0/result.json").read_bytes()
    )
    (copy / "model.safetensors").write_bytes(b"12345678")
    (tmp_path / "copy/project.toml").write_bytes((run_folder / "project.toml").read_bytes())

    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_finished(tmp_path / "copy")
