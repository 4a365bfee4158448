# SPDX-License-Identifier: Apache-2.0
"""The browser sees and computes what Python does: bytes equal, probabilities within rounding.

The worker of the page is asked directly, in a real Chromium, for what the page does not show.
"""

import base64
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect
from pydicom.uid import UID, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from tests.data.made import dicom, saved
from tests.phone.made import chest, encoded, exported, finished, fundus, released, served

from consilium.adapters.device import DeviceModel
from consilium.adapters.onnx_export import Wishes, export_model
from consilium.errors import DataError

pytestmark = pytest.mark.browser

CLOSE = 1e-5  # probabilities, float32 summed in another order
ASK = """
async (pictures) => {
    const asked = (want) => new Promise((resolve) => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = ({ data }) => resolve(data);
        navigator.serviceWorker.controller.postMessage({ want }, [port2]);
    });
    const files = await asked(["card.json", "model.onnx", "ort.wasm"]);
    const worker = new Worker("worker.js", { type: "module" });
    const tell = (message) => new Promise((resolve) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.postMessage({ id: 0, ...message });
    });
    const card = JSON.parse(new TextDecoder().decode(files["card.json"]));
    await tell({ action: "start", card, model: files["model.onnx"], wasm: files["ort.wasm"] });
    const found = [];
    for (const picture of pictures) {
        const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0)).buffer;
        const { answer, refused } = await tell({ action: "look", bytes });
        if (refused) { found.push({ refused }); continue; }
        const { verdict, strangeness, probabilities, levels } = answer;
        found.push({ verdict, strangeness, probabilities, levels: Array.from(levels) });
    }
    worker.terminate();
    return found;
}
"""


def in_browser(page: Page, model: Path, pictures: list[bytes]) -> list[dict[str, Any]]:
    with served(model) as (url, _end):
        page.goto(url)
        expect(page.locator("#file")).to_be_enabled(timeout=60_000)
        found: list[dict[str, Any]] = page.evaluate(
            ASK, [base64.b64encode(one).decode() for one in pictures]
        )
    return found


def check_equal(page: Page, model: Path, pictures: dict[str, bytes]) -> None:
    device = DeviceModel.load(model)

    found = in_browser(page, model, list(pictures.values()))

    for (name, data), one in zip(pictures.items(), found, strict=True):
        expected = device.look(data, name)
        assert one.get("verdict") == expected.verdict, (name, one)
        assert one["levels"] == expected.levels.reshape(-1).tolist(), name
        assert one["strangeness"] == pytest.approx(expected.strangeness, abs=1e-9)
        assert one["probabilities"] == pytest.approx(expected.probabilities.tolist(), abs=CLOSE)


