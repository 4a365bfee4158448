# SPDX-License-Identifier: Apache-2.0
"""A dataset's budget as its ledger tells it: read and put into words; nothing is composed here."""

from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise
from typing import Final

from consilium.adapters.office.office import Office
from consilium.adapters.store.ledger_views import Patients, Project, Standing
from consilium.errors import AccessDenied, ConfigError, NotFound
from consilium.governance.access import Actor
from consilium.governance.catalogue import Dataset
from consilium.web.pages import words
from consilium.web.pages.views import Band, Budget, Month, Spender

_MOST_BANDS: Final = 12  # of a histogram
_OWN: Final = {"catalogue": "The number of patients on its card"}  # not a project's


def budget_of(office: Office, actor: Actor, one: Dataset) -> Budget | None:
    """Returns the budget, or None where it is not the reader's to see or not of this office."""
    if one.office != office.desk.name:
        return None
    try:
        standing = office.datasets.standing(actor, one.id)
    except (AccessDenied, NotFound, ConfigError):
        return None
    names = {known.id: known.name for known in office.projects.find(actor)}
    return budget_view(standing, one.unit, names)


def budget_view(standing: Standing, unit: str, names: Mapping[str, str]) -> Budget:
    """Returns a dataset's standing as its page shows it; `names` are those of projects by id."""
    months = tuple(
        Month(date.fromisoformat(f"{one.month}-01"), one.epsilon) for one in standing.by_month
    )
    return Budget(
        unit=unit,
        delta=standing.delta,
        cap=standing.cap,
        used=standing.epsilon,
        reserved=standing.reserved,
        free=standing.free,
        by_project=_spenders(standing.by_project, names),
        by_month=months,
        by_patient=bands(standing.by_patient),
        patients=standing.patients,
        patient_cap=standing.patient_cap,
        opted_out=standing.opted_out,
        exact=standing.exact,
        meaning=words.meaning(standing.epsilon, standing.delta, unit),
        forecast=words.forecast_sentence(
            tuple((one.first, one.epsilon) for one in months), standing.cap
        ),
    )


def _spenders(projects: Sequence[Project], names: Mapping[str, str]) -> tuple[Spender, ...]:
    """Returns each project with its part of the sum of what all would cost alone."""
    whole = sum(one.epsilon for one in projects)
    return tuple(
        Spender(
            name=names.get(one.name, _OWN.get(one.name, one.name)),
            href=f"/projects/{one.name}" if one.name in names else "",
            alone=one.epsilon,
            share=one.epsilon / whole if whole > 0 else 0.0,
            reserved=one.steps == 0 and one.held > 0,
        )
        for one in projects
    )


def bands(patients: Sequence[Patients]) -> tuple[Band, ...]:
    """Returns a histogram: each value by itself, or bands of equal width where there are many."""
    ordered = sorted(patients, key=lambda one: one.epsilon)
    if len(ordered) <= _MOST_BANDS:
        return tuple(Band(one.epsilon, one.epsilon, one.patients) for one in ordered)
    top = ordered[-1].epsilon
    edges = [top * k / _MOST_BANDS for k in range(_MOST_BANDS)] + [top]
    return tuple(
        Band(low, high, sum(one.patients for one in ordered if _within(one.epsilon, low, high)))
        for low, high in pairwise(edges)
    )


def _within(value: float, low: float, high: float) -> bool:
    return low < value <= high or value == low == 0
