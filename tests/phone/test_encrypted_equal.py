# SPDX-License-Identifier: Apache-2.0
"""What the page shares is, as whole numbers, what Python would share: not one unit differs.

The page's worker is asked directly, in a real Chromium; two operators that only listen take the
shares, and the sum of both is compared.
"""

import base64
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page
from tests.data.made import dicom, saved
from tests.phone.asked import listening, made_up, opened, secret_of, words_of
from tests.phone.made import encoded
from tests.phone.test_equal import as_jpeg, noise

from consilium.adapters.inference.asking import Offered
from consilium.learning.preprocessing import Preprocessing

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("assets")]

SHARE = """
async (pictures) => {
    const { port1, port2 } = new MessageChannel();
    const files = await new Promise((resolve) => {
        port1.onmessage = ({ data }) => resolve(data);
        navigator.serviceWorker.controller.postMessage({ want: ["publication.json"] }, [port2]);
    });
    const publication = JSON.parse(new TextDecoder().decode(files["publication.json"]));
    const worker = new Worker("worker.js", { type: "module" });
    const tell = (message) => new Promise((resolve) => {
        worker.onmessage = ({ data }) => data.progress === undefined && resolve(data);
        worker.postMessage({ id: 0, ...message });
    });
    await tell({ action: "start", publication });
    const found = [];
    for (const picture of pictures) {
        const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0)).buffer;
        const seen = await tell({ action: "look", bytes });
        found.push(seen.refused ?? (await tell({ action: "ask" })).refused);
    }
    worker.terminate();
    return found;
}
"""
RULES = [Preprocessing(), Preprocessing(mean=0.485, std=0.229, standardise_each_image=False)]
OWN = Preprocessing(standardise_each_image=True)


def check_equal(page: Page, folder: Path, offered: Offered, pictures: dict[str, bytes]) -> None:
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    with listening(folder, offered) as (url, received):
        opened(page, url)
        found = page.evaluate(SHARE, [base64.b64encode(one).decode() for one in pictures.values()])
    uploads = [one for one in received if one.method == "POST"]

    assert found == ["stopped"] * len(pictures)
    assert len(uploads) == 2 * len(pictures)
    for k, name in enumerate(pictures):
        shared = secret_of(uploads[2 * k : 2 * k + 2], offered)
        assert np.array_equal(shared, words_of(folder / name, offered)), name


@pytest.mark.parametrize("rule", [*RULES, OWN], ids=["half", "other", "own moments"])
def test_grey_pictures_are_equal(
    operators_phone: Page, tmp_path: Path, rule: Preprocessing
) -> None:
    grey = noise(97, 130).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(grey).resize((301, 199)))
    deep = noise(96, 80, top=4096)
    check_equal(
        operators_phone,
        tmp_path,
        made_up((1, 64, 64), rule),
        {
            "wide.png": encoded(grey),
            "small.png": encoded(grey[:20, :31].copy()),
            "black.png": encoded(np.zeros((70, 70), np.uint8)),
            "deep.png": encoded(noise(70, 80, top=65536)),
            "grey.jpg": as_jpeg(smooth),
            "window.dcm": saved(dicom(deep, WindowCenter=2000, WindowWidth=1500)),
        },
    )


@pytest.mark.parametrize("rule", [RULES[1], OWN], ids=["other", "own moments"])
def test_colour_pictures_are_equal(
    operators_phone: Page, tmp_path: Path, rule: Preprocessing
) -> None:
    colour = np.asarray(Image.fromarray(noise(40, 50, 3).astype(np.uint8)).resize((200, 160)))
    check_equal(
        operators_phone,
        tmp_path,
        made_up((3, 48, 48), rule),
        {
            "colour.png": encoded(colour),
            "colour.jpg": as_jpeg(colour),
            "grey.png": encoded(colour[..., 0].copy()),
        },
    )


@pytest.mark.data
def test_100_real_x_rays_are_equal(real_data: Path, tmp_path: Path, operators_phone: Page) -> None:
    with ZipFile(real_data / "pneumonia_cxr/cxr224_jpeg.zip") as archive:
        names = sorted(one for one in archive.namelist() if "test/" in one and one.endswith("jpeg"))
        pictures = {Path(one).name: archive.read(one) for one in names[::6][:100]}

    assert len(pictures) == 100
    check_equal(operators_phone, tmp_path, made_up((1, 224, 224)), pictures)
