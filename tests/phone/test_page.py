# SPDX-License-Identifier: Apache-2.0
"""The phone page in a real browser: what a patient sees, and that nothing leaves the phone."""

import json
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, FilePayload, Page, expect
from tests.phone import made as made_up
from tests.phone.made import (
    FUNDUS,
    chest,
    encoded,
    exported,
    finished,
    fundus,
    photograph,
    served,
)

from consilium.adapters.model_card import read_model
from consilium.web.phone import site
from consilium.web.phone.pages import PhoneSite

pytestmark = pytest.mark.browser

AXE = Path(__file__).parents[2] / "web-build/phone/node_modules/axe-core/axe.min.js"
SLOW = 60_000.0  # milliseconds that a loaded machine may take


def opened(page: Page, url: str) -> Page:
    page.goto(url)
    expect(page.locator("#file")).to_be_enabled(timeout=SLOW)
    return page


def chosen(page: Page, data: bytes, name: str = "lung.png") -> None:
    picture: FilePayload = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#file", picture)
    expect(page.locator("#delete")).to_be_visible(timeout=SLOW)


def answered(page: Page) -> None:
    chosen(page, encoded(chest()))
    expect(page.locator("#answer")).to_be_visible()


# -- Nothing leaves -------------------------------------------------------------------


def test_after_loading_nothing_is_asked(model: Path, assets: Path, phone: Page) -> None:
    del assets
    asked: list[str] = []
    with served(model, asked) as (url, _end):
        opened(phone, url)
        loaded = len(asked)

        answered(phone)
        phone.click("#where")
        expect(phone.locator("#where-said")).to_contain_text("Covering", timeout=SLOW)
        phone.click("#delete")
        expect(phone.locator("#said")).to_contain_text("Deleted")
        phone.click("#about > summary")
        phone.click("#verify")
        expect(phone.locator("#verified")).to_contain_text("recorded digest")

        assert loaded >= 12
        assert asked[loaded:] == []
        assert all(line.startswith(("GET ", "HEAD ")) for line in asked)


def test_it_opens_and_answers_without_any_network(model: Path, assets: Path, phone: Page) -> None:
    del assets
    with served(model) as (url, end):
        opened(phone, url)
        phone.context.set_offline(True)
        end()

        opened(phone, url)
        answered(phone)

        expect(phone.locator("#certainty")).to_contain_text("Certainty")


