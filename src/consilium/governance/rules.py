# SPDX-License-Identifier: Apache-2.0
"""The one table of who may do what: `RULES`. What it does not list is denied.

Read a row as "this action may be done by ...": one line a way, each of whose parts must hold.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from consilium.governance.access import Action, ActorKind
from consilium.governance.catalogue import DatasetState
from consilium.governance.projects import OVER, ReleaseState, State
from consilium.governance.roles import Permission


class Relation(StrEnum):
    """How an actor stands to a resource."""

    AUTHOR = "made it"
    NOT_AUTHOR = "did not make it and does not take part in it"
    MEMBER = "takes part in it"
    SELF = "is the person it concerns"
    NOT_SELF = "is not the person whose rights it changes"
    HOLDS_ALL = "holds every permission that it hands out or takes away"
    GRANTED = "has a grant on it, alone or in a group"
    BOUND = "is bound to this project"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One way to be allowed.

    Attributes:
        kind: Of actor.
        permission: That a role must carry, or None.
        relations: That must all hold.
        states: Of the resource; None: any.
    """

    kind: ActorKind = ActorKind.PERSON
    permission: Permission | None = None
    relations: frozenset[Relation] = frozenset()
    states: frozenset[str] | None = None


def _who(
    permission: Permission | None = None,
    *relations: Relation,
    states: frozenset[str] | None = None,
    kind: ActorKind = ActorKind.PERSON,
) -> Rule:
    return Rule(kind=kind, permission=permission, relations=frozenset(relations), states=states)


_A, _R, _S = Action, Relation, State
_P = Permission
_ANYBODY: Final = _who()
_OFFICE: Final = _who(kind=ActorKind.OFFICE)
_SERVICE: Final = _who(None, _R.BOUND, kind=ActorKind.SERVICE)
_LIVING: Final = frozenset(set(State) - OVER)
_USABLE: Final = frozenset({DatasetState.REGISTERED, DatasetState.FROZEN})
_EDITABLE: Final = frozenset(
    {_S.DRAFT, _S.SUBMITTED, _S.UNDER_REVIEW, _S.NEEDS_CHANGES, _S.APPROVED, _S.READY}
)
_IN_REVIEW: Final = frozenset({_S.SUBMITTED, _S.UNDER_REVIEW})
_PENDING: Final = frozenset({"pending"})
_ACTIVE: Final = frozenset({"active"})
_CUSTOM: Final = frozenset({"custom"})
_HELD: Final = frozenset({ReleaseState.CHECKED, ReleaseState.SEEN_ONCE})
_REVIEWER: Final = _who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR, states=_IN_REVIEW)

