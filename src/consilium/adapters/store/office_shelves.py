# SPDX-License-Identifier: Apache-2.0
"""The shelves of an office: which type lies in which table, and what each is searched by."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, final

from consilium.adapters.store import office_tables as tables
from consilium.adapters.store.shelf import Shelf
from consilium.governance.association import Association, OfficeKind
from consilium.governance.catalogue import Dataset
from consilium.governance.contract import Conditions, Signature
from consilium.governance.grants import Grant
from consilium.governance.hosting import Cycle, Limits
from consilium.governance.model_permissions import ModelVersion
from consilium.governance.policy import Policy
from consilium.governance.projects import State
from consilium.governance.roles import Group, PersonState, Role

THE_OFFICE: Final = "this"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeRow:
    """Which office this is, and its settings."""

    name: str
    kind: OfficeKind
    key: bytes
    founded: datetime
    title: str
    policy: Policy
    idle_minutes: int
    version: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRow:
    """An account. Groups and permissions are elsewhere."""

    id: str
    name: str
    email: str
    roles: frozenset[str]
    state: PersonState = PersonState.ACTIVE
    key: bytes | None = None
    login: str | None = None
    version: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRow:
    """A one-time link. `person` is whose, for a reset."""

    id: str
    kind: str
    token_hash: bytes
    name: str
    email: str
    roles: frozenset[str]
    groups: frozenset[str]
    expires: datetime
    invited_by: str
    used: datetime | None = None
    person: str | None = None
    login: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRow:
    """A card, and where the records lie; empty for another office's."""

    card: Dataset
    folder: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectRow:
    """Where a project stands."""

    id: str
    name: str
    state: State
    since: datetime
    revision: int
    version: int
    author: str
    author_name: str
    from_office: str
    people: frozenset[str] = frozenset()
    last_words: str = ""
    paused_by: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRow:
    """One version of a contract.

    Attributes:
        project: Id.
        number: From 1.
        contract: Canonical form.
        digest: Of the contract.
        agreement: `Project.terms(arm)` of the federation: what a run names.
        time: UTC.
    """

    project: str
    number: int
    contract: bytes
    digest: bytes
    agreement: bytes
    time: datetime


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRow:
    """What one reviewer here said, of which terms."""

    id: str
    project: str
    revision: int
    terms: bytes
    reviewer: str
    reviewer_name: str
    verdict: str
    words: str
    conditions: Conditions
    time: datetime


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """What an office said of a project; `terms` is the digest that it signed."""

    project: str
    terms: bytes
    signature: Signature


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A training under a project."""

    project: str
    name: str
    began: datetime
    ended: datetime | None = None
    outcome: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """A hosted process and where it stands."""

    id: str
    project: str
    limits: Limits
    cycle: Cycle


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """A request for a grant."""

    id: str
    author: str
    author_name: str
    dataset: str
    reason: str
    grant_for: Grant
    days: int
    state: str
    made: datetime
    decided: datetime | None = None
    decided_by: str | None = None
    answer: str = ""
    grant: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseRow:
    """A proposed rise of a cap."""

    id: str
    dataset: str
    epsilon: float | None
    reason: str
    proposed_by: str
    proposed_by_name: str
    proposed: datetime
    state: str = "pending"
    confirmed_by: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationRow:
    """Another office, the message that came first, and our answer to it."""

    known: Association
    introduction: bytes
    nonce: bytes
    answer: bytes = b""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """A signed head of a log, as its bytes."""

    office: str
    sequence: int
    message: bytes


OFFICE: Final = Shelf(tables.OFFICE, OfficeRow)
ROLES: Final = Shelf(tables.ROLES, Role)
PEOPLE: Final = Shelf(tables.PEOPLE, PersonRow, lambda one: {"email": one.email.casefold()})
GROUPS: Final = Shelf(tables.GROUPS, Group, lambda one: {"name": one.name})
INVITATIONS: Final = Shelf(
    tables.INVITATIONS, InvitationRow, lambda one: {"token_hash": one.token_hash.hex()}
)
DATASETS: Final = Shelf(
    tables.DATASETS, DatasetRow, lambda one: {"office": one.card.office, "name": one.card.name}
)
RAISES: Final = Shelf(tables.RAISES, RaiseRow, lambda one: {"dataset": one.dataset})
GRANTS: Final = Shelf(
    tables.GRANTS, Grant, lambda one: {"dataset": one.dataset, "holder": one.holder}
)
REQUESTS: Final = Shelf(tables.REQUESTS, RequestRow, lambda one: {"author": one.author})
PROJECTS: Final = Shelf(
    tables.PROJECTS, ProjectRow, lambda one: {"name": one.name, "state": str(one.state)}
)
REVISIONS: Final = Shelf(
    tables.REVISIONS,
    RevisionRow,
    lambda one: {"project": one.project, "agreement": one.agreement.hex()},
)
REVIEWS: Final = Shelf(tables.REVIEWS, ReviewRow, lambda one: {"project": one.project})
DECISIONS: Final = Shelf(tables.DECISIONS, DecisionRow, lambda one: {"project": one.project})
RUNS: Final = Shelf(tables.RUNS, RunRow, lambda one: {"project": one.project})
MODELS: Final = Shelf(tables.MODELS, ModelVersion, lambda one: {"name": one.name})
PROCESSES: Final = Shelf(
    tables.PROCESSES, ProcessRow, lambda one: {"name": f"{one.limits.name}/{one.limits.version}"}
)
ASSOCIATIONS: Final = Shelf(
    tables.ASSOCIATIONS,
    AssociationRow,
    lambda one: {"name": one.known.name, "nonce": one.nonce.hex()},
)
HEADS: Final = Shelf(tables.HEADS, HeadRow, lambda one: {"office": one.office})
COSIGNED: Final = Shelf(tables.COSIGNED, HeadRow, lambda one: {"witness": one.office})
