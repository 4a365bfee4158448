# SPDX-License-Identifier: Apache-2.0
"""What all tests share: one Chromium, the public data, no deadlines on a machine others use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
]

settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium; playwright's own loop allows one a process."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the public data of medicine; tests that need it skip without."""
    folder = os.environ.get("CONSILIUM_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CONSILIUM_DATA is not set to a folder with the public data")
    return Path(folder)
