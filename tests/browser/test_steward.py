# SPDX-License-Identifier: Apache-2.0
"""A steward's work with the keyboard alone: register, approve, watch, revoke."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.adapters.office.conftest import SITES, Federation
from tests.adapters.office.made import make_folder
from tests.browser.conftest import Watched
from tests.web.pages.conftest import Served
from tests.web.pages.test_office_pages import progress, trainer

from consilium.adapters.office.values import Said
from consilium.governance.contract import Verdict
from consilium.governance.projects import State

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

MOST_TABS = 120
NAME_OF_FOCUS = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return '';
  const label = one.labels && one.labels.length ? one.labels[0].innerText : '';
  return (one.getAttribute('aria-label') || label || one.innerText || '').trim();
}"""


def reach(page: Page, name: str) -> None:
    """Presses Tab until what has this name has the focus, visibly."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate(NAME_OF_FOCUS).startswith(name):
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            assert page.evaluate(outline) != "none", f"the focus on {name!r} cannot be seen"
            return
    pytest.fail(f"{name!r} cannot be reached with the keyboard on {page.url}")


def follow(page: Page, name: str) -> None:
    reach(page, name)
    with page.expect_navigation():
        page.keyboard.press("Enter")


def fill(page: Page, name: str, text: str) -> None:
    reach(page, name)
    page.keyboard.type(text)


def others_approve(federation: Federation, project: str) -> None:
    for site in SITES[1:]:
        office, steward = federation.sites[site].office, federation.steward(site)
        digest = office.projects.get(steward, project).digest
        office.projects.review(steward, project, Said(verdict=Verdict.APPROVE, digest=digest))
    federation.carry()


def test_register_approve_watch_revoke(
    federation: Federation, served: Served, watched: Watched, tmp_path: Path
) -> None:
    site, steward = federation.sites["charite"], federation.steward("charite")
    project = federation.submitted()
    page, origin = watched.page, served.origin(site)
    watched.allow_only(origin)

    # In, by a link that works once.
    page.goto(f"{origin}{served.entry(site, steward)}")
    follow(page, "Enter")
    assert page.url == f"{origin}/inbox"

    # Register.
    folder = make_folder(tmp_path / "more", seed=9)
    follow(page, "Datasets")
    follow(page, "Register a dataset")
    fill(page, "Name", "Echo-2026")
    fill(page, "Folder on this machine", str(folder))
    fill(page, "What is it?", "Hearts, seen by ultrasound")
    follow(page, "Register")
    expect(page.get_by_role("heading", level=1)).to_have_text("Echo-2026")

    # Approve.
    follow(page, "Inbox")
    follow(page, "Review heart")
    follow(page, "Approve")
    words = page.locator("dd").first.inner_text()
    fill(page, "First word of the six above", words.split()[0])
    follow(page, "Approve")
    expect(page.get_by_text("You approved it.")).to_be_visible()
    others_approve(federation, project)

    # Watch: the run begins, and the page follows it.
    site.office.runs.start(trainer(site, project), project, "run-1")
    follow(page, "Inbox")
    follow(page, "heart")
    expect(page.get_by_text("This page follows the run.")).to_be_visible()
    board = served.app(site).state.runs
    for round_ in (1, 2, 3):
        board.publish(progress(federation, project, round_))
        expect(page.locator("#live .value").first).to_have_text(str(round_))
    assert page.locator(".chart.wide circle").count() == 3

    # Revoke.
    follow(page, "Revoke")
    fill(page, "Why?", "Doubts about the purpose")
    fill(page, "Type the project's name to confirm", "heart")
    follow(page, "Revoke this project")
    expect(page.get_by_text("It is revoked.")).to_be_visible()
    assert site.office.projects.get(steward, project).state is State.REVOKED


def test_the_slider_asks_the_server(
    federation: Federation, served: Served, watched: Watched
) -> None:
    site, steward = federation.sites["charite"], federation.steward("charite")
    project = federation.submitted()
    page, origin = watched.page, served.origin(site)
    watched.allow_only(origin)
    page.goto(f"{origin}{served.entry(site, steward)}")
    follow(page, "Enter")
    page.goto(f"{origin}/projects/{project}")
    before = page.locator("[data-answer]").inner_text()

    reach(page, "The same, as a slider")
    page.keyboard.press("Home")

    expect(page.locator("[data-answer]")).not_to_have_text(before)