@pytest.fixture(scope="module")
def any_grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that looks at any grey picture, with black around it."""
    out = tmp_path_factory.mktemp("grey") / "model.onnx"
    made = finished("logistic")
    export_model(made, out, Wishes(frame="pad", release=released(made)))
    return out


@pytest.fixture(scope="module")
def any_colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("colour") / "model.onnx"
    made = finished("logistic", shape=(3, 30, 30))
    export_model(made, out, Wishes(frame="crop", release=released(made)))
    return out


def noise(*shape: int, top: int = 256, seed: int = 0) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, top, shape, dtype=np.uint16)


def transposed(levels: NDArray[np.uint8]) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera that says who it belongs to"
    return encoded(levels, "JPEG", exif=exif)


def as_jpeg(levels: NDArray[np.uint8], **options: object) -> bytes:
    return encoded(levels, "JPEG", quality=90, **options)


@pytest.mark.usefixtures("assets")
def test_pictures_are_equal(any_grey: Path, phone: Page) -> None:
    grey = noise(97, 130).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(grey).resize((301, 199)))
    check_equal(
        phone,
        any_grey,
        {
            "wide.png": encoded(grey),
            "high.png": encoded(grey.T.copy()),
            "small.png": encoded(grey[:20, :31].copy()),
            "colour.png": encoded(noise(80, 90, 3).astype(np.uint8)),
            "deep.png": encoded(noise(70, 80, top=65536)),
            "one bit.png": encoded(grey > 128),
            "grey.jpg": as_jpeg(smooth),
            "progressive.jpg": as_jpeg(smooth, progressive=True),
            "turned.jpg": transposed(smooth),
        },
    )


@pytest.mark.usefixtures("assets")
def test_colour_pictures_are_equal(any_colour: Path, phone: Page) -> None:
    colour = np.asarray(
        Image.fromarray(noise(40, 50, 3).astype(np.uint8)).resize(
            (200, 160), Image.Resampling.BICUBIC
        )
    )
    check_equal(
        phone,
        any_colour,
        {
            "colour.png": encoded(colour),
            "colour.jpg": as_jpeg(colour),
            "halved.jpg": as_jpeg(colour, subsampling=2),
            "full.jpg": as_jpeg(colour, subsampling=0),
            "grey.png": encoded(colour[..., 0].copy()),
        },
    )


def in_syntax(levels: NDArray[np.uint16], syntax: UID) -> bytes:
    dataset = dicom(levels)
    if syntax == RLELossless:
        dataset.compress(RLELossless, generate_instance_uid=False)
        return saved(dataset)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = levels.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    return saved(dataset)


@pytest.mark.usefixtures("assets")
def test_dicom_objects_are_equal(any_grey: Path, phone: Page) -> None:
    deep = noise(96, 80, top=4096)
    check_equal(
        phone,
        any_grey,
        {
            "plain.dcm": saved(dicom(deep)),
            "window.dcm": saved(dicom(deep, WindowCenter=2000, WindowWidth=1500)),
            "several.dcm": saved(dicom(deep, WindowCenter=[40, 2000], WindowWidth=[80, 1500])),
            "exact.dcm": saved(
                dicom(deep, WindowCenter=2000, WindowWidth=1500, VOILUTFunction="LINEAR_EXACT")
            ),
            "rescaled.dcm": saved(dicom(deep, RescaleSlope=0.37, RescaleIntercept=-1024)),
            "negative.dcm": saved(dicom(deep, PhotometricInterpretation="MONOCHROME1")),
            "bytes.dcm": saved(dicom(noise(64, 70).astype(np.uint8))),
            "implicit.dcm": in_syntax(deep, ImplicitVRLittleEndian),
            "big.dcm": in_syntax(deep, ExplicitVRBigEndian),
            "rle.dcm": in_syntax(deep, RLELossless),
        },
    )


@pytest.mark.usefixtures("assets")
def test_kinds_are_judged_equally(model: Path, phone: Page) -> None:
    check_equal(
        phone,
        model,
        {
            "lung.png": encoded(chest()),
            "lung.jpg": as_jpeg(chest(side=300, height=200)),
            "eye.png": encoded(fundus()),
            "eye grey.png": encoded(fundus()[..., 0].copy()),
            "turned.png": encoded(chest().T.copy()),
        },
    )


# -- Real pictures --------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.usefixtures("assets")
def test_100_real_x_rays_are_equal(real_data: Path, tmp_path: Path, phone: Page) -> None:
    with ZipFile(real_data / "pneumonia_cxr/cxr224_jpeg.zip") as archive:
        names = sorted(one for one in archive.namelist() if "test/" in one and one.endswith("jpeg"))
        pictures = {name: archive.read(name) for name in names[::6][:100]}
    model = exported(tmp_path, finished("squeezenet"))

    assert len(pictures) == 100
    check_equal(phone, model, pictures)


@pytest.mark.data
@pytest.mark.usefixtures("assets")
def test_real_dicom_objects_are_equal_or_refused_by_name(
    real_data: Path, any_grey: Path, phone: Page
) -> None:
    paths = sorted((real_data / "dicom_pydicom").rglob("*.dcm"))
    pictures = [path.read_bytes() for path in paths]
    device = DeviceModel.load(any_grey)

    found = in_browser(phone, any_grey, pictures)

    read = 0
    for path, data, one in zip(paths, pictures, found, strict=True):
        try:
            expected = device.look(data, path.name)
        except DataError:
            assert "refused" in one, path.name
            continue
        if "refused" not in one:
            read += 1
            assert one["levels"] == expected.levels.reshape(-1).tolist(), path.name
        assert one.get("refused", "syntax") in ("syntax", "dicom"), path.name
    assert read >= 10
