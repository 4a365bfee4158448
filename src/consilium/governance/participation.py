# SPDX-License-Identifier: Apache-2.0
"""Who of a dataset's patients takes part in a release: not the opted out, not the exhausted.

Guarantees: the answer for a patient depends on two things only, whether she opted out and what
the releases that she took part in have cost. Neither depends on her values, nor on anybody
else's presence, so that patients who are left out change nothing about a neighbour's privacy:
this is what theorem 1 of `composition`, for each patient with a sum of her own, asks of the rule
that drops patients. It fails if somebody opts patients out because of their values.

Patients with equal histories are one cohort with one account. A release on a part of a cohort
splits it: who takes part goes to a new one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The patients of one cohort, seen from one dataset.

    Attributes:
        cohort: Number of the cohort.
        present: How many of it are in the dataset and did not opt out.
        size: How many it has in all.
        charged: Units that each has spent and has held, at the patients' order.
    """

    cohort: int
    present: int
    size: int
    charged: int


@final
@dataclass(frozen=True, slots=True)
class Admission:
    """Who takes part, and who would but is exhausted."""

    joined: tuple[Group, ...]
    exhausted: tuple[Group, ...]

    @property
    def patients(self) -> int:
        """How many take part."""
        return sum(group.present for group in self.joined)


def admit(groups: Iterable[Group], *, cost: int, allowance: int) -> Admission:
    """Returns which groups take part in what costs each of their patients `cost`, all of it or
    none.

    Args:
        groups: Of the dataset.
        cost: Units, at the patients' order.
        allowance: Units that a patient's cap has room for in all.
    """
    present = sorted((one for one in groups if one.present), key=lambda one: one.cohort)
    return Admission(
        joined=tuple(one for one in present if one.charged + cost <= allowance),
        exhausted=tuple(one for one in present if one.charged + cost > allowance),
    )
