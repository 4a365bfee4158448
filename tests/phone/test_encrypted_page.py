# SPDX-License-Identifier: Apache-2.0
"""The encrypted page in a real browser, against three real operators: what a patient sees."""

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect
from tests.phone.asked import (
    SLOW,
    Asked,
    a_picture,
    chosen,
    encrypted_page,
    opened,
    sent,
)
from tests.phone.made import CHEST, chest, encoded, photograph
from tests.phone.test_page import AXE, serious

from consilium.adapters.inference import public_end
from consilium.adapters.inference.publishing import revoke

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("assets")]

TRIED = """
async (url) => {
    let violated = false;
    addEventListener("securitypolicyviolation", () => (violated = true), { once: true });
    const reached = await fetch(url).then(() => true, () => false);
    await new Promise((resolve) => setTimeout(resolve, 100));
    return reached ? "reached" : violated ? "forbidden" : "failed";
}
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A page whose operators work."""
    with encrypted_page(tmp_path_factory.mktemp("asked")) as made:
        yield made


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[Asked]:
    """A page whose operators a test may break."""
    with encrypted_page(tmp_path, stock=1) as made:
        yield made


def answered(page: Page) -> None:
    chosen(page, encoded(a_picture()))
    sent(page)
    expect(page.locator("#answer")).not_to_be_empty()


def refused(page: Page, words: str) -> None:
    expect(page.locator("#refused")).to_contain_text(words, timeout=SLOW)
    expect(page.locator("#refused")).to_be_focused()
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#asking")).to_be_hidden()


# -- An answer ------------------------------------------------------------------------


def test_an_answer_in_words(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)

    answered(page)

    said = page.inner_text("main")
    assert re.search("Looks like: (none|mild|severe)", said)
    assert "Certainty: not known" in said
    assert "This is not a diagnosis." in said
    assert not re.search(r"\d\.\d\d", said)
    expect(page.locator("#answer")).to_be_focused()
    expect(page.locator("#asking")).to_be_hidden()


def test_nothing_is_sent_before_one_agrees(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)
    asked.received.clear()

    chosen(page, encoded(a_picture()))

    expect(page.locator("#confirm-title")).to_be_focused()
    said = page.inner_text("#confirm-said")
    assert all(origin.removeprefix("https://") in said for origin in asked.origins)
    assert "About 7.8 kB leave this phone." in said
    page.click("#keep")
    expect(page.locator("#said")).to_contain_text("Deleted")
    assert asked.received == []


def test_deleting_ends_what_is_under_way(
    asked: Asked, operators_phone: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked.parties.operators[0], "_compute_first", lambda _share: None)
    page = opened(operators_phone, asked.url)
    chosen(page, encoded(a_picture()))
    page.click("#send")
    expect(page.locator("#said")).to_contain_text("computing", timeout=SLOW)
    worker = page.workers[0]

    page.click("#delete")

    expect(page.locator("#said")).to_contain_text("Deleted")
    expect(page.locator("#file")).to_be_focused()
    for id_ in ("picture", "asking", "confirm", "refusal", "result"):
        expect(page.locator(f"#{id_}")).to_be_hidden()
    assert worker not in page.workers
    assert page.evaluate("document.getElementById('preview').width") == 0


# -- No way out -----------------------------------------------------------------------


def test_the_page_reaches_nothing_and_its_worker_the_operators_alone(
    asked: Asked, operators_phone: Page
) -> None:
    page = opened(operators_phone, asked.url)
    operators = [f"{origin}/v1/models" for origin in asked.origins]
    others = [asked.url, "https://127.0.0.1:1/", "https://example.org/"]

    assert [page.evaluate(TRIED, url) for url in operators + others] == ["forbidden"] * 5
    found = [page.workers[0].evaluate(TRIED, url) for url in operators + others]
    assert found == ["reached"] * 2 + ["forbidden"] * 3


