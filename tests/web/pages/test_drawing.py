# SPDX-License-Identifier: Apache-2.0
"""Tests of the charts: within their frame, round marks, patterns and classes but no style."""

import re
from dataclasses import replace
from datetime import date
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.web.pages.examples import BUDGET, LIVE, PRICE

from consilium.web.pages import drawing
from consilium.web.pages.drawing import Part, draw_bar, draw_live, draw_months, round_marks
from consilium.web.pages.research_views import Spot
from consilium.web.pages.views import Month


def rects(svg: str) -> list[float]:
    root = ET.fromstring(svg)  # noqa: S314 - drawn by us
    return [float((one.get("width") or "0").rstrip("%")) for one in root.iter("rect")]


def points(svg: str, name: str) -> list[tuple[float, float]]:
    (found,) = re.findall(rf'<polyline class="{name}" points="([^"]*)"', svg)
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.split())]


def test_parts_of_a_bar_follow_each_other() -> None:
    svg = draw_bar([Part("used", 0.25), Part("asked", 0.5)], "budget")

    assert rects(svg) == [100.0, 25.0, 50.0]
    assert 'x="25.00%"' in svg


@given(st.lists(st.floats(-1, 3), max_size=5))
def test_a_bar_never_leaves_its_place(shares: list[float]) -> None:
    svg = draw_bar([Part("used", share) for share in shares], "budget")

    assert sum(rects(svg)[1:]) <= 100.05


def test_words_in_a_chart_are_escaped() -> None:
    svg = draw_bar([], '"><script>')

    assert "<script>" not in svg


def test_a_price_that_does_not_fit_fills_the_bar() -> None:
    svg = drawing.price_bar(replace(PRICE, after=12.0))

    assert sum(rects(svg)[1:]) == pytest.approx(100, abs=0.05)


@given(st.floats(-100, 100), st.floats(0.001, 100))
def test_marks_are_few_and_within(low: float, span: float) -> None:
    marks = round_marks(low, low + span)

    assert len(marks) <= 6
    assert all(low - 1e-6 * span <= mark <= low + span * (1 + 1e-6) for mark in marks)


def test_a_range_without_width_has_one_mark() -> None:
    assert round_marks(1.0, 1.0) == (1.0,)


def test_months_rise_to_the_right_and_end_below_the_cap() -> None:
    svg = draw_months(BUDGET)

    spent, cap = points(svg, "spent"), points(svg, "cap")
    assert spent == sorted(spent)
    assert all(y > cap[0][1] for _, y in spent)


def test_a_single_month_has_no_forecast() -> None:
    svg = draw_months(replace(BUDGET, by_month=(Month(date(2026, 6, 1), 1.0),)))

    assert 'class="ahead"' not in svg


def test_the_forecast_never_leaves_the_paper() -> None:
    ((_, _), (x, y)) = points(draw_months(BUDGET), "ahead")

    assert x <= 440
    assert y >= 0


@pytest.mark.parametrize("wide", [True, False])
def test_labels_of_references_never_cover_each_other(wide: bool) -> None:
    svg = draw_live(LIVE, wide=wide)

    heights = sorted(
        float(y) for y in re.findall(r'<text x="[^"]*" y="([^"]*)" class="(?:reference|main)"', svg)
    )
    assert all(after - before > 14 for before, after in pairwise(heights))


def test_one_look_is_a_dot() -> None:
    svg = draw_live(replace(LIVE, spots=(Spot(1, 0.1, 0.6),), references=()), wide=True)

    assert svg.count("<circle") == 1


def test_charts_carry_no_style_of_their_own() -> None:
    drawn = draw_live(LIVE, wide=True) + draw_months(BUDGET)

    assert "style=" not in drawn
    assert "fill=" not in drawn
