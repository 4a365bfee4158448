# SPDX-License-Identifier: Apache-2.0
"""A real Chromium, and what it must never do: ask another origin, or break the page's policy.

Tests skip by name where there is no Chromium. axe-core comes from npm at test time, by the
committed lock file, into a folder that git ignores; without npm the tests that need it skip.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request
from tests.adapters.office.conftest import Federation
from tests.web.pages.conftest import Served

HERE = Path(__file__).parent
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"


@dataclass
class Watched:
    """A page, where it may go, and what it did wrong."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def allow_only(self, origin: str) -> None:
        """Every request elsewhere, every violation of the policy and every script error is one."""

        def asked(request: Request) -> None:
            found = urlsplit(request.url)
            if found.scheme != "data" and f"{found.scheme}://{found.netloc}" != origin:
                self.complaints.append(f"asked {request.url}")

        self.page.on("request", asked)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text)
                if "Content Security Policy" in said.text or "Refused to" in said.text
                else None
            ),
        )


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(30_000)
    yield made
    made.close()


@pytest.fixture
def watched(context: BrowserContext) -> Iterator[Watched]:
    """A page whose complaints fail the test."""
    found = Watched(context.new_page())
    yield found
    assert found.complaints == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, as the lock file names it."""
    npm = shutil.which("npm")
    if not AXE.exists() and npm is not None:
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=HERE, check=False, capture_output=True, timeout=100)  # noqa: S603
    if not AXE.exists():
        pytest.skip("no axe-core: npm is absent, or has no registry")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(stack)
