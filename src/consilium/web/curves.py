# SPDX-License-Identifier: Apache-2.0
"""Figures of a report, as SVG: quality against rounds, against epsilon, and on the test records.

Guarantees: the same results give the same bytes; no drawing state is shared with a caller. Every
line is labelled where it ends, and told apart by its dashes as well as by its colour (`canvas`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from consilium.federation.arms import MAIN_ARM
from consilium.federation.results import Point, RunResult
from consilium.web import formats
from consilium.web.canvas import ARM_COLOURS, INK, MUTED, PAPER, STYLE, save_svg
from consilium.web.labels import spread_apart
from consilium.web.summary import Measure, by_arm, headline

_DASHES: Final[Mapping[str, tuple[float, ...]]] = {
    "central-dp": (5, 2),
    "federated": (1.2, 1.6),
    "federated-local-dp": (6, 1.6, 1.4, 1.6),
}
_WIDTH: Final = 300.0  # of a panel, points
_HEIGHT: Final = 222.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 33.0, 91.0, 30.0, 37.0  # margins of a panel, points
_LABEL_GAP: Final = 12.0  # between base lines of two labels, points
_BAR_HEIGHT: Final = 25.0
_RINGS_BELOW: Final = 0.3  # of the distance between two bars
_ALL_POINTS_SHOWN: Final = 25  # with more looks than this, markers would touch

# -- What is drawn --------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Quality of one arm on the validation records, over its seeds."""

    arm: str
    private: bool
    rounds: tuple[float, ...]
    epsilons: tuple[float, ...]  # empty without a guarantee
    mean: tuple[float, ...]
    sd: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """One line of one panel: where it runs, and how it is labelled."""

    arm: str
    label: str
    xs: tuple[float, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    reference: bool = False  # a level to compare with, drawn thin and grey


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    title: str
    x_label: str
    curves: tuple[_Curve, ...]
    empty: str  # what to say where there are none


def draw_curves(results: Sequence[RunResult]) -> bytes:
    """Returns an SVG: quality by round on the left, by epsilon spent on the right.

    Quality is the AUC on the validation records, the Dice of label maps, or the accuracy where
    that is undefined; the mean over seeds with a band of one standard deviation. Arms without a
    guarantee are levels on the right.

    Raises:
        ValueError: There are no results, or of an arm that does not exist.
    """
    return _draw((_by_round(results), _by_epsilon(results)))


def draw_rounds(results: Sequence[RunResult]) -> bytes:
    """Returns the left half of `draw_curves`."""
    return _draw((_by_round(results),))


def draw_spending(results: Sequence[RunResult]) -> bytes:
    """Returns the right half of `draw_curves`."""
    return _draw((_by_epsilon(results),))


def measure_shown(results: Sequence[RunResult]) -> str:
    """Returns "AUC" or "Dice", or "accuracy" where some look at the validation has neither."""
    points = [point for run in results for point in run.curve]
    if points and all(point.dice is not None for point in points):
        return "Dice"
    return "AUC" if all(point.auc is not None for point in points) else "accuracy"


def _by_round(results: Sequence[RunResult]) -> _Panel:
    curves = (
        _Curve(arm=line.arm, label=line.arm, xs=line.rounds, mean=line.mean, sd=line.sd)
        for line in _lines(results)
    )
    title = f"Validation {measure_shown(results)} by round"
    return _Panel(title=title, x_label="round", curves=tuple(curves), empty="no looks were taken")


def _by_epsilon(results: Sequence[RunResult]) -> _Panel:
    lines = _lines(results)
    largest = max((x for line in lines for x in line.epsilons), default=1.0)
    levels = (
        _Curve(
            arm=line.arm,
            label=f"{line.arm}, no DP",
            xs=(0.0, largest),
            mean=(line.mean[-1], line.mean[-1]),
            sd=(0.0, 0.0),
            reference=True,
        )
        for line in lines
        if not line.private
    )
    spent = (
        _Curve(arm=line.arm, label=line.arm, xs=line.epsilons, mean=line.mean, sd=line.sd)
        for line in lines
        if line.private
    )
    title = f"Validation {measure_shown(results)} by epsilon spent"
    return _Panel(
        title=title,
        x_label="epsilon spent, worst view",
        curves=(*levels, *spent) if any(line.private for line in lines) else (),
        empty="no arm with a guarantee",
    )


def _lines(results: Sequence[RunResult]) -> tuple[_Line, ...]:
    """Returns a line for each arm that looked at the validation records at all."""
    measure = measure_shown(results)
    lines = (_line(runs, measure) for runs in by_arm(results).values())
    return tuple(line for line in lines if line.rounds)


def _line(runs: Sequence[RunResult], measure: str) -> _Line:
    looks: dict[int, list[Point]] = {}
    for point in (point for run in runs for point in run.curve):
        looks.setdefault(point.round, []).append(point)
    rounds = sorted(looks)
    values = [[_value(point, measure) for point in looks[number]] for number in rounds]
    private = all(run.statement.private for run in runs)
    return _Line(
        arm=runs[0].arm,
        private=private,
        rounds=tuple(rounds),
        epsilons=tuple(_spent(looks[number]) for number in rounds) if private else (),
        mean=tuple(fmean(seen) for seen in values),
        sd=tuple(stdev(seen) if len(seen) > 1 else 0.0 for seen in values),
    )


def _value(point: Point, measure: str) -> float:
    value = {"AUC": point.auc, "Dice": point.dice}.get(measure)
    return point.accuracy if value is None else value


def _spent(points: Sequence[Point]) -> float:
    return max((point.epsilon for point in points if point.epsilon is not None), default=0.0)


# -- Panels ---------------------------------------------------------------------------


def _draw(panels: Sequence[_Panel]) -> bytes:
    with style.context(["default", dict(STYLE)]):
        width = _WIDTH * len(panels)
        figure = Figure(figsize=(width / 72, _HEIGHT / 72))
        for place, panel in enumerate(panels):
            box = (
                (place * _WIDTH + _LEFT) / width,
                _BOTTOM / _HEIGHT,
                (_WIDTH - _LEFT - _RIGHT) / width,
                (_HEIGHT - _TOP - _BOTTOM) / _HEIGHT,
            )
            _draw_panel(figure.add_axes(box), panel)
        return save_svg(figure)


def _draw_panel(axes: Axes, panel: _Panel) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.x_label)
    if not panel.curves:
        _say_empty(axes, panel.empty)
        return
    low, high = _limits(panel.curves)
    axes.set_ylim(low, high)
    axes.set_xlim(0, max(x for curve in panel.curves for x in curve.xs) or 1.0)
    _mark_shares(axes.yaxis, low, high)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=panel.x_label == "round"))
    for curve in panel.curves:
        _draw_curve(axes, curve)
    _label_ends(axes, panel.curves)


