# SPDX-License-Identifier: Apache-2.0
"""Real data where they are, a browser where there is one, and one made-up model for all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page
from tests.phone import made

from consilium.web.phone import site


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of chest X-rays that nobody trained, with its card."""
    return made.exported(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="session")
def assets() -> Path:
    """The scripts of the page, made by `make phone`."""
    folder = Path(site.__file__).parent / "assets"
    if not (folder / "app.js").is_file():
        pytest.skip("the phone page's scripts were not made (make phone)")
    return folder


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    """A page of a phone that has never been anywhere, 390 px wide, in English."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, locale="en-GB", device_scale_factor=2
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()


@pytest.fixture(scope="session")
def page_url(model: Path, assets: Path) -> Iterator[str]:
    """Where the page of the made-up model is offered."""
    del assets
    with made.served(model) as (url, _end):
        yield url


@pytest.fixture
def operators_phone(browser: Browser) -> Iterator[Page]:
    """Such a phone that trusts certificates of an authority of its own, as operators' kits have."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844},
        locale="en-GB",
        device_scale_factor=2,
        ignore_https_errors=True,
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    yield page
    context.close()
