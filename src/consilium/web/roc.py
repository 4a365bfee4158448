# SPDX-License-Identifier: Apache-2.0
"""A model's ROC curve with a human reader as a point, and the reader's intervals as bars.

Guarantees: the same comparison gives the same bytes. A point below the curve is a reader whom the
model beats at the reader's own share of false alarms, as far as the bars let one say so.
"""

from typing import Final

from matplotlib import style
from matplotlib.figure import Figure

from consilium.learning.readers import ReaderComparison, Value
from consilium.web.canvas import ARM_COLOURS, MUTED, STYLE, save_svg

_SIDE: Final = 210.0  # points


def draw_roc(compared: ReaderComparison, *, arm: str) -> bytes | None:
    """Returns an SVG in the colour of `arm`; None where there is no curve or no point."""
    sensitivity, specificity = compared.sensitivity, compared.specificity
    if not compared.curve or sensitivity is None or specificity is None:
        return None
    if sensitivity.value is None or specificity.value is None:
        return None
    with style.context(["default", dict(STYLE)]):
        figure = Figure(figsize=(_SIDE / 72, _SIDE / 72))
        axes = figure.add_axes((0.16, 0.17, 0.78, 0.7))
        axes.set_title("The ill that are found")
        axes.set_xlabel("false alarms, share of the well")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.plot((0, 1), (0, 1), color=MUTED, linewidth=0.8, dashes=(1.5, 2))
        axes.plot(*zip(*compared.curve, strict=True), color=ARM_COLOURS[arm], linewidth=1.2)
        alarms = 1 - specificity.value
        low, high = _span(specificity)
        axes.plot((1 - high, 1 - low), (sensitivity.value,) * 2, color="black", linewidth=0.8)
        axes.plot((alarms,) * 2, _span(sensitivity), color="black", linewidth=0.8)
        axes.scatter([alarms], [sensitivity.value], s=22, color="black", zorder=3)
        return save_svg(figure)


def _span(value: Value) -> tuple[float, float]:
    middle = value.value or 0.0
    return value.interval or (middle, middle)