def _say_empty(axes: Axes, text: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, ha="center", color=MUTED, transform=axes.transAxes)


def _limits(curves: Sequence[_Curve]) -> tuple[float, float]:
    low = min(y - s for curve in curves for y, s in zip(curve.mean, curve.sd, strict=True))
    high = max(y + s for curve in curves for y, s in zip(curve.mean, curve.sd, strict=True))
    room = 0.08 * (high - low) or 0.05
    return max(0.0, low - room), min(high + room, 1.0)


def _mark_shares(axis: Axis, low: float, high: float) -> None:
    """Marks round shares, written with as many decimals as their distance needs."""
    locator = MaxNLocator(6, steps=[1, 2, 5, 10])
    first, second = locator.tick_values(low, high)[:2]
    places = max(2, math.ceil(-math.log10(second - first) - 1e-9))
    axis.set_major_locator(locator)
    axis.set_major_formatter(lambda value, _: f"{value:.{places}f}".removeprefix("0"))


def _draw_curve(axes: Axes, curve: _Curve) -> None:
    if curve.reference:
        axes.plot(curve.xs, curve.mean, color=MUTED, linewidth=0.8, dashes=(1.5, 2))
        return
    colour, main = ARM_COLOURS[curve.arm], curve.arm == MAIN_ARM
    if any(curve.sd):
        below = [y - s for y, s in zip(curve.mean, curve.sd, strict=True)]
        above = [y + s for y, s in zip(curve.mean, curve.sd, strict=True)]
        axes.fill_between(curve.xs, below, above, color=colour, alpha=0.14, linewidth=0)
    (line,) = axes.plot(
        curve.xs,
        curve.mean,
        color=colour,
        linewidth=2.2 if main else 1.3,
        zorder=4 if main else 3,
        marker="o" if len(curve.xs) <= _ALL_POINTS_SHOWN else "",
        markersize=3.4 if main else 2.4,
        clip_on=False,
    )
    line.set_dashes(_DASHES.get(curve.arm, ()))


