# SPDX-License-Identifier: Apache-2.0
"""What a decision is about: actors, actions, resources.

Who may do what stands in one table, `rules.RULES`; `decisions.decide` reads it. A rule names the
kind of actor, a permission, relations of the actor to the resource and states of the resource; all
of them must hold, and one rule of an action is enough. An actor's roles come from the office's
database, never from the actor.

Guarantees: an author never reviews their own project, request, or rise of a cap; nobody changes
their own rights; nobody hands out or removes a permission that they lack. Not here: who the
caller is (identity), budgets (`ledger`), grants by purpose (`grants`).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import final

from consilium.governance.roles import Permission


class ActorKind(StrEnum):
    """What acts."""

    PERSON = "person"
    OFFICE = "office"  # another office of the federation; it signs with its key
    SERVICE = "service"  # a program with a token, bound to one project


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody or something that has proved who it is.

    Attributes:
        id: ULID of a person; name of an office or a service.
        name: For people and the log.
        office: Where it is known.
        kind: Person, office or service.
        roles: Names of its roles.
        groups: Ids of its groups.
        permissions: Of all its roles.
        key: Ed25519 public key, or None.
        project: The only project that a service may touch.
    """

    id: str
    name: str
    office: str
    kind: ActorKind = ActorKind.PERSON
    roles: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    permissions: frozenset[Permission] = frozenset()
    key: bytes | None = field(default=None, repr=False)
    project: str | None = None


class ResourceKind(StrEnum):
    """What is acted on."""

    OFFICE = "office"
    PERSON = "person"
    ROLE = "role"
    GROUP = "group"
    DATASET = "dataset"
    GRANT = "grant"
    REQUEST = "request"
    PROJECT = "project"
    RELEASE = "release"
    MODEL = "model"
    PROCESS = "process"  # a hosted training
    ASSOCIATION = "association"
    LOG = "log"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What an actor wants to touch, as far as a decision depends on it.

    Attributes:
        kind: What it is.
        id: Which; empty where it does not exist yet.
        author: Who made or asked for it: id of an actor.
        people: Ids of everybody else who takes part in it.
        subject: Id of the person whose rights this would change, or who paused it.
        state: Of the resource.
        dataset: That it concerns.
        permissions: That this would hand out or take away.
        granted: Persons and groups with a grant on it.
    """

    kind: ResourceKind
    id: str = ""
    author: str | None = None
    people: frozenset[str] = frozenset()
    subject: str | None = None
    state: str | None = None
    dataset: str | None = None
    permissions: frozenset[Permission] = frozenset()
    granted: frozenset[str] = frozenset()


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """Yes or no, with the reason in words."""

    allowed: bool
    reason: str


class Action(StrEnum):
    """Everything that can be asked of an office."""

    SEE_SETTINGS = "see-settings"
    EDIT_SETTINGS = "edit-settings"

    SEE_PEOPLE = "see-people"
    SEE_PERSON = "see-person"
    INVITE_PERSON = "invite-person"
    CHANGE_PERSON = "change-person"
    ASSIGN_ROLES = "assign-roles"
    RESET_PERSON = "reset-person"
    REVOKE_PERSON = "revoke-person"
    SEE_ROLES = "see-roles"
    EDIT_ROLE = "edit-role"
    SEE_GROUPS = "see-groups"
    EDIT_GROUP = "edit-group"
    CHANGE_MEMBERS = "change-members"

    SEE_DATASET = "see-dataset"
    SEE_BUDGET = "see-budget"
    REGISTER_DATASET = "register-dataset"
    EDIT_DATASET = "edit-dataset"
    WITHDRAW_DATASET = "withdraw-dataset"
    FREEZE_DATASET = "freeze-dataset"
    LOWER_CAP = "lower-cap"
    PROPOSE_RAISE = "propose-raise"
    CONFIRM_RAISE = "confirm-raise"
    OPT_OUT = "opt-out"
    DELIVER_CARDS = "deliver-cards"

    SEE_GRANTS = "see-grants"
    GIVE_GRANT = "give-grant"
    REVOKE_GRANT = "revoke-grant"

    MAKE_REQUEST = "make-request"
    SEE_REQUEST = "see-request"
    DECIDE_REQUEST = "decide-request"
    WITHDRAW_REQUEST = "withdraw-request"

    DRAFT_PROJECT = "draft-project"
    SEE_PROJECT = "see-project"
    EDIT_PROJECT = "edit-project"
    SUBMIT_PROJECT = "submit-project"
    EXPORT_PROJECT = "export-project"
    DELIVER_PROJECT = "deliver-project"
    OPEN_REVIEW = "open-review"
    SEE_REVIEWS = "see-reviews"
    APPROVE_PROJECT = "approve-project"
    ASK_ABOUT_PROJECT = "ask-about-project"
    REFUSE_PROJECT = "refuse-project"
    REVOKE_PROJECT = "revoke-project"
    START_RUN = "start-run"
    PAUSE_RUN = "pause-run"
    RESUME_RUN = "resume-run"
    STOP_RUN = "stop-run"
    REPORT_RUN = "report-run"

    SEE_RELEASE = "see-release"
    CHECK_RELEASE = "check-release"
    WITHHOLD_RELEASE = "withhold-release"

    SEE_MODEL = "see-model"
    PUBLISH_MODEL = "publish-model"
    EDIT_MODEL = "edit-model"
    WITHDRAW_MODEL = "withdraw-model"
    DOWNLOAD_MODEL = "download-model"
    INFER = "infer"

    SEE_PROCESS = "see-process"
    HOST_PROCESS = "host-process"
    JOIN_PROCESS = "join-process"
    CLOSE_PROCESS = "close-process"

    SEE_ASSOCIATIONS = "see-associations"
    REQUEST_ASSOCIATION = "request-association"
    DECIDE_ASSOCIATION = "decide-association"
    REVOKE_ASSOCIATION = "revoke-association"

    SEE_LOG = "see-log"
    VERIFY_LOG = "verify-log"
    EXPORT_LOG = "export-log"
    WITNESS_LOG = "witness-log"
