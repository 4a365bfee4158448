# SPDX-License-Identifier: Apache-2.0
"""How templates become text, the same for the report and for pages.

Guarantees: every value passes through escaping; a name that a template misspells is an error.
"""

from typing import Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from consilium.web import formats, wording

_FORMATS: Final = (
    *("share", "pixels", "spread", "interval", "epsilon", "delta", "count", "byte_count"),
    *("duration", "rounds", "right_guesses", "slack", "plural", "words"),
)


def make_environment() -> Environment:
    """Returns the templates of this package, with a filter for each kind of number."""
    pages = Environment(
        loader=ChoiceLoader(
            [PackageLoader("consilium.web"), PackageLoader("consilium.web", "static")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update({name: getattr(formats, name) for name in _FORMATS})
    pages.filters["neighbours"] = wording.neighbours
    pages.filters["viewer"] = wording.viewer
    return pages
