# SPDX-License-Identifier: Apache-2.0
"""Tests of the figures: the same bytes every time, labels kept apart, safe in a page."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from xml.etree import ElementTree as ET

import matplotlib as mpl
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.federation.results import RunResult
from consilium.web.canvas import ARM_COLOURS, for_page
from consilium.web.curves import (
    draw_arms,
    draw_curves,
    draw_rounds,
    draw_spending,
    measure_shown,
    measure_tested,
)
from consilium.web.labels import spread_apart

MakeResult = Callable[..., RunResult]
MakeResults = Callable[..., list[RunResult]]
Draw = Callable[[Sequence[RunResult]], bytes]

every_figure = pytest.mark.parametrize("draw", [draw_curves, draw_rounds, draw_spending, draw_arms])


def texts(svg: bytes) -> list[str]:
    root = ET.fromstring(svg)  # noqa: S314 - drawn by us
    return [node.text or "" for node in root.iter("{http://www.w3.org/2000/svg}text")]


@every_figure
def test_the_same_results_give_the_same_bytes(draw: Draw, make_results: MakeResults) -> None:
    results = make_results(seeds=2)

    assert draw(results) == draw(results)


@every_figure
def test_drawing_leaves_no_setting_behind(draw: Draw, make_results: MakeResults) -> None:
    before = dict(mpl.rcParams)

    draw(make_results())

    assert dict(mpl.rcParams) == before


@every_figure
def test_every_arm_is_labelled_in_text(draw: Draw, make_results: MakeResults) -> None:
    found = " ".join(texts(draw(make_results())))

    assert all(arm in found for arm in ARM_COLOURS)


@every_figure
def test_one_result_with_one_look_can_be_drawn(draw: Draw, make_result: MakeResult) -> None:
    one = make_result()

    svg = draw([msgspec.structs.replace(one, curve=one.curve[:1])])

    assert "federated-dp" in texts(svg)


def test_no_looks_at_all_say_so(make_result: MakeResult) -> None:
    svg = draw_rounds([msgspec.structs.replace(make_result(), curve=())])

    assert "no looks were taken" in texts(svg)


def test_arms_without_a_guarantee_are_levels_beside_epsilon(make_results: MakeResults) -> None:
    found = texts(draw_spending(make_results()))

    assert "central, no DP" in found
    assert "federated, no DP" in found
    assert "central" not in found


def test_without_any_guarantee_there_is_no_axis_of_epsilon(make_result: MakeResult) -> None:
    found = texts(draw_spending([make_result("central")]))

    assert "no arm with a guarantee" in found
    assert not any(re.search(r"\d", text) for text in found)


def test_no_axis_reaches_beyond_a_perfect_score(make_result: MakeResult) -> None:
    perfect = make_result(auc=1.0)

    found = texts(draw_rounds([msgspec.structs.replace(perfect, curve=perfect.curve[-1:])]))

    assert not any(text.startswith("1.0") and text.strip("10.") for text in found)


def test_several_seeds_have_a_band(make_results: MakeResults) -> None:
    assert b"fill-opacity: 0.14" in draw_rounds(make_results(seeds=2))
    assert b"fill-opacity: 0.14" not in draw_rounds(make_results(seeds=1))


def test_without_an_auc_the_accuracy_is_drawn(make_results: MakeResults) -> None:
    results = make_results(classes=("a", "b", "c"))

    assert measure_shown(results) == "accuracy"
    assert "Validation accuracy by round" in texts(draw_curves(results))
    assert "Test accuracy by arm" in texts(draw_arms(results))


def test_one_look_without_an_auc_makes_all_lines_accuracies(make_result: MakeResult) -> None:
    assert measure_shown([make_result(), make_result(seed=1, auc=None)]) == "accuracy"


def test_no_results_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        draw_curves([])


@given(st.lists(st.floats(min_value=0, max_value=1), max_size=8))
def test_labels_keep_their_order_and_their_distance(places: list[float]) -> None:
    moved = spread_apart(places, 0.1)

    in_order = sorted(range(len(places)), key=places.__getitem__)
    assert all(moved[b] - moved[a] >= 0.1 - 1e-9 for a, b in pairwise(in_order))
    assert all(place <= 1 for place in moved)


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert spread_apart([0.9, 0.1, 0.5], 0.1) == (0.9, 0.1, 0.5)


# -- In a page ------------------------------------------------------------------------


@every_figure
def test_a_figure_for_a_page_needs_nothing_from_outside(
    draw: Draw, make_results: MakeResults
) -> None:
    element = for_page(draw(make_results()), name="here", alternative="A figure")

    assert element.startswith('<svg class="plot"')
    assert "http" not in element
    assert "<style" not in element
    assert not re.findall(r"#[0-9a-f]{6}\b", element)


def test_every_reference_in_a_page_finds_its_target(make_results: MakeResults) -> None:
    element = for_page(draw_curves(make_results(seeds=2)), name="here", alternative="A figure")

    names = re.findall(r'\bid="([^"]+)"', element)
    wanted = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', element)
    assert len(names) == len(set(names))
    assert {first or second for first, second in wanted} <= set(names)
    assert all(name.startswith("here-") for name in names)


def test_label_maps_are_drawn_by_their_dice(make_maps_results: MakeResults) -> None:
    results = make_maps_results()

    assert measure_shown(results) == measure_tested(results) == "Dice"
    assert "Validation Dice by round" in texts(draw_rounds(results))
    assert "Test Dice by arm" in texts(draw_arms(results))
