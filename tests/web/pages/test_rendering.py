# SPDX-License-Identifier: Apache-2.0
"""Tests of every page: well formed, for every reader, nothing inline, the same as its JSON."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from tests.web.pages.examples import (
    BUDGET,
    DATASET,
    EXAMPLES,
    FRAME,
    INBOX,
    LIVE,
    PRICE,
    REVIEW,
    REVOKE,
    WRONG,
)

from consilium.web.pages.parts import Frame, Link
from consilium.web.pages.rendering import TEMPLATES, live_part, to_html, to_json
from consilium.web.pages.views import InboxView

VOID = {"meta", "br", "hr", "img", "input", "link", "rect", "circle", "polyline"}
every_page = pytest.mark.parametrize("name", EXAMPLES)


class Outline(HTMLParser):
    """Collects what a page is made of; fails on a tag that is closed out of turn."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.tags.append((tag, known))
        self.ids += [known["id"]] if "id" in known else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def named(self, tag: str) -> Iterator[dict[str, str]]:
        return (known for name, known in self.tags if name == tag)


def html(name: str) -> str:
    return to_html(EXAMPLES[name], FRAME)


# -- Every page -----------------------------------------------------------------------


def test_every_kind_of_view_has_an_example() -> None:
    assert {type(view) for view in EXAMPLES.values()} == set(TEMPLATES)


@every_page
def test_a_page_is_well_formed(name: str) -> None:
    outline = Outline(html(name))

    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))


@every_page
def test_a_page_has_one_title_and_leaves_out_no_heading(name: str) -> None:
    headings = Outline(html(name)).headings

    assert headings.count(1) == 1
    first = headings.index(1)
    assert all(after <= before + 1 for before, after in pairwise(headings[first:]))


@every_page
def test_nothing_is_inline_and_nothing_is_fetched_from_elsewhere(name: str) -> None:
    page = html(name)

    assert not re.search(r"<style|\bstyle=|\bon[a-z]+=|javascript:|https?://(?!www\.w3\.org)", page)
    assert all(
        known.get("src", "").startswith("/static/") for known in Outline(page).named("script")
    )


@every_page
def test_every_answer_has_its_question(name: str) -> None:
    outline = Outline(html(name))
    asked = {known["for"] for known in outline.named("label")}

    fields = [*outline.named("input"), *outline.named("textarea")]

    assert all(known["id"] in asked for known in fields)


@every_page
def test_what_describes_a_field_is_on_the_page(name: str) -> None:
    outline = Outline(html(name))
    named = [known.get("aria-describedby", "").split() for _, known in outline.tags]

    assert {one for names in named for one in names} <= set(outline.ids)


@every_page
def test_the_twin_holds_the_same_view(name: str) -> None:
    twin = json.loads(to_json(EXAMPLES[name]))

    assert twin["title"] == getattr(EXAMPLES[name], "title")  # noqa: B009 - of every view


@every_page
def test_a_page_prints_its_command(name: str) -> None:
    command = getattr(EXAMPLES[name], "cli")  # noqa: B009 - of every view

    assert not command or command.replace('"', "&#34;") in html(name)


@every_page
def test_an_epsilon_never_stands_without_delta(name: str) -> None:
    """The word epsilon with a number behind it comes with a delta on the same page."""
    text = re.sub(r"<[^>]*>", " ", html(name))

    if re.search(r"[Ee]psilon \d", text):
        assert "delta 0.0" in text


def test_text_from_outside_is_escaped() -> None:
    page = to_html(replace(REVIEW, purpose="<script>alert(1)</script>"), FRAME)

    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


# -- Frame ----------------------------------------------------------------------------


def test_the_menu_marks_where_one_is() -> None:
    page = to_html(DATASET, replace(FRAME, here="/datasets/01JD"))

    assert '<a href="/datasets" aria-current="true">' in page


def test_a_path_that_only_begins_alike_is_not_within() -> None:
    frame = Frame(office="A", here="/logs", menu=(Link("Log", "/log"),))

    assert frame.section == ""


