# SPDX-License-Identifier: Apache-2.0
"""A picture looked at on this machine: answered, or refused by name before the model sees it."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.made import dicom, saved
from tests.phone.made import chest, encoded, exported, finished, fundus, photograph, released

from consilium.adapters.device import DeviceModel
from consilium.adapters.onnx_export import Wishes, export_model
from consilium.data.framing import framed
from consilium.errors import DataError


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
    return DeviceModel.load(exported(tmp_path_factory.mktemp("model")))


def test_a_known_picture_is_answered(device: DeviceModel) -> None:
    seen = device.look(encoded(chest()), "lung.png")

    assert seen.verdict == "known"
    assert seen.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(seen.levels, framed(chest()[None], 64, "squash"))


@pytest.mark.parametrize(
    ("levels", "verdict"), [(photograph(), "in colour"), (chest()[::-1].T.copy(), "strange")]
)
def test_another_kind_is_refused(
    device: DeviceModel, levels: np.typing.NDArray[np.uint8], verdict: str
) -> None:
    seen = device.look(encoded(levels), "holiday.png")

    assert (seen.verdict, seen.probabilities.size) == (verdict, 0)


def test_dicom_is_read(device: DeviceModel) -> None:
    levels = chest(side=128)
    data = saved(dicom(levels.astype(np.uint16) * 16, WindowCenter=2040.5, WindowWidth=4081))

    assert device.look(data, "IM0001").verdict == "known"


def test_several_planes_are_refused(device: DeviceModel) -> None:
    data = saved(dicom(np.stack([chest(side=64)] * 2), NumberOfFrames=2))

    with pytest.raises(DataError, match="picture with 2 planes"):
        device.look(data, "series.dcm")


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"hello", "note.txt", "expected PNG, JPEG or DICOM"),
        (b"\x89PNG\r\n\x1a\nxx", "a.png", "damaged"),
        (encoded(chest(side=32)), "small.png", "picture of 32 x 32 px; expected 64"),
    ],
)
def test_what_is_no_picture_is_refused(
    device: DeviceModel, data: bytes, name: str, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        device.look(data, name)


def test_a_model_without_a_kind_looks_at_anything(tmp_path: Path) -> None:
    model = finished("logistic", shape=(3, 28, 28), source="mnist")

    export_model(model, tmp_path / "any.onnx", Wishes(release=released(model)))

    seen = DeviceModel.load(tmp_path / "any.onnx").look(encoded(fundus()), "eye.png")
    assert seen.verdict == "known"
