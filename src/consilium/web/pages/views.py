# SPDX-License-Identifier: Apache-2.0
"""What each page shows, as a value: the page and its JSON twin are two renderings of it.

Not here: how it is read (`reading.py`) or looks (`templates/pages`). Numbers are numbers; the
templates write them, epsilon and delta rounded up. `cli` is the command that shows or does the
same.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import final

from consilium.web.pages.parts import Fact, Form, Link, Notice, Tag

# -- Any page of one form, or of facts ------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ActionView:
    """A page to do one thing: what happens then, what cannot be undone, who is told.

    Attributes:
        kind: What it is about, above the heading.
        happens: What the office does at once.
        stays: What cannot be undone.
        told: Who learns of it.
    """

    title: str
    form: Form
    cli: str
    kind: str = ""
    lead: str = ""
    facts: tuple[Fact, ...] = ()
    happens: tuple[str, ...] = ()
    stays: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    back: Link | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorView:
    """What happened, why, what to do, and who can put it right."""

    title: str
    status: int
    happened: str
    advice: str
    who: str
    cli: str = ""


@final
@dataclass(frozen=True, slots=True)
class Task:
    """One step of setting up."""

    name: str
    hint: str
    href: str
    state: Tag


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TasksView:
    """The first run: a list of steps, each a page of its own."""

    title: str
    lead: str
    tasks: tuple[Task, ...]
    cli: str
    done: bool = False


# -- Budget ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What something costs on one dataset, as the ledger composes it.

    Attributes:
        alone: Epsilon if nothing else had ever been released.
        before: Composed epsilon of what is spent and reserved now.
        after: Composed epsilon with this.
        cap: Of the dataset.
        fits: Whether the ledger would grant it now.
        left_out: Patients whose own budget is used up.
    """

    dataset: str
    patients: int
    unit: str
    delta: float
    alone: float
    before: float
    after: float
    cap: float
    fits: bool
    left_out: int = 0

    @property
    def remains(self) -> float:
        """Of the cap, once this is spent."""
        return self.cap - self.after


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """A project's part of a dataset's budget.

    Attributes:
        alone: Its epsilon if nothing else had been released.
        share: Its part of the sum of what each costs alone, 0 to 1.
    """

    name: str
    href: str
    alone: float
    share: float
    reserved: bool = False


@final
@dataclass(frozen=True, slots=True)
class Month:
    """The composed epsilon at the end of a month."""

    first: date
    epsilon: float


@final
@dataclass(frozen=True, slots=True)
class Band:
    """How many patients have spent between two epsilons; `high` belongs to the band."""

    low: float
    high: float
    patients: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a dataset's ledger says: every number as composed by the ledger, none added here.

    Attributes:
        by_patient: Over all datasets of the office.
        patient_cap: Epsilon of every patient over all datasets.
        exact: A tighter figure, where one contract fixed everything in advance.
    """

    unit: str
    delta: float
    cap: float
    used: float
    reserved: float
    free: float
    by_project: tuple[Spender, ...]
    by_month: tuple[Month, ...]
    by_patient: tuple[Band, ...]
    patients: int
    patient_cap: float
    opted_out: int
    exact: float | None
    meaning: str
    forecast: str


# -- Steward --------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Check:
    """One line of a review card."""

    passed: bool
    text: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A project that waits for a decision."""

    id: str
    name: str
    author: str
    since: datetime
    waiting: str
    wants: str
    prices: tuple[Price, ...]
    checks: tuple[Check, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A run that reads data of this office."""

    id: str
    project: str
    project_id: str
    state: Tag
    round: int
    rounds: int
    epsilon: float
    granted: float
    delta: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision, its reason, and who took it."""

    id: str
    name: str
    state: Tag
    by: str
    when: datetime | None
    reason: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InboxView:
    """The steward's first page."""

    needs_you: tuple[Request, ...]
    running: tuple[Running, ...]
    decided: tuple[Decided, ...]
    asks: tuple[Link, ...]  # what else waits: associations, raised caps
    cli: str
    title: str = "Inbox"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What a smaller price would buy."""

    epsilon: float
    rounds: int
    remains: float
    more: int  # projects like this that would still fit
    quality: float | None = None  # of a reference run, where one is attached


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The question "what if I only allow this much?", and its answer."""

    dataset: str
    lowest: float
    highest: float
    step: float
    asked: Allowed
    rounds: int  # as proposed
    error: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody a project names, and the key that speaks for them."""

    name: str
    role: str
    organisation: str
    key: str  # a fingerprint; empty if they have none


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewView:
    """A project as a steward reads it, in the order in which it is judged."""

    id: str
    title: str
    state: Tag
    turn: str
    author: str
    submitted: datetime | None
    purpose: str
    ethics: str
    data_use: tuple[str, ...]
    leaves: tuple[str, ...]
    stays: tuple[str, ...]
    prices: tuple[Price, ...]
    what_if: WhatIf | None
    meaning: str
    people: tuple[Person, ...]
    parameters: tuple[Fact, ...]
    fingerprint: tuple[str, ...]
    digest: str
    difference: str  # from what this office approved before; empty for nothing
    conditions: tuple[Fact, ...]
    signatures: tuple[Decided, ...]
    questions: tuple[Decided, ...]
    actions: tuple[Link, ...]
    cli: str
    notice: Notice | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLine:
    """A dataset in a list."""

    id: str
    name: str
    size: str
    unit: str
    state: Tag
    tags: tuple[str, ...]
    used: float | None  # these three: None where the reader has no grant to see them
    cap: float | None
    delta: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetsView:
    """All datasets of this office."""

    datasets: tuple[DatasetLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "Datasets"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GrantLine:
    """Who may do what with a dataset, why, and until when."""

    id: str
    who: str
    what: str
    purpose: str
    epsilon: float | None
    until: date | None
    state: Tag


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetView:
    """One dataset: what it is, its budget, who may use it."""

    id: str
    title: str
    state: Tag
    description: str
    facts: tuple[Fact, ...]
    tags: tuple[str, ...]
    budget: Budget | None  # None where the reader has no grant to see it
    grants: tuple[GrantLine, ...]
    actions: tuple[Link, ...]
    cli: str


# -- Log ------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One entry of the audit log in a plain sentence."""

    sequence: int
    when: datetime
    sentence: str
    action: str
    link: str  # of the chain, hexadecimal


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """The audit log, newest first."""

    entries: tuple[LogLine, ...]
    total: int
    filters: Form
    checked: Notice | None
    witness: str  # "last co-signed by Hospital B, 2026-11-20 10:03"
    older: Link | None
    cli: str
    can_verify: bool = True
    can_export: bool = True
    title: str = "Log"
