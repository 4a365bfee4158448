# SPDX-License-Identifier: Apache-2.0
"""What the services of an office take and return. Values alone; no rule, no table."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, final

from consilium.governance.association import OfficeKind
from consilium.governance.audit_log import Finding
from consilium.governance.contract import Conditions, Contract, Purpose, Verdict
from consilium.governance.grants import ReleaseKind
from consilium.governance.hosting import Cycle, Limits
from consilium.governance.policy import Policy
from consilium.governance.projects import State, Turn

UNCONDITIONAL: Final = Conditions()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OfficeFacts:
    """Which office this is. `key` is its Ed25519 public key."""

    name: str
    kind: OfficeKind
    key: bytes
    founded: datetime


# -- People ---------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Invited:
    """Whom somebody invites."""

    name: str
    email: str
    roles: frozenset[str] = frozenset({"User"})
    groups: frozenset[str] = frozenset()


class InvitationKind(StrEnum):
    """What a one-time link is for."""

    JOIN = "join"
    RESET = "reset"  # of a password; the person stays who they are


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """A one-time link that is out; only the hash of its token is kept."""

    id: str
    kind: InvitationKind
    name: str
    email: str
    roles: frozenset[str]
    expires: datetime
    invited_by: str


# -- Requests -------------------------------------------------------------------------


class RequestState(StrEnum):
    """Of a request."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDraft:
    """A wish for a grant on a dataset, with its reason."""

    dataset: str
    reason: str
    purposes: frozenset[str] = frozenset()
    kinds: frozenset[ReleaseKind] = frozenset({ReleaseKind.TRAINING})
    epsilon_cap: float = 1.0
    days: int = 90


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request and what became of it."""

    id: str
    draft: RequestDraft
    author: str
    author_name: str
    state: RequestState
    made: datetime
    decided: datetime | None = None
    decided_by: str | None = None
    answer: str = ""
    grant: str | None = None


# -- Datasets -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NewDataset:
    """What a steward registers: an imported folder, and words to find it by.

    Attributes:
        name: Unique in the office.
        folder: That `consilium data import` made.
        description: For people.
        tags: To find it by.
        cap: Epsilon; None: what the policy says.
    """

    name: str
    folder: str
    description: str
    tags: tuple[str, ...] = ()
    cap: float | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CardChanges:
    """What may change of a card; None: stays."""

    description: str | None = None
    tags: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Raise:
    """A proposed rise of a cap, or the unfreezing of a dataset; it needs a second person."""

    id: str
    dataset: str
    epsilon: float | None
    reason: str
    proposed_by: str
    proposed_by_name: str
    proposed: datetime
    state: str  # pending, confirmed, withdrawn


# -- Projects -------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectDraft:
    """What a researcher writes.

    Attributes:
        toml: The project file.
        arm: Of it.
        datasets: By site, the name of its dataset.
        purpose: What for.
        days: From now until it expires.
        max_runs: How often it may be trained.
        people: Names of others who may use the results, besides the author.
    """

    toml: str
    arm: str
    datasets: Mapping[str, str]
    purpose: Purpose
    days: int = 90
    max_runs: int = 1
    people: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a reviewer says.

    Attributes:
        verdict: Of the review.
        digest: Of the contract that was read, hexadecimal; another one is refused.
        words: The question or the reason; needed for both.
        conditions: Of a yes.
    """

    verdict: Verdict
    digest: str
    words: str = ""
    conditions: Conditions = UNCONDITIONAL


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What one reviewer of this office said of one revision."""

    reviewer: str
    reviewer_name: str
    verdict: Verdict
    words: str
    conditions: Conditions
    time: datetime
    stands: bool  # of the present terms; an edit voids it


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteDecision:
    """What another office said, with its signature checked."""

    site: str
    verdict: Verdict | None  # None: not yet
    person: str
    words: str
    time: datetime | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training under a project."""

    name: str
    began: datetime
    ended: datetime | None
    outcome: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectView:
    """A project as this office sees it now.

    Attributes:
        id: ULID; the same in every office.
        name: Of the project.
        revision: Of the contract, from 1; each edit makes one.
        version: Grows with every change of anything; for If-Match.
        state: Here.
        turn: Who is to act.
        since: Of this state, UTC.
        author: Id of the person, or of the office that delivered it.
        author_name: For people.
        from_office: Where it was written.
        contract: All terms.
        digest: Of the contract, hexadecimal; what an approval must name.
        words: The same in six words.
        refusals: Why this office's policy would refuse it; empty: it may be approved.
        conditions: Of this office's approvals, the tightest.
        expires: The contract's or the conditions', whichever is first.
        max_runs: Likewise.
        runs: So far.
        decisions: Of the sites.
        last_words: Of the last question, refusal or revocation.
        paused_by: Id of the person, while it is paused.
    """

    id: str
    name: str
    revision: int
    version: int
    state: State
    turn: Turn
    since: datetime
    author: str
    author_name: str
    from_office: str
    contract: Contract
    digest: str
    words: str
    refusals: tuple[str, ...]
    conditions: Conditions
    expires: datetime
    max_runs: int
    runs: tuple[Run, ...] = ()
    decisions: tuple[SiteDecision, ...] = ()
    last_words: str = ""
    paused_by: str | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Inbox:
    """A person's three lists. Requests and proposals of caps have lists of their own."""

    needs_you: tuple[ProjectView, ...]
    running: tuple[ProjectView, ...]
    decided: tuple[ProjectView, ...]


# -- Log, settings, models ------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """Which entries; None and empty: all."""

    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    outcome: str | None = None
    since: datetime | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A part of a list: at most `most` entries, beyond the place `beyond` in reading order."""

    beyond: int | None = None
    most: int = 50


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """What a verification found. `witnessed` is the last entry that another office signed."""

    entries: int
    findings: tuple[Finding, ...]
    witnessed: int
    witness: str | None
    witnessed_at: str | None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Of an office. `version` is for If-Match."""

    policy: Policy
    title: str
    idle_minutes: int
    version: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A checkpoint to publish under a name."""

    name: str
    digest: str
    file: str
    project: str
    run: str
    epsilon: float | None
    delta: float | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Hosted:
    """A hosted process: its project, its limits, where it stands."""

    id: str
    project: str
    limits: Limits
    cycle: Cycle
