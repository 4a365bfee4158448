# SPDX-License-Identifier: Apache-2.0
"""Charts of the pages, as SVG that a strict content security policy lets through.

No `style` attribute, no script, no matplotlib: colours are classes of the style sheet, so that a
chart follows light, dark and paper. Each chart has a table with the same numbers on its page.

Guarantees: the same values give the same text; every word passes through escaping.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final, final

from markupsafe import Markup

from consilium.web.labels import spread_apart
from consilium.web.pages.research_views import LiveView
from consilium.web.pages.views import Budget, Price
from consilium.web.pages.words import forecast

_LINE: Final = 15.0  # height of a line of labels

# -- Bars -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a bar, told apart by its pattern as well as by its colour."""

    name: str  # a class: "used", "reserved", "asked"
    share: float


def draw_bar(parts: Sequence[Part], alternative: str) -> Markup:
    """Returns a bar that is as wide as its place; parts follow each other from the left."""
    stretches, start = [], 0.0
    for part in parts:
        share = min(max(part.share, 0.0), 1.0 - start)
        stretches.append(_stretch(part.name, start, share))
        start += share
    return Markup(
        '<svg class="bar" role="img" aria-label="{}" width="100%" height="14">'
        '<rect class="whole" width="100%" height="100%" rx="2"/>{}</svg>'
    ).format(alternative, Markup("").join(stretches))


def _stretch(name: str, start: float, share: float) -> Markup:
    return Markup('<rect class="{}" x="{}%" width="{}%" height="100%"/>').format(
        name, f"{100 * start:.2f}", f"{100 * share:.2f}"
    )


def price_bar(price: Price) -> Markup:
    """Returns the budget of a dataset with what a project would take of it."""
    asked = max(0.0, price.after - price.before)
    parts = (Part("used", price.before / price.cap), Part("asked", asked / price.cap))
    return draw_bar(parts, f"Budget of {price.dataset}; the numbers stand beside it")


def budget_bar(budget: Budget) -> Markup:
    """Returns what is used and reserved of a cap."""
    parts = (Part("used", budget.used / budget.cap), Part("reserved", budget.reserved / budget.cap))
    return draw_bar(parts, "Used, reserved and free budget; the numbers stand beside it")


# -- Axes -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Paper:
    """A drawing and its margins."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float


_MONTHS: Final = _Paper(width=440, height=230, left=34, right=22, top=22, bottom=34)
_WIDE: Final = _Paper(width=860, height=380, left=42, right=190, top=18, bottom=46)
_SLIM: Final = _Paper(width=360, height=300, left=42, right=14, top=18, bottom=46)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    """Where numbers are on paper."""

    paper: _Paper
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def end(self) -> float:
        """Where the axis ends."""
        return self.paper.width - self.paper.right

    @property
    def base(self) -> float:
        """Where the axis of x lies."""
        return self.paper.height - self.paper.bottom

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Returns a point of the paper."""
        (x_low, x_high), (y_low, y_high) = self.x, self.y
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return (
            self.paper.left + across * (self.end - self.paper.left),
            self.base - up * (self.base - self.paper.top),
        )


def round_marks(low: float, high: float, most: int = 5) -> tuple[float, ...]:
    """Returns at most `most` + 1 round numbers within `low`..`high`.

    >>> round_marks(0, 8), round_marks(0, 30), round_marks(0.5, 1.0)
    ((0.0, 2.0, 4.0, 6.0, 8.0), (0.0, 10.0, 20.0, 30.0), (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    """
    span = high - low
    if not span > 0:
        return (low,)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(k * power for k in (1, 2, 5, 10) if span / (k * power) <= most + 1e-9)
    first = math.ceil(low / step - 1e-9)
    marks = range(first, math.floor(high / step + 1e-9) + 1)
    return tuple(float(f"{k * step:.10g}") for k in marks)


def _text(x: float, y: float, words: str, *, name: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" class="{}" text-anchor="{}">{}</text>').format(
        f"{x:.1f}", f"{y:.1f}", name, anchor, words
    )