RULES: Final[Mapping[Action, tuple[Rule, ...]]] = {
    # -- Office -----------------------------------------------------------------------
    _A.SEE_SETTINGS: (_ANYBODY,),
    _A.EDIT_SETTINGS: (_who(_P.EDIT_SETTINGS),),
    # -- People -----------------------------------------------------------------------
    _A.SEE_PEOPLE: (_who(_P.CREATE_USERS), _who(_P.TRIAGE_REQUESTS), _who(_P.EDIT_ROLES)),
    _A.SEE_PERSON: (_who(None, _R.SELF), _who(_P.CREATE_USERS), _who(_P.TRIAGE_REQUESTS)),
    _A.INVITE_PERSON: (_who(_P.CREATE_USERS, _R.HOLDS_ALL),),
    _A.CHANGE_PERSON: (
        _who(None, _R.SELF, states=_ACTIVE),
        _who(_P.CREATE_USERS, _R.HOLDS_ALL, states=_ACTIVE),
    ),
    _A.ASSIGN_ROLES: (_who(_P.CREATE_USERS, _R.NOT_SELF, _R.HOLDS_ALL, states=_ACTIVE),),
    _A.RESET_PERSON: (_who(_P.CREATE_USERS, _R.HOLDS_ALL, states=_ACTIVE),),
    _A.REVOKE_PERSON: (_who(_P.CREATE_USERS, _R.NOT_SELF, _R.HOLDS_ALL, states=_ACTIVE),),
    _A.SEE_ROLES: (_ANYBODY,),
    _A.EDIT_ROLE: (_who(_P.EDIT_ROLES, _R.HOLDS_ALL, states=_CUSTOM),),
    _A.SEE_GROUPS: (_ANYBODY,),
    _A.EDIT_GROUP: (_who(_P.CREATE_GROUPS),),
    _A.CHANGE_MEMBERS: (_who(_P.CREATE_GROUPS, _R.NOT_SELF),),
    # -- Datasets ---------------------------------------------------------------------
    _A.SEE_DATASET: (
        _who(states=_USABLE),
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.UPLOAD_DATA),
        _who(kind=ActorKind.OFFICE, states=_USABLE),
    ),
    _A.SEE_BUDGET: (
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.UPLOAD_DATA),
        _who(None, _R.GRANTED, states=_USABLE),
    ),
    _A.REGISTER_DATASET: (_who(_P.UPLOAD_DATA),),
    _A.EDIT_DATASET: (_who(_P.UPLOAD_DATA, states=_USABLE),),
    _A.WITHDRAW_DATASET: (
        _who(_P.UPLOAD_DATA, states=_USABLE),
        _who(_P.TRIAGE_REQUESTS, states=_USABLE),
    ),
    _A.FREEZE_DATASET: (
        _who(_P.UPLOAD_DATA, states=_USABLE),
        _who(_P.TRIAGE_REQUESTS, states=_USABLE),
    ),
    _A.LOWER_CAP: (_who(_P.TRIAGE_REQUESTS, states=_USABLE),),
    _A.PROPOSE_RAISE: (_who(_P.TRIAGE_REQUESTS, states=_USABLE),),
    _A.CONFIRM_RAISE: (_who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR, states=_PENDING),),
    _A.OPT_OUT: (_who(_P.TRIAGE_REQUESTS), _who(_P.UPLOAD_DATA)),
    _A.DELIVER_CARDS: (_OFFICE,),
    # -- Grants and requests ----------------------------------------------------------
    _A.SEE_GRANTS: (_who(None, _R.SELF), _who(_P.TRIAGE_REQUESTS), _who(_P.UPLOAD_DATA)),
    _A.GIVE_GRANT: (_who(_P.TRIAGE_REQUESTS, _R.NOT_SELF, states=_USABLE),),
    _A.REVOKE_GRANT: (_who(_P.TRIAGE_REQUESTS),),
    _A.MAKE_REQUEST: (_ANYBODY,),
    _A.SEE_REQUEST: (_who(None, _R.AUTHOR), _who(_P.TRIAGE_REQUESTS)),
    _A.DECIDE_REQUEST: (_who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR, states=_PENDING),),
    _A.WITHDRAW_REQUEST: (_who(None, _R.AUTHOR, states=_PENDING),),
    # -- Projects ---------------------------------------------------------------------
    _A.DRAFT_PROJECT: (_ANYBODY,),
    _A.SEE_PROJECT: (
        _who(None, _R.AUTHOR),
        _who(None, _R.MEMBER),
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.UPLOAD_DATA),
        _who(_P.MANAGE_INFRASTRUCTURE),
        _SERVICE,
    ),
    _A.EDIT_PROJECT: (_who(None, _R.AUTHOR, states=_EDITABLE),),
    _A.SUBMIT_PROJECT: (_who(None, _R.AUTHOR, states=frozenset({_S.DRAFT, _S.NEEDS_CHANGES})),),
    _A.EXPORT_PROJECT: (
        _who(None, _R.AUTHOR),
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.MANAGE_INFRASTRUCTURE),
        _who(None, _R.MEMBER, kind=ActorKind.OFFICE),
    ),
    _A.DELIVER_PROJECT: (
        _OFFICE,
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.MANAGE_INFRASTRUCTURE),
    ),
    _A.OPEN_REVIEW: (_REVIEWER,),
    _A.SEE_REVIEWS: (_who(None, _R.AUTHOR), _who(_P.TRIAGE_REQUESTS)),
    _A.APPROVE_PROJECT: (_REVIEWER,),
    _A.ASK_ABOUT_PROJECT: (_REVIEWER,),
    _A.REFUSE_PROJECT: (_REVIEWER,),
    _A.REVOKE_PROJECT: (
        _who(_P.TRIAGE_REQUESTS, states=_LIVING),
        _who(None, _R.AUTHOR, states=_LIVING),
    ),
    _A.START_RUN: (
        _who(None, _R.AUTHOR, states=frozenset({_S.READY})),
        _who(kind=ActorKind.OFFICE, states=frozenset({_S.READY})),
        _who(None, _R.BOUND, kind=ActorKind.SERVICE, states=frozenset({_S.READY})),
    ),
    _A.PAUSE_RUN: (
        _who(None, _R.AUTHOR, states=frozenset({_S.RUNNING})),
        _who(_P.TRIAGE_REQUESTS, states=frozenset({_S.RUNNING})),
    ),
    _A.RESUME_RUN: (
        _who(None, _R.AUTHOR, _R.SELF, states=frozenset({_S.PAUSED})),  # who paused it
        _who(None, _R.AUTHOR, states=frozenset({_S.FAILED})),
        _who(_P.TRIAGE_REQUESTS, states=frozenset({_S.PAUSED})),
    ),
    _A.STOP_RUN: (
        _who(None, _R.AUTHOR, states=frozenset({_S.RUNNING, _S.PAUSED, _S.FAILED})),
        _who(_P.TRIAGE_REQUESTS, states=frozenset({_S.RUNNING, _S.PAUSED, _S.FAILED})),
    ),
    _A.REPORT_RUN: (_SERVICE, _OFFICE),
    # -- Releases and models ----------------------------------------------------------
    _A.SEE_RELEASE: (_who(_P.TRIAGE_REQUESTS),),
    _A.CHECK_RELEASE: (_who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR, states=_HELD),),
    _A.WITHHOLD_RELEASE: (_who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR, states=_HELD),),
    _A.SEE_MODEL: (_ANYBODY,),
    _A.PUBLISH_MODEL: (_who(None, _R.AUTHOR), _who(_P.MANAGE_INFRASTRUCTURE), _SERVICE),
    _A.EDIT_MODEL: (
        _who(_P.MANAGE_INFRASTRUCTURE, _R.NOT_AUTHOR),
        _who(_P.TRIAGE_REQUESTS, _R.NOT_AUTHOR),
    ),
    _A.WITHDRAW_MODEL: (
        _who(None, _R.AUTHOR),
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.MANAGE_INFRASTRUCTURE),
    ),
    _A.DOWNLOAD_MODEL: (_ANYBODY,),  # and what `model_permissions` says
    _A.INFER: (_ANYBODY, _who(kind=ActorKind.SERVICE)),  # likewise
    # -- Hosted processes -------------------------------------------------------------
    _A.SEE_PROCESS: (_ANYBODY, _OFFICE, _SERVICE),
    _A.HOST_PROCESS: (_who(_P.MANAGE_INFRASTRUCTURE),),
    _A.JOIN_PROCESS: (_OFFICE, _SERVICE),
    _A.CLOSE_PROCESS: (_who(_P.MANAGE_INFRASTRUCTURE), _who(_P.TRIAGE_REQUESTS)),
    # -- Other offices ----------------------------------------------------------------
    _A.SEE_ASSOCIATIONS: (_ANYBODY, _OFFICE),
    _A.REQUEST_ASSOCIATION: (_who(_P.MANAGE_INFRASTRUCTURE),),
    _A.DECIDE_ASSOCIATION: (_who(_P.MANAGE_INFRASTRUCTURE),),
    _A.REVOKE_ASSOCIATION: (_who(_P.MANAGE_INFRASTRUCTURE), _who(_P.TRIAGE_REQUESTS)),
    # -- Log --------------------------------------------------------------------------
    _A.SEE_LOG: (_who(_P.TRIAGE_REQUESTS), _who(_P.EDIT_SETTINGS), _who(_P.MANAGE_INFRASTRUCTURE)),
    _A.VERIFY_LOG: (
        _who(_P.TRIAGE_REQUESTS),
        _who(_P.EDIT_SETTINGS),
        _who(_P.MANAGE_INFRASTRUCTURE),
    ),
    _A.EXPORT_LOG: (_who(_P.TRIAGE_REQUESTS), _who(_P.EDIT_SETTINGS)),
    _A.WITNESS_LOG: (_OFFICE, _who(_P.MANAGE_INFRASTRUCTURE)),
}
