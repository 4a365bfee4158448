# SPDX-License-Identifier: Apache-2.0
"""What the pages of researchers show: catalogue, projects, prices, live runs, models."""

from dataclasses import dataclass
from datetime import datetime
from typing import final

from consilium.federation.statement import Statement
from consilium.web.pages.parts import Fact, Form, Link, Notice, Tag

# -- Catalogue ------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A dataset of some site, as somebody without a grant may see it.

    Attributes:
        size: A bucket, "fewer than 10,000 patients": the number is the owner's business.
        free: "low", "medium" or "high"; empty where it is not known here.
    """

    site: str
    id: str
    name: str
    href: str
    description: str
    size: str
    task: str
    tags: tuple[str, ...]
    free: str


@final
@dataclass(frozen=True, slots=True)
class TagCount:
    """A tag, on how many datasets it stands, and the search for it."""

    name: str
    count: int
    href: str
    chosen: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueView:
    """Datasets of all sites that match a search."""

    search: Form
    tags: tuple[TagCount, ...]
    cards: tuple[Card, ...]
    sites: int
    cli: str
    title: str = "Catalogue"


# -- Projects -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectLine:
    """A project in a list; `turn` is whose move it is."""

    id: str
    name: str
    state: Tag
    turn: str
    changed: datetime
    sites: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectsView:
    """Projects that the reader may see."""

    projects: tuple[ProjectLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "Projects"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SitePrice:
    """What one run costs at one site; what is left there is the owner's business."""

    site: str
    dataset: str
    epsilon: float
    delta: float
    unit: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderView:
    """A new project, and its price at each site before it is submitted."""

    form: Form
    prices: tuple[SitePrice, ...]
    total: tuple[Fact, ...]
    problem: Notice | None
    cli: str
    title: str = "New project"


# -- Runs -----------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Spot:
    """One look at the validation records."""

    round: int
    epsilon: float
    quality: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What another arm reached, on data that may be pooled: a level to compare with.

    Attributes:
        arm: Its name.
        quality: At its end.
        source: "reference on public data".
    """

    arm: str
    quality: float
    source: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteState:
    """One site of a run: what it does now, and what its ledger has spent."""

    name: str
    state: Tag
    step: str
    seconds: float | None
    spent: float
    cap: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A run as it goes."""

    id: str
    title: str
    project_id: str
    state: Tag
    round: int
    rounds: int
    epsilon: float
    granted: float
    delta: float | None
    unit: str
    view: str  # of the epsilon: "curious participant"
    left: str  # of time, in words
    measure: str
    spots: tuple[Spot, ...]
    references: tuple[Reference, ...]
    sites: tuple[SiteState, ...]
    looks: str
    actions: tuple[Link, ...]
    cli: str
    moving: bool
    stream: str  # of events; empty once it has ended


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """A run in a list."""

    id: str
    project: str
    state: Tag
    started: datetime
    round: int | None  # this and the epsilon: None where nothing of it is known here
    rounds: int
    epsilon: float | None
    delta: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunsView:
    """Runs that the reader may see."""

    runs: tuple[RunLine, ...]
    cli: str
    title: str = "Runs"


# -- Models ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """A model in a list."""

    id: str
    name: str
    version: str
    created: datetime
    epsilon: float | None
    delta: float | None
    tags: tuple[Tag, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsView:
    """Models that the reader may see."""

    models: tuple[ModelLine, ...]
    cli: str
    title: str = "Models"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model: where it comes from, what it promises, what may be done with it."""

    id: str
    title: str
    version: str
    state: Tag
    lineage: tuple[Fact, ...]
    quality: tuple[Fact, ...]
    statement: Statement | None
    promise: tuple[Fact, ...]
    meaning: str
    permissions: tuple[Fact, ...]
    downloads: tuple[Link, ...]
    versions: tuple[Link, ...]
    actions: tuple[Link, ...]
    verify: str
    cli: str
