# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram: a model's stated confidence against its share of right answers.

Guarantees: the same bins give the same bytes. A dot on the diagonal is a confidence that can
be believed; its area says how many records it stands for.
"""

from collections.abc import Sequence
from typing import Final

from matplotlib import style
from matplotlib.figure import Figure

from consilium.learning.calibration import Bin
from consilium.web.canvas import ARM_COLOURS, MUTED, STYLE, save_svg

_SIDE: Final = 210.0  # points
_LARGEST: Final = 160.0  # area of the dot of all records, square points
_LEAST: Final = 8.0


def draw_reliability(bins: Sequence[Bin], *, arm: str) -> bytes:
    """Returns an SVG of at least one bin, in the colour of `arm`."""
    with style.context(["default", dict(STYLE)]):
        figure = Figure(figsize=(_SIDE / 72, _SIDE / 72))
        axes = figure.add_axes((0.16, 0.17, 0.78, 0.7))
        axes.set_title("Right answers by confidence")
        axes.set_xlabel("confidence")
        low = min(0.5, *(one.low for one in bins))
        axes.set_xlim(low, 1)
        axes.set_ylim(0, 1)
        axes.plot((low, 1), (low, 1), color=MUTED, linewidth=0.8, dashes=(1.5, 2))
        total = sum(one.records for one in bins)
        areas = [max(_LEAST, _LARGEST * one.records / total) for one in bins]
        axes.plot(
            [one.confidence for one in bins],
            [one.accuracy for one in bins],
            color=ARM_COLOURS[arm],
            linewidth=1.0,
        )
        dots = axes.scatter(
            [one.confidence for one in bins],
            [one.accuracy for one in bins],
            s=areas,
            color=ARM_COLOURS[arm],
            zorder=3,
        )
        dots.set_clip_on(False)
        return save_svg(figure)
