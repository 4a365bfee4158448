# SPDX-License-Identifier: Apache-2.0
"""The figure of a search: how much of the difference between trials each setting explains."""

from collections.abc import Mapping
from typing import Final

from matplotlib import style
from matplotlib.figure import Figure

from consilium.web.canvas import ARM_COLOURS, STYLE, save_svg

_WIDTH: Final = 360.0  # points
_BAR: Final = 22.0  # points, a setting
_ROOM: Final = 58.0  # points, above and below
_NAMES: Final = 0.36  # of the width


def draw_importances(importances: Mapping[str, float], *, arm: str) -> bytes:
    """Returns an SVG of one bar for each of at least one setting, the longest on top."""
    rows = sorted(importances.items(), key=lambda row: row[1])
    height = _ROOM + _BAR * len(rows)
    with style.context(["default", dict(STYLE), {"axes.grid.axis": "x"}]):
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        axes = figure.add_axes((_NAMES, 30 / height, 0.94 - _NAMES, 1 - _ROOM / height))
        axes.set_title("What explains the score", x=-_NAMES / (0.94 - _NAMES) + 0.03)
        axes.set_xlabel("share of the variance of scores")
        axes.set_xlim(0, 1)
        bars = axes.barh(
            [name for name, _ in rows],
            [share for _, share in rows],
            height=0.55,
            color=ARM_COLOURS[arm],
        )
        axes.bar_label(bars, fmt="%.2f", padding=3)
        return save_svg(figure)
