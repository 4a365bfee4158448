# SPDX-License-Identifier: Apache-2.0
"""The encrypted page in a real browser, against three real operators."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.phone.asked import Asked, a_picture, chosen, encrypted_page, opened, sent
from tests.phone.made import encoded

pytestmark = pytest.mark.browser


@pytest.fixture
def asked(assets: Path, tmp_path: Path) -> Iterator[Asked]:
    del assets
    with encrypted_page(tmp_path) as made:
        yield made


def test_an_answer_is_asked_and_opened(asked: Asked, operators_phone: Page) -> None:
    page = opened(operators_phone, asked.url)
    chosen(page, encoded(a_picture()))
    expect(page.locator("#confirm-title")).to_be_focused()
    sent(page)
    expect(page.locator("#answer")).to_contain_text("Looks like")