def test_nobody_signed_in_sees_no_menu_and_no_twin() -> None:
    page = to_html(WRONG, Frame(office="Hospital A", here="/sign-in"))

    assert "Sign out" not in page
    assert ".json" not in page


# -- Forms ----------------------------------------------------------------------------


def test_an_error_stands_beside_its_field_and_on_top() -> None:
    page = html("sign-in-wrong")

    assert '<a href="#field-password">' in page
    assert 'aria-invalid="true"' in page
    assert "<title>Error: Sign in" in page


def test_a_password_is_never_sent_back() -> None:
    page = to_html(
        replace(WRONG, form=WRONG.form.with_answers({"password": "tr0ub4dor"}, {})), FRAME
    )

    assert "tr0ub4dor" not in page


def test_a_dangerous_step_says_what_stays_and_who_is_told() -> None:
    page = to_html(REVOKE, FRAME)

    assert page.index("What happens") < page.index("What cannot be undone")
    assert "Who is told" in page
    assert "button danger" in page


# -- Steward --------------------------------------------------------------------------


def test_an_empty_inbox_teaches() -> None:
    page = html("inbox-empty")

    assert "Nothing runs until you approve it" in page
    assert "You can revoke it at any time" in page


def test_the_review_follows_the_order_in_which_it_is_judged() -> None:
    titles = re.findall(r"<h2 id=\"(\w+)\">", html("review"))

    assert titles == [
        *("purpose", "leaves", "price", "people", "parameters", "fingerprint", "conditions")
    ]


def test_a_price_says_before_after_and_what_remains() -> None:
    page = html("review")

    assert "now 1.92 of 8.0, 24 %" in page
    assert "with this 2.78, 35 %" in page
    assert "then 5.22 remains" in page


def test_a_price_that_does_not_fit_says_so() -> None:
    page = to_html(replace(REVIEW, prices=(replace(PRICE, fits=False),)), FRAME)

    assert "the ledger would refuse it" in page


def test_patients_who_would_be_left_out_are_counted() -> None:
    page = to_html(replace(REVIEW, prices=(replace(PRICE, left_out=3),)), FRAME)

    assert "3 patients whose own budget is used up" in page


def test_without_a_say_there_is_no_decision() -> None:
    page = html("review-bare")

    assert "No decision is asked of you" in page
    assert "/approve" not in page


def test_the_budget_says_that_epsilons_compose() -> None:
    page = html("dataset")

    assert "Epsilons compose, they do not add" in page
    assert "at most 88 times in 100" in page


def test_a_tighter_figure_is_shown_beside_the_one_that_counts() -> None:
    page = to_html(replace(DATASET, budget=replace(BUDGET, exact=1.5)), FRAME)

    assert "the ledger goes by the larger figure" in page


def test_who_has_no_grant_sees_no_budget() -> None:
    page = html("dataset-other")

    assert "Used, composed" not in page
    assert "low, medium or high" in page


# -- Live -----------------------------------------------------------------------------


def test_references_are_called_so_in_chart_caption_and_table() -> None:
    page = html("live")

    assert "central, reference" in page
    assert "references, not part of this run" in page
    assert page.count("reference on public data") >= 2 * len(LIVE.references)


def test_the_curve_has_the_same_numbers_as_its_table() -> None:
    part = live_part(LIVE)

    assert part.count('<circle class="main"') == 2 * len(LIVE.spots)  # wide and slim
    assert all(f"<td>{f'{one.quality:.3f}'[1:]}</td>" in part for one in LIVE.spots)


def test_a_stream_is_followed_only_while_the_run_moves() -> None:
    ended = replace(LIVE, moving=False, stream="")

    assert "live.js" in to_html(LIVE, FRAME)
    assert "live.js" not in to_html(ended, FRAME)


def test_before_the_first_look_the_chart_says_so() -> None:
    assert "no look has been taken yet" in html("live-begin")


def test_an_inbox_counts_what_needs_somebody() -> None:
    page = to_html(INBOX, FRAME)

    assert isinstance(INBOX, InboxView)
    assert '<span class="badge">2</span>' in page
