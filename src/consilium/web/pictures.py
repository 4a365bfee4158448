# SPDX-License-Identifier: Apache-2.0
"""Test slices as one figure: image, truth and prediction below each other, a column a patient.

Guarantees: the same pictures give the same bytes. Classes are told apart by colours that
colour-blind readers can tell apart, and named in the figure.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from consilium.learning.pictures import Picture
from consilium.web import formats
from consilium.web.canvas import MUTED, STYLE, save_svg

CLASS_COLOURS: Final = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00")
_COVER: Final = 0.6  # how much of a pixel is its class's colour
_PANEL: Final = 96.0  # width, points
_GAP, _LEFT, _TOP, _BOTTOM = 6.0, 62.0, 18.0, 24.0  # points
_ROWS: Final = ("image", "truth", "prediction")


def draw_pictures(pictures: Sequence[Picture]) -> bytes:
    """Returns an SVG of at least one picture, all of one size."""
    first = pictures[0]
    height = _PANEL * first.height / first.width
    size = (
        _LEFT + len(pictures) * (_PANEL + _GAP),
        _TOP + _BOTTOM + len(_ROWS) * (height + _GAP),
    )
    with style.context(["default", dict(STYLE)]):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72))
        for column, picture in enumerate(pictures):
            for row, name in enumerate(_ROWS):
                left = _LEFT + column * (_PANEL + _GAP)
                low = size[1] - _TOP - (row + 1) * height - row * _GAP
                box = (left / size[0], low / size[1], _PANEL / size[0], height / size[1])
                axes = figure.add_axes(box)
                _draw(axes, picture, name, first=column == 0)
        _name_classes(figure, first.classes)
        return save_svg(figure)


def _draw(axes: Axes, picture: Picture, name: str, *, first: bool) -> None:
    shape = (picture.height, picture.width)
    grey = np.frombuffer(picture.image, np.uint8).reshape(shape) / 255
    shown = np.repeat(grey[..., None], 3, axis=2)
    if name != "image":
        maps = picture.truth if name == "truth" else picture.predicted
        shown = _covered(shown, np.frombuffer(maps, np.uint8).reshape(shape))
    axes.imshow(np.rint(shown * 255).astype(np.uint8), interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if name == "image":
        label = axes.text(0, 1.04, f"Dice {formats.share(picture.dice)}", transform=axes.transAxes)
        label.set(va="bottom", ha="left")
    if first:
        label = axes.text(-0.06, 0.5, name, transform=axes.transAxes)
        label.set(va="center", ha="right", color=MUTED)


def _covered(shown: NDArray[np.float64], maps: NDArray[np.uint8]) -> NDArray[np.float64]:
    covered = shown.copy()
    for label in range(1, int(maps.max()) + 1):
        colour = np.array(to_rgb(_colour(label)))
        covered[maps == label] = (1 - _COVER) * covered[maps == label] + _COVER * colour
    return covered


def _colour(label: int) -> str:
    return CLASS_COLOURS[(label - 1) % len(CLASS_COLOURS)]


def _name_classes(figure: Figure, classes: Sequence[str]) -> None:
    handles = [Patch(color=_colour(k), label=name) for k, name in enumerate(classes) if k]
    figure.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(_LEFT / (72 * figure.get_figwidth()), 0.0),
        ncols=len(handles),
        frameon=False,
        borderpad=0,
        borderaxespad=0,
        handlelength=1,
        handleheight=1,
    )