def _line(points: Sequence[tuple[float, float]], name: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(name, path)


def _dots(points: Sequence[tuple[float, float]], name: str) -> list[Markup]:
    circle = Markup('<circle class="{}" cx="{}" cy="{}" r="3"/>')
    return [circle.format(name, f"{x:.1f}", f"{y:.1f}") for x, y in points]


def _grid(panel: _Panel, *, places: int) -> list[Markup]:
    drawn = []
    for mark in round_marks(*panel.y):
        (x, y), (end, _) = panel.at(panel.x[0], mark), panel.at(panel.x[1], mark)
        drawn.append(_line([(x, y), (end, y)], "grid"))
        drawn.append(_text(x - 7, y + 4, f"{mark:.{places}f}", name="tick", anchor="end"))
    return drawn


def _svg(panel: _Panel, name: str, alternative: str, drawn: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>'
    ).format(name, panel.paper.width, panel.paper.height, alternative, Markup("").join(drawn))


# -- By month -------------------------------------------------------------------------


def draw_months(budget: Budget) -> Markup:
    """Returns composed epsilon by month, the cap, and where the present rate leads."""
    months = budget.by_month
    ends = tuple((one.first, one.epsilon) for one in months)
    end = forecast(ends, budget.cap)
    first = _number(months[0].first)
    last = _number(months[-1].first)
    shown_end = min(_number(end) if end else last, last + max(12, 2 * (last - first + 1)))
    panel = _Panel(
        paper=_MONTHS,
        x=(first - 0.5, max(shown_end, first + 5) + 0.5),
        y=(0.0, budget.cap * 1.04),
    )
    spent = [panel.at(_number(one.first), one.epsilon) for one in months]
    drawn = _grid(panel, places=0 if budget.cap >= 4 else 1)
    drawn.append(_line([panel.at(panel.x[0], budget.cap), panel.at(panel.x[1], budget.cap)], "cap"))
    drawn.append(_text(panel.paper.left + 4, panel.at(0, budget.cap)[1] - 5, f"cap {budget.cap:g}"))
    if end is not None:
        drawn.append(_line([spent[-1], _towards(panel, budget, shown_end)], "ahead"))
    drawn += [_line(spent, "spent"), *_dots(spent, "spent")]
    drawn += _month_marks(panel)
    return _svg(panel, "months", "Composed epsilon by month; the table holds the numbers", drawn)


def _towards(panel: _Panel, budget: Budget, shown_end: int) -> tuple[float, float]:
    """Returns the end of the dashed line: at the cap, or where the paper ends."""
    (first, start), (last, spent) = (
        (_number(one.first), one.epsilon) for one in (budget.by_month[0], budget.by_month[-1])
    )
    rate = (spent - start) / (last - first)
    months_to_cap = (budget.cap - spent) / rate
    ahead = min(months_to_cap, shown_end + 0.5 - last)
    return panel.at(last + ahead, spent + rate * ahead)


def _month_marks(panel: _Panel) -> list[Markup]:
    low, high = math.ceil(panel.x[0]), math.floor(panel.x[1])
    every = next(step for step in (1, 2, 3, 6, 12, 24, 60, 120) if (high - low) / step <= 6)
    base = panel.base + 18
    return [
        _text(panel.at(number, 0)[0], base, _month_name(number), name="tick", anchor="middle")
        for number in range(low, high + 1)
        if (number - low) % every == 0
    ]


def _month_name(number: int) -> str:
    return f"{date(number // 12, number % 12 + 1, 1):%b %y}"


def _number(day: date) -> int:
    return day.year * 12 + day.month - 1


# -- Live curve -----------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class _Label:
    words: str
    name: str
    quality: float


def draw_live(view: LiveView, *, wide: bool) -> Markup:
    """Returns quality by epsilon spent; other arms are grey levels, labelled as references."""
    panel = _live_panel(view, wide=wide)
    drawn = _grid(panel, places=2 if panel.y[1] - panel.y[0] < 0.5 else 1)
    drawn += _epsilon_marks(panel)
    for one in view.references:
        ends = [panel.at(panel.x[0], one.quality), panel.at(panel.x[1], one.quality)]
        drawn.append(_line(ends, f"reference {one.arm}"))
    drawn += _labels(panel, view)
    spots = [panel.at(spot.epsilon, spot.quality) for spot in view.spots]
    if not spots:
        middle = panel.at(sum(panel.x) / 2, sum(panel.y) / 2)
        drawn.append(_text(*middle, "no look has been taken yet", name="tick", anchor="middle"))
    drawn += [_line(spots, "main"), *_dots(spots, "main")]
    words = f"{view.measure} by epsilon spent; the table below holds the numbers"
    return _svg(panel, "wide" if wide else "slim", words, drawn)


def _live_panel(view: LiveView, *, wide: bool) -> _Panel:
    levels = [spot.quality for spot in view.spots] + [one.quality for one in view.references]
    low, high = (min(levels), max(levels)) if levels else (0.5, 1.0)
    room = 0.12 * (high - low) or 0.05
    return _Panel(
        paper=_WIDE if wide else _SLIM,
        x=(0.0, max(view.granted, view.epsilon)),
        y=(max(0.0, low - room), min(1.0, high + room)),
    )


def _epsilon_marks(panel: _Panel) -> list[Markup]:
    base = panel.base + 18
    marks = [
        _text(panel.at(mark, 0)[0], base, f"{mark:g}", name="tick", anchor="middle")
        for mark in round_marks(*panel.x)
    ]
    middle = panel.at(sum(panel.x) / 2, 0)[0]
    return [*marks, _text(middle, base + 20, "epsilon spent", name="tick", anchor="middle")]


def _labels(panel: _Panel, view: LiveView) -> list[Markup]:
    """Names lines where they end: right of a wide chart, inside a slim one."""
    inside = panel.paper is _SLIM
    labels = [_Label(one.arm, "reference", one.quality) for one in view.references]
    if view.spots and not inside:
        labels.append(_Label("this run", "main", view.spots[-1].quality))
    tall, (low, high) = panel.base - panel.paper.top, panel.y
    places = spread_apart([(one.quality - low) / (high - low) for one in labels], _LINE / tall)
    x, anchor, down = (panel.end - 2, "end", -4) if inside else (panel.end + 10, "start", 4)
    suffix = {"reference": "" if inside else ", reference"}
    return [
        _text(
            x,
            panel.base - place * tall + down,
            f"{label.words}{suffix.get(label.name, '')}",
            name=label.name,
            anchor=anchor,
        )
        for label, place in zip(labels, places, strict=True)
    ]
