# SPDX-License-Identifier: Apache-2.0
"""Where labels stand so that none covers another."""

import itertools
from collections.abc import Sequence


def spread_apart(places: Sequence[float], gap: float) -> tuple[float, ...]:
    """Returns places in 0..1 at least `gap` apart, in the same order, near the given ones.

    Where they cannot all fit, they reach beyond 0 and stay `gap` apart.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, here in itertools.pairwise(order):
        moved[here] = max(moved[here], moved[before] + gap)
    ceiling = 1.0
    for here in reversed(order):
        moved[here] = min(moved[here], ceiling)
        ceiling = moved[here] - gap
    return tuple(moved)
