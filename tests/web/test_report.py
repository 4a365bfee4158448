# SPDX-License-Identifier: Apache-2.0
"""Tests of the page: self-contained, escaped, honest about arms without a guarantee."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import msgspec
import pytest

from consilium.federation.results import RunResult
from consilium.learning.calibration import Abstention, Bin
from consilium.learning.pictures import Picture
from consilium.learning.readers import ReaderComparison, Value
from consilium.web.report import render_report

MakeResult = Callable[..., RunResult]
MakeResults = Callable[..., list[RunResult]]

VOID = {"meta", "br", "hr", "img", "input", "link", "path", "use", "rect"}


class Outline(HTMLParser):
    """Collects headings, ids and what was left open or closed twice."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.headings: list[int] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def report(results: list[RunResult]) -> str:
    return render_report(results, title="demo", next_command="consilium train demo.toml")


def row(page: str, arm: str) -> str:
    """The table row of an arm, as text."""
    (found,) = re.findall(rf'<th role="rowheader" scope="row">{arm}<.*?</tr>', page, re.DOTALL)[:1]
    return re.sub(r"<[^>]*>", " ", found)


# -- Self-contained -------------------------------------------------------------------


def test_the_page_asks_nothing_of_the_network(make_results: MakeResults) -> None:
    page = report(make_results(seeds=2))

    assert "http:" not in page
    assert "https:" not in page
    assert not re.search(r"\bsrc=|@import|<link|<script|javascript:", page)
    assert "default-src 'none'" in page


def test_the_same_results_give_the_same_page(make_results: MakeResults) -> None:
    assert report(make_results()) == report(make_results())


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_page_is_well_formed(make_results: MakeResults, seeds: int) -> None:
    outline = Outline(report(make_results(seeds=seeds)))

    assert outline.open == []
    assert len(outline.ids) == len(set(outline.ids))


def test_headings_leave_out_no_level(make_results: MakeResults) -> None:
    levels = Outline(report(make_results())).headings

    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_sections_come_in_their_order(make_results: MakeResults) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", report(make_results()))

    assert headings == [
        "How training went",
        "The arms compared",
        "What left each hospital",
        "What it cost",
        "How it was made",
        "What to try next",
    ]


def test_every_table_has_a_caption_and_every_header_a_scope(make_results: MakeResults) -> None:
    page = report(make_results())

    assert page.count("<table") == page.count("<caption") == 6
    assert all("scope=" in header for header in re.findall(r"<th\b[^>]*>", page))


def test_grades_show_their_quadratic_kappa(make_result: MakeResult) -> None:
    plain = make_result(classes=("none", "mild", "severe"), auc=None)
    test = replace(plain.test, quadratic_kappa=0.4995, quadratic_kappa_interval=(0.4111, 0.5804))
    graded = msgspec.structs.replace(plain, test=test, ordered=True)

    page = report([graded])

    assert ".499 .411 to .580" in " ".join(row(page, "federated-dp").split())
    assert "Quadratic kappa" not in report([msgspec.structs.replace(graded, ordered=False)])


def test_a_reader_stands_beside_the_model(make_result: MakeResult) -> None:
    value = Value(value=0.872, interval=(0.8, 0.91))
    compared = ReaderComparison(
        records=100,
        patients=60,
        **dict.fromkeys(
            ("accuracy", "mcc", "kappa", "kappa_with_model", "model_accuracy", "accuracy_gain"),
            value,
        ),
        sensitivity=value,
        specificity=Value(value=0.7, interval=None),
        curve=((0.0, 0.0), (0.2, 0.9), (1.0, 1.0)),
    )
    page = report([msgspec.structs.replace(make_result(), reader=compared)])

    assert "beside a reader" in page
    assert "<td>.872</td><td>.800 to .910</td>" in page
    assert 'alt="ROC' in page or "ROC curve of the model" in page
    assert Outline(page).open == []


# -- Escaping -------------------------------------------------------------------------


def test_a_hostile_class_name_is_text(make_result: MakeResult) -> None:
    page = report([make_result(classes=("<script>alert(1)</script>", '"><img src=x>'))])

    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("field", ["data", "model", "reason", "duplicates", "terms", "sentence"])
def test_hostile_text_of_a_result_is_text(make_result: MakeResult, field: str) -> None:
    page = report([msgspec.structs.replace(make_result(), **{field: "<script>"})])

    assert "<script" not in page


def test_title_and_command_are_text(make_result: MakeResult) -> None:
    page = render_report([make_result()], title="<script>", next_command="a && b > <script>")

    assert "<script" not in page
    assert "a &amp;&amp; b &gt; &lt;script&gt;" in page