def test_page_and_worker_have_no_way_out(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    tried = "fetch('index.html').then(() => 'reached', () => 'forbidden')"

    assert phone.evaluate(tried) == "forbidden"
    assert phone.workers[0].evaluate(tried) == "forbidden"
    assert phone.evaluate("crossOriginIsolated") is True


def test_nothing_is_stored_but_the_page_itself(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    answered(phone)

    kept = phone.evaluate(
        """async () => ({
            local: localStorage.length + sessionStorage.length, cookie: document.cookie,
            databases: (await indexedDB.databases()).length,
            files: (await Promise.all((await caches.keys()).map(
                async (name) => (await (await caches.open(name)).keys()).map((one) => one.url))
            )).flat(),
        })"""
    )

    assert (kept["local"], kept["cookie"], kept["databases"]) == (0, "", 0)
    names = {url.rpartition("/")[2] for url in kept["files"]}
    assert names >= {"model.onnx", "ort.wasm", "index.html"}
    assert not {name for name in names if "lung" in name}


def test_a_changed_model_never_starts(
    model: Path, assets: Path, phone: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    del assets
    made = site.make_site(model)
    other = {**made.files, "model.onnx": made.files["model.onnx"] + b"\0"}
    packed = {**made.packed, "model.onnx": other["model.onnx"]}
    monkeypatch.setattr(made_up, "make_site", lambda _model: PhoneSite(files=other, packed=packed))
    with served(model) as (url, _end):
        phone.goto(url)

        expect(phone.locator("#ready")).to_contain_text("cannot keep this page", timeout=SLOW)
        expect(phone.locator("#file")).to_be_disabled()


# -- What is said ---------------------------------------------------------------------


def test_an_answer_in_words(page_url: str, phone: Page) -> None:
    opened(phone, page_url)

    answered(phone)

    said = phone.inner_text("main")
    assert re.search(r"(Looks like|Perhaps): (normal|signs of pneumonia)", said)
    assert re.search(r"right about \d times in 10, on \d+ test pictures", said)
    assert "This is not a diagnosis." in said
    assert not re.search(r"\d\.\d\d", said)
    expect(phone.locator("#answer")).to_be_focused()
    expect(phone).to_have_title("Check a chest X\u2011ray privately")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(photograph()), "does not look like a chest X\u2011ray: it is in colour"),
        (encoded(fundus()[..., 1].copy()), "This does not look like a chest X\u2011ray."),
        (encoded(chest()[::-1].T.copy()), "This does not look like a chest X\u2011ray."),
        (encoded(np.zeros((99, 99), np.uint8)), "This does not look like a chest X\u2011ray."),
        (b"hello", "not a PNG, JPEG or DICOM picture"),
        (encoded(chest())[:3000], "is damaged"),
        (encoded(chest(side=40)), "is too small"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM file"),
    ],
    ids=["colour", "fundus", "side", "black", "text", "half", "small", "dicom"],
)
def test_what_is_no_chest_x_ray_is_refused(
    page_url: str, phone: Page, data: bytes, words: str
) -> None:
    opened(phone, page_url)

    chosen(phone, data)

    expect(phone.locator("#refused")).to_contain_text(words)
    expect(phone.locator("#refused")).to_be_focused()
    expect(phone.locator("#result")).to_be_hidden()


def test_200_megapixels_are_refused_by_their_header(page_url: str, phone: Page) -> None:
    header = struct.pack(">II", 20_000, 10_000) + bytes([8, 0, 0, 0, 0])
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(8)
    opened(phone, page_url)

    chosen(phone, bomb)

    expect(phone.locator("#refused")).to_contain_text("too large")


def test_deleting_leaves_nothing(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    answered(phone)
    first = phone.workers[0]

    phone.click("#delete")
    expect(phone.locator("#said")).to_contain_text("Nothing of your picture is left")

    expect(phone.locator("#picture")).to_be_hidden()
    expect(phone.locator("#answer")).to_be_empty()
    assert phone.evaluate("document.getElementById('preview').width") == 0
    assert phone.evaluate("document.getElementById('file').files.length") == 0
    assert first not in phone.workers
    answered(phone)


def test_where_it_looked_is_said_in_words_too(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    answered(phone)

    phone.click("#where")

    expect(phone.locator("#where-said")).to_contain_text("changes the answer", timeout=SLOW)


def test_the_other_language(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    answered(phone)

    phone.select_option("#language", "de")

    expect(phone.locator("h1")).to_contain_text("Ein Röntgenbild der Lunge")
    expect(phone.locator("#result")).to_contain_text("Das ist keine Diagnose.")
    assert phone.evaluate("document.documentElement.lang") == "de"


def test_model_is_verified(page_url: str, model: Path, phone: Page) -> None:
    opened(phone, page_url)
    phone.click("#about > summary")

    phone.click("#verify")

    _, card = read_model(model)
    expect(phone.locator("#verified")).to_contain_text(" ".join(re.findall(".{8}", card.sha256)))
    expect(phone.locator("#signed")).to_contain_text(card.publisher.words())
    about = phone.inner_text("#about")
    assert "epsilon 2.5901 per patient" in about
    assert all(words in about for words in card.privacy.fails_if)


def test_page_can_be_removed(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    phone.click("#about > summary")

    phone.click("#remove")

    expect(phone.locator("#said")).to_contain_text("Removed")
    assert phone.evaluate("caches.keys()") == []


def test_five_grades_of_an_eye(assets: Path, tmp_path: Path, phone: Page) -> None:
    del assets
    grades = ("no retinopathy", "mild retinopathy", "moderate", "severe", "proliferative")
    eye = finished("wavelet", shape=(3, 28, 28), source="retinamnist", classes=grades)
    with served(exported(tmp_path, eye, FUNDUS)) as (url, _end):
        opened(phone, url)

        chosen(phone, encoded(fundus()))

        expect(phone.locator("h1")).to_contain_text("back of the eye")
        expect(phone.locator("#all > li")).to_have_count(5)
        chosen(phone, encoded(chest()))
        expect(phone.locator("#refused")).to_contain_text("not look like a picture of the back")


# -- Everybody ------------------------------------------------------------------------


def serious(page: Page) -> list[str]:
    found: dict[str, Any] = page.evaluate(
        f"async () => {{ {AXE.read_text()}; return await window.axe.run(); }}"
    )
    grave = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [json.dumps([one["id"], one["nodes"][0]["html"]]) for one in grave]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier(browser: Browser, page_url: str, scheme: Any) -> None:  # noqa: ANN401
    if not AXE.is_file():
        pytest.skip("axe-core is not there (make phone)")
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    page = opened(context.new_page(), page_url)

    assert serious(page) == []
    answered(page)
    page.click("#about > summary")
    for summary in page.locator("#result summary").all():
        summary.click()
    assert serious(page) == []
    chosen(page, encoded(photograph()))
    assert serious(page) == []
    context.close()


def test_nothing_is_wider_than_a_phone(page_url: str, phone: Page) -> None:
    phone.set_viewport_size({"width": 320, "height": 600})
    opened(phone, page_url)
    answered(phone)
    phone.click("#about > summary")

    for language in ("en", "de"):
        phone.select_option("#language", language)
        assert phone.evaluate("document.scrollingElement.scrollWidth") <= 320


def test_keys_alone_are_enough(page_url: str, phone: Page) -> None:
    opened(phone, page_url)
    answered(phone)

    reached = []
    for _ in range(8):
        phone.keyboard.press("Tab")
        reached.append(
            phone.evaluate("document.activeElement.id || document.activeElement.tagName")
        )
    phone.focus("#delete")
    phone.keyboard.press("Enter")

    assert reached[:4] == ["where", "SUMMARY", "SUMMARY", "delete"]
    expect(phone.locator("#said")).to_contain_text("Deleted")
    expect(phone.locator("#file")).to_be_focused()
