# SPDX-License-Identifier: Apache-2.0
"""The report of a training: one HTML file that opens offline, for people who decide.

Guarantees: the file needs no other file, no network and no script; its policy forbids them to
the browser, too. Every value passes through escaping. An arm without a guarantee shows words in
place of epsilon, never a number. The same results give the same text.

The report is for the parties of a project: test metrics and the counts of each site are printed
without noise, and say so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from markupsafe import Markup

from consilium.federation.arms import ARMS
from consilium.federation.results import RunResult
from consilium.federation.statement import Statement
from consilium.learning.pictures import Picture
from consilium.learning.readers import Value
from consilium.web import formats, wording
from consilium.web.canvas import for_page
from consilium.web.curves import (
    draw_arms,
    draw_rounds,
    draw_spending,
    measure_shown,
    measure_tested,
)
from consilium.web.environment import make_environment
from consilium.web.pictures import draw_pictures
from consilium.web.reliability import draw_reliability
from consilium.web.roc import draw_roc
from consilium.web.summary import (
    ArmSummary,
    by_arm,
    costliest,
    main_result,
    summary_rows,
    worst_view,
)

_TEMPLATE: Final = "report.html.j2"
_PAGES: Final = make_environment()


@final
@dataclass(frozen=True, slots=True)
class _Fact:
    """One line of a list of facts; a figure may have a note below it."""

    name: str
    value: str
    note: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """Bytes measured beside bytes predicted."""

    what: str
    measured: int
    predicted: int | None
    difference: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    """The statement of one arm."""

    arm: str
    main: bool
    statement: Statement
    epsilon: float | None  # of the worst view


@final
@dataclass(frozen=True, slots=True)
class _Beside:
    """One measure of the reader, or of the model beside it."""

    name: str
    found: Value


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Everything that the template shows."""

    title: str
    main: RunResult
    runs: tuple[RunResult, ...]
    units: str
    federated: bool
    several_seeds: bool
    multiclass: bool
    next_command: str
    summary: str
    figures: tuple[_Fact, ...]
    plots: Mapping[str, Markup]
    measure: str
    test_measure: str
    rows: tuple[ArmSummary, ...]
    left: tuple[str, ...]
    never_left: tuple[str, ...]
    traffic: tuple[_Comparison, ...]
    costs: tuple[_Cost, ...]
    together: tuple[str, ...]
    facts: tuple[_Fact, ...]
    reliability: Markup | None
    pictures: Markup | None = None
    roc: Markup | None = None
    beside_reader: tuple[_Beside, ...] = ()


def render_report(
    results: Sequence[RunResult],
    *,
    title: str,
    next_command: str,
    pictures: Sequence[Picture] = (),
) -> str:
    """Returns the report as one self-contained HTML page.

    Args:
        results: Of one project, any arms and seeds.
        title: Its heading.
        next_command: What to try next, shown in a box.
        pictures: Test images of the main result, where the project shows them.

    Raises:
        ValueError: There are no results, or of an arm that does not exist.
    """
    page = replace(_page(results, title, next_command), pictures=_drawn(pictures))
    return _PAGES.get_template(_TEMPLATE).render(page=page)


def _page(results: Sequence[RunResult], title: str, next_command: str) -> _Page:
    rows, arms, main = summary_rows(results), by_arm(results), main_result(results)
    return _Page(
        title=title,
        main=main,
        runs=tuple(sorted(results, key=lambda run: tuple(ARMS).index(run.arm))),
        units="Patients" if main.statement.unit == "patient" else "Privacy units",
        federated=ARMS[main.arm].federated,
        several_seeds=any(len(row.seeds) > 1 for row in rows),
        multiclass=len(main.classes) != 2,
        next_command=next_command,
        summary=" ".join(wording.summary(results, main)),
        figures=_figures(results, main),
        plots=_plots(results),
        measure=measure_shown(results),
        test_measure=measure_tested(results),
        rows=rows,
        left=wording.what_left(main),
        never_left=wording.what_never_left(main),
        traffic=_traffic(main),
        costs=_costs(arms, main),
        together=wording.price_together(results),
        facts=_facts(results, main),
        reliability=_reliability(main),
        roc=_roc(main),
        beside_reader=_beside_reader(main),
    )


# -- Parts ----------------------------------------------------------------------------


def _figures(results: Sequence[RunResult], main: RunResult) -> tuple[_Fact, ...]:
    runs = by_arm(results)[main.arm]
    (row,) = summary_rows(runs)
    patients = main.statement.unit == "patient"
    held = sum(site.patients if patients else site.records for site in main.sites)
    sites = len(main.sites)
    return (
        _quality(row),
        _epsilon(costliest(runs)),
        _Fact(
            "Patients" if patients else "Records",
            formats.count(held),
            f"at {formats.plural(sites, 'site')}" if sites > 1 else "in one place",
        ),
        _Fact(
            f"Sent by {_sender(main)}",
            formats.byte_count(main.traffic.round_up),
            "in a typical round",
        ),
    )


def _quality(row: ArmSummary) -> _Fact:
    of_seed = f", seed {row.seeds[0]}" if len(row.seeds) > 1 else ""
    return _Fact(
        f"Test {row.headline_name}",
        formats.share(row.headline.mean),
        f"95 % CI {formats.interval(row.headline_interval)}{of_seed}",
    )