def test_nothing_is_stored_but_the_page_itself(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)
    answered(page)

    kept = page.evaluate(
        """async () => ({
            local: localStorage.length + sessionStorage.length, cookie: document.cookie,
            databases: (await indexedDB.databases()).length,
            files: (await Promise.all((await caches.keys()).map(
                async (name) => (await (await caches.open(name)).keys()).map((one) => one.url))
            )).flat(),
        })"""
    )

    assert (kept["local"], kept["cookie"], kept["databases"]) == (0, "", 0)
    assert all(url.startswith(asked.url) for url in kept["files"])
    assert not [url for url in kept["files"] if "onnx" in url or "wasm" in url]


# -- What is refused on the phone -----------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "not a PNG, JPEG or DICOM picture"),
        (encoded(chest())[:3000], "is damaged"),
        (
            b"\x89PNG\r\n\x1a\n"
            + struct.pack(">I", 13)
            + b"IHDR"
            + struct.pack(">II", 20_000, 10_000)
            + bytes([8, 0, 0, 0, 0])
            + bytes(8),
            "too large",
        ),
    ],
    ids=["text", "half", "200 megapixels"],
)
def test_what_is_no_picture_is_refused_here(
    asked: Asked, operators_phone: Page, data: bytes, words: str
) -> None:
    page = opened(operators_phone, asked.url)
    asked.received.clear()

    chosen(page, data)

    refused(page, words)
    expect(page.locator("#confirm")).to_be_hidden()
    expect(page.locator("#refused-help")).to_contain_text("Nothing was sent.")
    assert asked.received == []


def test_pictures_of_another_kind_are_refused_before_anything_is_shared(
    tmp_path: Path, operators_phone: Page
) -> None:
    with encrypted_page(tmp_path, stock=1, kind=CHEST) as asked:
        page = opened(operators_phone, asked.url)
        expect(page.locator("h1")).to_contain_text("chest X\u2011ray")
        for strange in (photograph(), chest()[::-1].T.copy()):
            chosen(page, encoded(strange))
            refused(page, "does not look like a chest X\u2011ray")
            expect(page.locator("#confirm")).to_be_hidden()
        assert asked.received == []

        chosen(page, encoded(chest()))
        expect(page.locator("#confirm-kind")).to_be_empty()
        sent(page)
        expect(page.locator("#answer")).not_to_be_empty()


# -- What goes wrong at the operators -------------------------------------------------


def test_an_operator_that_is_away_is_named_and_nothing_is_sent(
    breakable: Asked, operators_phone: Page
) -> None:
    page = opened(operators_phone, breakable.url)
    breakable.parties.servers[1].should_exit = True
    time.sleep(0.7)
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, f"{breakable.origins[1].removeprefix('https://')} does not answer")
    assert breakable.uploads == []
    expect(page.locator("#send")).to_have_text("Ask again")


def test_an_operator_that_loses_the_other_says_so(breakable: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, breakable.url)
    breakable.parties.operators[1].close()
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, "stopped in the middle")
    expect(page.locator("#refused-help")).to_contain_text("No answer was opened")


def test_an_operator_that_stops_in_the_middle_is_named(
    breakable: Asked, operators_phone: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakable.parties.operators[0], "_compute_first", lambda _share: None)
    monkeypatch.setattr(public_end, "_WAIT", 0.5)
    page = opened(operators_phone, breakable.url)
    chosen(page, encoded(a_picture()))
    page.click("#send")
    expect(page.locator("#said")).to_contain_text("computing", timeout=SLOW)

    breakable.parties.servers[1].should_exit = True

    refused(page, f"{breakable.origins[1].removeprefix('https://')} does not answer")


def test_a_session_that_an_operator_forgot_is_over(
    breakable: Asked, operators_phone: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakable.parties.operators[0], "_compute_first", lambda _share: None)
    sessions = breakable.parties.operators[1].sessions
    monkeypatch.setattr(sessions, "add", lambda _share, _token: None)
    page = opened(operators_phone, breakable.url)
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, "stopped in the middle")