# -- Guarantees -----------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["central", "federated"])
def test_an_arm_without_a_guarantee_says_so(make_results: MakeResults, arm: str) -> None:
    assert "no guarantee" in row(report(make_results()), arm)


def test_no_epsilon_is_ever_printed_for_an_arm_without_one(make_result: MakeResult) -> None:
    page = report([make_result("central")])

    assert "No guarantee." in page
    assert not re.search(r"epsilon\s*\d", re.sub(r"<[^>]*>", " ", page), re.IGNORECASE)


def test_epsilon_is_rounded_up_wherever_it_stands(make_result: MakeResult) -> None:
    page = report([make_result(epsilon=2.5901)])

    assert "2.60" in row(page, "federated-dp")
    assert "2.59" not in page


def test_the_statement_is_printed_in_full(make_result: MakeResult) -> None:
    result = make_result()
    page = report([result])

    said = (*result.statement.fails_if, *result.statement.not_covered, *result.statement.public)
    assert all(text in page for text in said)
    assert "10 of 12 allowed" in page
    assert "ADD_OR_REMOVE_ONE" in page
    assert "0.00001" in page


def test_other_private_arms_fold_their_statements_away(make_results: MakeResults) -> None:
    folded = re.findall(r"<summary>([\w-]+)", report(make_results()))

    assert folded == ["central-dp", "federated-local-dp"]


def test_the_main_arm_stands_out(make_results: MakeResults) -> None:
    page = report(make_results())

    assert page.count('class="main"') == 1
    assert "main arm" in row(page, "federated-dp")


# -- Results --------------------------------------------------------------------------


def test_several_seeds_show_mean_and_deviation(make_result: MakeResult) -> None:
    page = report([make_result(auc=0.90), make_result(seed=1, auc=0.94)])

    assert ".920 \N{PLUS-MINUS SIGN} .028" in row(page, "federated-dp")
    assert "2 seeds" in row(page, "federated-dp")


def test_more_than_two_classes_show_macro_recall(make_results: MakeResults) -> None:
    page = report(make_results(classes=("a", "b", "c")))

    assert "Macro recall" in page
    assert "Sensitivity" not in page
    assert "undefined" in row(page, "federated-dp")


def test_bytes_stand_beside_their_prediction(make_result: MakeResult) -> None:
    page = report([make_result()])

    assert ">equal<" in page
    assert "+12 bytes" in page
    assert "not predicted: a site dropped" in page


def test_records_as_unit_are_not_called_patients(make_result: MakeResult) -> None:
    page = report([make_result(unit="record")])

    assert "Privacy units" in page
    assert "<dt>Patients</dt>" not in page


def test_no_results_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        report([])


# -- Label maps -----------------------------------------------------------------------


def test_label_maps_are_reported_by_overlap(make_maps_results: MakeResults) -> None:
    page = report(make_maps_results(seeds=2))

    assert "reaches mean foreground Dice .805 ± .007 over two seeds" in page
    assert "Test Dice" in page
    assert "Hausdorff-95" in page
    assert "1.50 to 2.25" in page
    assert ">AUC<" not in page
    assert "Images and label maps." in page


def test_pictures_are_shown_with_what_they_are(make_maps_results: MakeResults) -> None:
    page = render_report(
        make_maps_results(), title="t", next_command="n", pictures=[picture(), picture()]
    )

    assert "img-src data:" in page
    assert page.count("data:image/png;base64,") == 6
    assert "These are images of patients" in page


def test_a_page_without_pictures_allows_none(make_maps_results: MakeResults) -> None:
    page = report(make_maps_results())

    assert "img-src" not in page
    assert "data:image" not in page


def picture() -> Picture:
    return Picture(
        height=2,
        width=3,
        image=bytes(range(6)),
        truth=bytes([0, 1, 2, 0, 0, 0]),
        predicted=bytes(6),
        classes=("background", "head", "tail"),
        dice=0.5,
    )


def test_confidence_and_silence_are_shown(make_result: MakeResult) -> None:
    bins = (Bin(low=0.8, high=0.87, records=9, confidence=0.85, accuracy=0.7),)
    silent = (Abstention(threshold=0.9, answered=0.825, accuracy=None),)
    one = make_result()
    judged = replace(one.test, calibration=bins, abstention=silent)

    page = report([msgspec.structs.replace(one, test=judged)])

    assert "Right answers by confidence" in page
    assert "<td>.825</td><td>undefined</td>" in page
    assert "answered only where it is sure" not in report([one])