def _epsilon(statement: Statement) -> _Fact:
    worst = worst_view(statement)
    if worst is None:
        return _Fact("Epsilon", "none", "no guarantee")
    delta = formats.delta(statement.delta)
    return _Fact("Epsilon, worst view", formats.epsilon(worst.epsilon), f"at delta {delta}")


def _plots(results: Sequence[RunResult]) -> Mapping[str, Markup]:
    """Our own drawings, whose text matplotlib has escaped."""
    measure, test_measure = measure_shown(results), measure_tested(results)
    drawn = {
        "rounds": (draw_rounds, f"Validation {measure} of each arm by round"),
        "spending": (draw_spending, f"Validation {measure} of each arm by epsilon spent"),
        "arms": (draw_arms, f"Test {test_measure} of each arm with its 95 % interval"),
    }
    return {
        name: Markup(for_page(draw(results), name=name, alternative=alternative))  # noqa: S704
        for name, (draw, alternative) in drawn.items()
    }


def _reliability(main: RunResult) -> Markup | None:
    if not main.test.calibration:
        return None
    svg = draw_reliability(main.test.calibration, arm=main.arm)
    alternative = "Share of right answers of the test records by stated confidence"
    return Markup(for_page(svg, name="reliability", alternative=alternative))  # noqa: S704


def _roc(main: RunResult) -> Markup | None:
    svg = None if main.reader is None else draw_roc(main.reader, arm=main.arm)
    if svg is None:
        return None
    alternative = "ROC curve of the model on the test records, and the reader as a point"
    return Markup(for_page(svg, name="roc", alternative=alternative))  # noqa: S704


def _beside_reader(main: RunResult) -> tuple[_Beside, ...]:
    """Returns what is known of a reader and the model on the same records."""
    seen = main.reader
    if seen is None:
        return ()
    ill = main.classes[-1]
    lines = (
        ("Accuracy of the reader", seen.accuracy),
        ("Accuracy of the model", seen.model_accuracy),
        ("The model's less the reader's", seen.accuracy_gain),
        ("MCC of the reader", seen.mcc),
        ("Kappa of reader and truth", seen.kappa),
        ("Kappa of reader and model", seen.kappa_with_model),
        (f"Sensitivity of the reader for {ill}", seen.sensitivity),
        ("Specificity of the reader", seen.specificity),
        ("Sensitivity of the model at that specificity", seen.model_sensitivity),
        ("The model's sensitivity less the reader's", seen.sensitivity_gain),
    )
    return tuple(_Beside(name, found) for name, found in lines if found is not None)


def _drawn(pictures: Sequence[Picture]) -> Markup | None:
    if not pictures:
        return None
    alternative = f"{len(pictures)} test slices: image, true label map, predicted label map"
    return Markup(  # noqa: S704
        for_page(draw_pictures(pictures), name="pictures", alternative=alternative)
    )


def _traffic(main: RunResult) -> tuple[_Comparison, ...]:
    seen, sender = main.traffic, _sender(main)
    lines = (
        (f"Sent by {sender} in a typical round", seen.round_up, seen.predicted_up),
        (f"Received by {sender} in a typical round", seen.round_down, seen.predicted_down),
        ("All rounds, everyone, both ways", seen.total, seen.predicted_total),
    )
    return tuple(
        _Comparison(
            what=what,
            measured=measured,
            predicted=predicted,
            difference=formats.difference(measured, predicted),
        )
        for what, measured, predicted in lines
    )


def _sender(main: RunResult) -> str:
    return "a site" if ARMS[main.arm].federated else "the holder"


def _costs(arms: Mapping[str, Sequence[RunResult]], main: RunResult) -> tuple[_Cost, ...]:
    """Returns the main arm's statement, also where it promises nothing, then all private ones."""
    costs = [_cost(costliest(runs), arm, main=arm == main.arm) for arm, runs in arms.items()]
    shown = [cost for cost in costs if cost.main or cost.statement.private]
    return tuple(sorted(shown, key=lambda cost: not cost.main))


def _cost(statement: Statement, arm: str, *, main: bool) -> _Cost:
    worst = worst_view(statement)
    epsilon = None if worst is None else worst.epsilon
    return _Cost(arm=arm, main=main, statement=statement, epsilon=epsilon)


def _facts(results: Sequence[RunResult], main: RunResult) -> tuple[_Fact, ...]:
    seen = main.traffic
    return (
        _Fact("Model", f"{main.model}, {formats.count(main.parameters)} trained weights"),
        _Fact("Data", main.data),
        _Fact("Classes", ", ".join(main.classes)),
        _Fact("Same records in two splits", main.duplicates),
        _Fact("Looks at the test records", wording.looks_at_test(results)),
        _Fact("Secure sum", _secure_sum(main)),
        _Fact("Rounding of a sum", f"each coordinate is off by at most {seen.error_bound:.2g}"),
        _Fact("Why it stopped", main.reason),
        _Fact("Versions", ", ".join(f"{name} {seen}" for name, seen in main.versions.items())),
    )


def _secure_sum(main: RunResult) -> str:
    bits = f"integers of {main.traffic.ring_bits} bits"
    if main.secure_sum != "none":
        return f"{main.secure_sum}, {bits}"
    if not ARMS[main.arm].federated:
        return "none: one party holds all data"
    return f"none: the coordinator sees what each site sends, {bits}"
