# SPDX-License-Identifier: Apache-2.0
"""From a view to text: a page for people, or its JSON twin for machines.

Guarantees: both are made from the same value; every word passes through escaping; no page holds
a script, a style or an address of another origin.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec
from jinja2 import Environment

from consilium.web.environment import make_environment
from consilium.web.pages import drawing, words
from consilium.web.pages.office_views import (
    GroupsView,
    HealthView,
    PeopleView,
    PersonView,
    RolesView,
    SettingsView,
    SitesView,
)
from consilium.web.pages.parts import Frame
from consilium.web.pages.research_views import (
    BuilderView,
    CatalogueView,
    LiveView,
    ModelsView,
    ModelView,
    ProjectsView,
    RunsView,
)
from consilium.web.pages.views import (
    ActionView,
    DatasetsView,
    DatasetView,
    ErrorView,
    InboxView,
    LogView,
    ReviewView,
    TasksView,
)

TEMPLATES: Final[dict[type, str]] = {
    ActionView: "action",
    BuilderView: "builder",
    CatalogueView: "catalogue",
    DatasetView: "dataset",
    DatasetsView: "datasets",
    ErrorView: "error",
    GroupsView: "groups",
    HealthView: "health",
    InboxView: "inbox",
    LiveView: "live",
    LogView: "log",
    ModelView: "model",
    ModelsView: "models",
    PeopleView: "people",
    PersonView: "person",
    ProjectsView: "projects",
    ReviewView: "review",
    RolesView: "roles",
    RunsView: "runs",
    SettingsView: "settings",
    SitesView: "sites",
    TasksView: "tasks",
}


def to_html(view: object, frame: Frame) -> str:
    """Returns a whole page.

    Raises:
        KeyError: No template shows such a view.
    """
    name = TEMPLATES[type(view)]
    return _PAGES.get_template(f"pages/{name}.html.j2").render(view=view, frame=frame)


def to_json(view: object) -> bytes:
    """Returns the same view for machines; numbers are numbers, times are ISO 8601 in UTC."""
    return msgspec.json.format(msgspec.json.encode(view), indent=2)


def live_part(view: LiveView) -> str:
    """Returns the part of a live page that changes: what an event of its stream holds."""
    template = _PAGES.get_template("pages/live_part.html.j2")
    return template.render(view=view)


# -- Filters --------------------------------------------------------------------------


def local_time(when: datetime) -> str:
    """Returns local time to the minute, ISO 8601."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def utc_time(when: datetime) -> str:
    """Returns the same in UTC, for who points at it."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def short_id(identity: str) -> str:
    """Returns the last six letters of an identity: enough to tell two apart on a page."""
    return identity[-6:]


def _environment() -> Environment:
    pages = make_environment()
    filters: dict[str, Callable[..., Any]] = {
        "cap": words.cap,
        "expires": words.expires,
        "local_time": local_time,
        "percent_of": words.percent_of,
        "remaining": words.remaining,
        "short_id": short_id,
        "utc_time": utc_time,
    }
    pages.filters.update(filters)
    pages.globals.update(
        budget_bar=drawing.budget_bar,
        composed_shares=words.COMPOSED_SHARES,
        draw_bar=drawing.draw_bar,
        draw_live=drawing.draw_live,
        draw_months=drawing.draw_months,
        part=drawing.Part,
        price_bar=drawing.price_bar,
    )
    return pages


_PAGES: Final = _environment()
