# SPDX-License-Identifier: Apache-2.0
"""Every page, from example values, in a real browser: accessible, within its width, at home."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route
from tests.browser.conftest import Watched
from tests.web.pages.examples import EXAMPLES, FRAME

from consilium.web.app import STATIC
from consilium.web.pages.parts import Frame
from consilium.web.pages.rendering import to_html
from consilium.web.security import POLICY

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

ORIGIN = "http://office.test"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
SERIOUS = {"serious", "critical"}


def answer(route: Route) -> None:
    """Serves examples and static files under the policy of the application."""
    path = route.request.url.removeprefix(ORIGIN).split("?")[0]
    headers = {"Content-Security-Policy": POLICY}
    static = STATIC / Path(path).name
    if path.startswith("/static/") and static.is_file():
        route.fulfill(body=static.read_bytes(), content_type=TYPES[static.suffix], headers=headers)
    elif path[1:] in EXAMPLES:
        frame = FRAME if path != "/sign-in" else Frame(office="Hospital A", here="/sign-in")
        page = to_html(EXAMPLES[path[1:]], frame)
        route.fulfill(body=page, content_type="text/html; charset=utf-8", headers=headers)
    else:
        route.fulfill(status=404, body="")


@pytest.fixture
def page(watched: Watched) -> Page:
    watched.allow_only(ORIGIN)
    watched.page.route("**/*", answer)
    return watched.page


def serious(page: Page, axe: str) -> list[str]:
    """What axe finds; its script is put in by the browser's own tool, beside the policy."""
    page.evaluate(axe)
    found = page.evaluate("axe.run({resultTypes: ['violations']}).then(r => JSON.stringify(r))")
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in json.loads(found)["violations"]
        if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, axe: str, scheme: str) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    found = {}
    for name in EXAMPLES:
        page.goto(f"{ORIGIN}/{name}")
        found[name] = serious(page, axe)

    assert {name: issues for name, issues in found.items() if issues} == {}


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    wide = []
    for name in EXAMPLES:
        page.goto(f"{ORIGIN}/{name}")
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wide.append(name)

    assert wide == []


def test_text_may_be_twice_as_large(page: Page) -> None:
    """WCAG 2.2, 1.4.4 and 1.4.10: at 200 % of 1280 px nothing runs out of the page."""
    page.set_viewport_size({"width": 640, "height": 400})
    for name in ("inbox", "review", "dataset", "live"):
        page.goto(f"{ORIGIN}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 640, name


def test_the_policy_is_what_stops_a_script(watched: Watched) -> None:
    """The watch itself is seen to notice: a page with a script of its own is a complaint."""
    watched.allow_only(ORIGIN)
    watched.page.route(
        "**/*",
        lambda route: route.fulfill(
            body="<script>document.title = 'run'</script>",
            content_type="text/html",
            headers={"Content-Security-Policy": POLICY},
        ),
    )

    watched.page.goto(ORIGIN)

    assert watched.page.title() != "run"
    assert len(watched.complaints) == 1
    watched.complaints.clear()
