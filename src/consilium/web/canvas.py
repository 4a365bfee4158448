# SPDX-License-Identifier: Apache-2.0
"""What all figures of a report share: colours, style, and how they become SVG for a page.

Guarantees: the same figure gives the same bytes; text stays text. The colours keep apart for
colour-blind readers and have a contrast of 4.5 on white; `for_page` turns them into the page's
own, which follow its light or dark theme.
"""

import io
import re
from collections.abc import Mapping
from typing import Final

from matplotlib.figure import Figure

INK: Final = "#0b0c0c"
MUTED: Final = "#505a5f"
RULE: Final = "#dfe3e6"
PAPER: Final = "#ffffff"
ARM_COLOURS: Final[Mapping[str, str]] = {
    "central": "#4a4f55",
    "central-dp": "#a34f00",
    "federated": "#00705a",
    "federated-local-dp": "#b0307a",
    "federated-dp": "#005ea5",
}
_SYSTEM_FONTS: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
STYLE: Final[Mapping[str, object]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "consilium",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same measures everywhere
    "font.size": 8.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 11,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "axes.unicode_minus": True,
}
_NO_METADATA: Final = {"Date": None, "Creator": None, "Format": None, "Type": None}


def save_svg(figure: Figure) -> bytes:
    """Returns the figure; must be called in the style it was made in."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", metadata=_NO_METADATA)
    return out.getvalue().replace(b"'DejaVu Sans'", _SYSTEM_FONTS.encode())


def for_page(svg: bytes, *, name: str, alternative: str) -> str:
    """Returns one of our figures as an element of an HTML page.

    Without prolog, own style, fixed size or addresses; its ids start with `name`, so that two
    figures can share a page; colours are the page's variables (--ink, --arm-central, ...).

    Args:
        svg: What a function of this module returned.
        name: A word for this figure on its page.
        alternative: What it shows, in words that need no escaping in HTML.
    """
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<style.*?</style>", "", text, flags=re.DOTALL)
    (box,) = re.findall(r'viewBox="([^"]*)"', text)
    opening = f'<svg class="plot" viewBox="{box}" role="img" aria-label="{alternative}">'
    text = opening + text[text.index(">") + 1 :]
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = text.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    for colour, variable in _PAGE_COLOURS.items():
        text = text.replace(colour, f"var(--{variable})")
    return text


_PAGE_COLOURS: Final[Mapping[str, str]] = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    **{colour: f"arm-{arm}" for arm, colour in ARM_COLOURS.items()},
}