def test_a_revoked_model_is_not_asked(breakable: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, breakable.url)
    revoke(breakable.parties.kits / "owner", bytes.fromhex(breakable.offered.publication))
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, "its owner took it back")
    assert breakable.uploads == []


def test_without_material_one_is_told_to_wait_and_may_ask_again(
    breakable: Asked, operators_phone: Page
) -> None:
    page = opened(operators_phone, breakable.url)
    breakable.parties.dealing.clear()
    time.sleep(0.5)
    answered(page)
    chosen(page, encoded(a_picture(1)))
    sent(page)
    refused(page, "has nothing prepared for another picture")
    assert len(breakable.uploads) == 2

    breakable.parties.dealing.set()
    name = bytes.fromhex(breakable.offered.publication)
    shelves = [one.shelf.get(name) for one in breakable.parties.operators]
    while not all(one.materials.numbers() for one in shelves):
        time.sleep(0.1)
    sent(page)
    expect(page.locator("#answer")).not_to_be_empty()


def test_without_a_network_it_opens_and_says_so(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)
    page.add_init_script("Object.defineProperty(navigator, 'onLine', { get: () => false })")
    page.context.set_offline(True)  # which Chromium no longer tells the page
    opened(page, asked.url)
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, "There is no network.")


def test_operators_that_describe_another_model_are_not_asked(
    breakable: Asked, operators_phone: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bytes.fromhex(breakable.offered.publication)
    published = breakable.parties.operators[1].shelf.get(name)
    other = breakable.offered.card.classes[::-1]
    page = opened(operators_phone, breakable.url)
    monkeypatch.setattr(published, "card", msgspec.structs.replace(published.card, classes=other))
    chosen(page, encoded(a_picture()))

    sent(page)

    refused(page, "describes another model")
    assert breakable.uploads == []


# -- Everybody ------------------------------------------------------------------------


def test_about_says_who_must_not_conspire(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)

    page.click("#about > summary")

    about = page.inner_text("#about")
    assert all(origin.removeprefix("https://") in about for origin in asked.origins)
    assert "Any two of these three, together, could see your picture" in about
    assert "nobody would notice" in about
    assert "cannot tell whether a picture is of the right kind" in about
    assert asked.offered.publication in about.replace(" ", "")
    signed = page.inner_text("#signed")
    assert f"as {asked.offered.card.publisher.name} signed it" in signed


def test_the_other_language(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)
    chosen(page, encoded(a_picture()))

    page.select_option("#language", "de")
    expect(page.locator("#send")).to_have_text("Die zwei Teile senden")
    sent(page)

    expect(page.locator("#result")).to_contain_text("Das ist keine Diagnose.")
    page.select_option("#language", "en")
    expect(page.locator("#answer")).to_contain_text("Looks like")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier(browser: Browser, asked: Asked, scheme: Any) -> None:  # noqa: ANN401
    if not AXE.is_file():
        pytest.skip("axe-core is not there (make phone)")
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, ignore_https_errors=True
    )
    page = opened(context.new_page(), asked.url)

    assert serious(page) == []
    chosen(page, encoded(a_picture()))
    assert serious(page) == []
    sent(page)
    page.click("#about > summary")
    for summary in page.locator("#result summary").all():
        summary.click()
    assert serious(page) == []
    chosen(page, b"hello")
    assert serious(page) == []
    context.close()


def test_nothing_is_wider_than_a_phone(asked: Asked, operators_phone: Page) -> None:
    page = operators_phone
    page.set_viewport_size({"width": 320, "height": 600})
    opened(page, asked.url)
    chosen(page, encoded(a_picture()))
    page.click("#about > summary")

    for language in ("en", "de"):
        page.select_option("#language", language)
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 320
