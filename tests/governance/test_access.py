# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every role against every action and state, and every way up that is shut."""

from itertools import product

import pytest

from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, ActorKind, Resource, ResourceKind
from consilium.governance.decisions import check, decide
from consilium.governance.projects import State
from consilium.governance.roles import (
    ADMINISTRATOR,
    ALL_PERMISSIONS,
    BUILT_IN,
    COMPLIANCE_OFFICER,
    DATA_STEWARD,
    OWNER,
    USER,
    Permission,
    Role,
)
from consilium.governance.rules import RULES, Relation

ROLES = {**BUILT_IN, DATA_STEWARD.name: DATA_STEWARD}
STATES = (None, *State, "registered", "frozen", "withdrawn", "pending", "active", "custom")
AUTHORS = (None, "me", "other")
SUBJECTS = (None, "me", "other")
REVIEWS = (Action.APPROVE_PROJECT, Action.ASK_ABOUT_PROJECT, Action.REFUSE_PROJECT)


def actor(role: Role = USER, **more: object) -> Actor:
    return Actor(id="me", name="Me", office="tum", permissions=role.permissions, **more)  # type: ignore[arg-type]  # its own fields


def resource(**more: object) -> Resource:
    return Resource(kind=ResourceKind.PROJECT, id="it", **more)  # type: ignore[arg-type]  # its own fields


ALL = [
    (role, action, resource(state=state, author=author, subject=subject))
    for role, action, state, author, subject in product(
        ROLES.values(), Action, STATES, AUTHORS, SUBJECTS
    )
]


def allowed_by_the_table(role: Role, action: Action, what: Resource) -> bool:
    """The oracle: a yes needs a row of persons without a reason against it."""
    return any(
        not any(
            (
                rule.kind is not ActorKind.PERSON,
                rule.permission is not None and rule.permission not in role.permissions,
                rule.states is not None and what.state not in rule.states,
                Relation.AUTHOR in rule.relations and what.author != "me",
                Relation.NOT_AUTHOR in rule.relations and what.author == "me",
                Relation.SELF in rule.relations and what.subject != "me",
                Relation.NOT_SELF in rule.relations and what.subject == "me",
                bool(rule.relations & {Relation.MEMBER, Relation.GRANTED, Relation.BOUND}),
            )
        )
        for rule in RULES[action]
    )


def test_every_role_action_and_state_is_as_the_table_says() -> None:
    wrong = [
        (role.name, action, what.state, what.author)
        for role, action, what in ALL
        if decide(actor(role), action, what).allowed != allowed_by_the_table(role, action, what)
    ]

    assert len(ALL) > 60_000
    assert wrong == []


def test_every_action_has_a_row_and_every_decision_a_reason() -> None:
    assert set(RULES) == set(Action)
    assert all(decide(actor(role), action, what).reason for role, action, what in ALL[::97])


def test_no_author_ever_reviews_their_own() -> None:
    own = [
        (role.name, action, state)
        for role, action, state in product(ROLES.values(), REVIEWS, STATES)
        if decide(actor(role), action, resource(state=state, author="me")).allowed
    ]

    assert own == []


def test_nobody_changes_their_own_rights() -> None:
    upward = (Action.ASSIGN_ROLES, Action.CHANGE_MEMBERS, Action.GIVE_GRANT, Action.REVOKE_PERSON)
    own = [
        action
        for action, state in product(upward, STATES)
        if decide(actor(OWNER), action, resource(state=state, subject="me")).allowed
    ]

    assert own == []


def test_a_grant_to_ones_own_group_is_a_grant_to_oneself() -> None:
    steward = actor(DATA_STEWARD, groups=frozenset({"ours"}))

    assert not decide(
        steward, Action.GIVE_GRANT, resource(state="registered", subject="ours")
    ).allowed


@pytest.mark.parametrize("role", [ADMINISTRATOR, COMPLIANCE_OFFICER, DATA_STEWARD, USER])
@pytest.mark.parametrize(
    "action", [Action.ASSIGN_ROLES, Action.INVITE_PERSON, Action.EDIT_ROLE, Action.REVOKE_PERSON]
)
def test_nobody_hands_out_or_takes_what_they_lack(role: Role, action: Action) -> None:
    what = resource(state="active", subject="other", permissions=ALL_PERMISSIONS)

    assert not decide(actor(role), action, what).allowed


def test_a_built_in_role_never_changes() -> None:
    assert not decide(actor(OWNER), Action.EDIT_ROLE, resource(state="built-in")).allowed


def test_a_user_decides_nothing() -> None:
    others = [
        (action, state)
        for action, state in product(Action, State)
        if decide(actor(USER), action, resource(state=state, author="other")).allowed
    ]

    assert {action for action, _ in others} == {
        Action.SEE_SETTINGS,
        Action.SEE_ROLES,
        Action.SEE_GROUPS,
        Action.MAKE_REQUEST,
        Action.DRAFT_PROJECT,
        Action.SEE_MODEL,
        Action.DOWNLOAD_MODEL,
        Action.INFER,
        Action.SEE_PROCESS,
        Action.SEE_ASSOCIATIONS,
    }


def test_more_permissions_never_allow_less() -> None:
    lost = [
        (action, what.state)
        for _, action, what in ALL
        if decide(actor(USER), action, what).allowed
        and not decide(actor(OWNER), action, what).allowed
    ]

    assert lost == []


def test_one_person_never_raises_a_cap_alone() -> None:
    proposed = resource(state="pending", author="me")

    assert not decide(actor(OWNER), Action.CONFIRM_RAISE, proposed).allowed
    assert decide(
        actor(DATA_STEWARD), Action.CONFIRM_RAISE, resource(state="pending", author="other")
    ).allowed


def test_who_paused_resumes_and_an_author_cannot_undo_a_steward() -> None:
    own = resource(state="paused", author="me", subject="me")
    stewards = resource(state="paused", author="me", subject="other")

    assert decide(actor(USER), Action.RESUME_RUN, own).allowed
    assert not decide(actor(USER), Action.RESUME_RUN, stewards).allowed


@pytest.mark.parametrize("kind", [ActorKind.OFFICE, ActorKind.SERVICE])
def test_offices_and_services_decide_nothing_of_people(kind: ActorKind) -> None:
    machine = actor(OWNER, kind=kind, project="other-project")
    person = Resource(kind=ResourceKind.PERSON, id="p", state="active", subject="p")

    for action in (*REVIEWS, Action.ASSIGN_ROLES, Action.EDIT_SETTINGS, Action.GIVE_GRANT):
        assert not decide(machine, action, person).allowed


def test_a_service_touches_its_own_project_alone() -> None:
    service = Actor(id="s", name="s", office="tum", kind=ActorKind.SERVICE, project="it")

    assert decide(service, Action.REPORT_RUN, resource(state=State.RUNNING)).allowed
    other = Resource(kind=ResourceKind.PROJECT, id="another", state=State.RUNNING)
    assert not decide(service, Action.REPORT_RUN, other).allowed


def test_a_refusal_says_why() -> None:
    with pytest.raises(AccessDenied, match="hold the permission triage-requests"):
        check(actor(USER), Action.APPROVE_PROJECT, resource(state=State.UNDER_REVIEW))


def test_the_four_roles_carry_the_seven_permissions() -> None:
    assert len(Permission) == 7
    assert [len(role.permissions) for role in BUILT_IN.values()] == [0, 1, 5, 7]