# -- Labels ---------------------------------------------------------------------------


def _label_ends(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Writes each label to the right of its line's end, moved as far as others need."""
    low, high = axes.get_ylim()
    _, right = axes.get_xlim()
    ends = [(curve.mean[-1] - low) / (high - low) for curve in curves]
    places = spread_apart(ends, _LABEL_GAP / (_HEIGHT - _TOP - _BOTTOM))
    step = 1 / (_WIDTH - _LEFT - _RIGHT)  # one point, in widths of the axes
    for curve, end, place in zip(curves, ends, places, strict=True):
        colour = MUTED if curve.reference else ARM_COLOURS[curve.arm]
        corners = ([curve.xs[-1] / right, 1 + 2 * step, 1 + 8 * step], [end, end, place])
        leader = Line2D(*corners, color=colour, linewidth=0.6, transform=axes.transAxes)
        leader.set(alpha=0.55, clip_on=False)
        axes.add_line(leader)
        label = axes.text(1 + 10 * step, place, curve.label, transform=axes.transAxes)
        label.set(color=colour, va="center_baseline", parse_math=False)
        if curve.arm == MAIN_ARM:
            label.set_fontweight("bold")


# -- Test records ---------------------------------------------------------------------


def draw_arms(results: Sequence[RunResult]) -> bytes:
    """Returns an SVG of each arm on the test records: a bar is the 95 % interval of the first seed.

    A dot is the mean over seeds, a ring a single seed. The AUC, the Dice of label maps, or the
    accuracy where that is undefined.

    Raises:
        ValueError: There are no results, or of an arm that does not exist.
    """
    arms = by_arm(results)
    with style.context(["default", dict(STYLE), {"axes.grid.axis": "x"}]):
        height = _TOP + _BOTTOM + _BAR_HEIGHT * len(arms)
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        box = (95 / _WIDTH, _BOTTOM / height, 165 / _WIDTH, 1 - (_TOP + _BOTTOM) / height)
        axes = figure.add_axes(box)
        measure = headline(results)
        axes.set_title(f"Test {measure.name} by arm")
        axes.set_xlabel("bar: 95 % interval")
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_yticks([])
        for place, runs in enumerate(arms.values()):
            _draw_arm(axes, place, runs, measure)
        _mark_shares(axes.xaxis, *axes.get_xlim())
        return save_svg(figure)


def measure_tested(results: Sequence[RunResult]) -> str:
    """Returns "AUC" or "Dice", or "accuracy" where that of some run is undefined."""
    return headline(results).name


def _draw_arm(axes: Axes, place: int, runs: Sequence[RunResult], measure: Measure) -> None:
    arm, colour = runs[0].arm, ARM_COLOURS[runs[0].arm]
    values = [measure.of(run)[0] for run in runs]
    span = measure.of(runs[0])[1]
    if span is not None:
        axes.plot(span, (place, place), color=colour, linewidth=7, alpha=0.28)
    if len(values) > 1:
        below = [place + _RINGS_BELOW] * len(values)
        (rings,) = axes.plot(values, below, "o", color=colour, markersize=3.2)
        rings.set(markerfacecolor=PAPER, markeredgewidth=0.8)
    axes.plot([fmean(values)], [place], "o", color=colour, markersize=6)
    for x, text in ((-0.04, arm), (1.04, formats.share(fmean(values)))):
        label = axes.text(x, place, text, transform=axes.get_yaxis_transform())
        label.set(va="center_baseline", color=colour if x < 0 else INK, parse_math=False)
        label.set(ha="right" if x < 0 else "left")
        label.set_fontweight("bold" if arm == MAIN_ARM else "normal")
