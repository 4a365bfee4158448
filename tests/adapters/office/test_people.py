# SPDX-License-Identifier: Apache-2.0
"""Accounts: how they come into being, what they may, and how they end."""

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.adapters.office.made import Staff

from consilium.adapters.office.values import Invited, LogFilter, Page
from consilium.errors import AccessDenied, ConfigError, Conflict, NotFound
from consilium.governance.access import Actor
from consilium.governance.audit_log import Outcome
from consilium.governance.roles import ALL_PERMISSIONS, Permission, PersonState, Role

WORD = hashlib.sha256(b"a word").digest()


def invited(site: Staff, *roles: str) -> None:
    whom = Invited(name="New", email="new@x.org", roles=frozenset(roles or {"User"}))
    site.office.people.invite(site.owner, whom, WORD, site.clock.now + timedelta(days=1))


def test_the_first_person_is_owner_and_there_is_no_second_first(site: Staff) -> None:
    assert site.owner.permissions == ALL_PERMISSIONS
    with pytest.raises(Conflict, match="has an Owner"):
        site.office.people.first_invitation(WORD, site.clock.now + timedelta(days=1))


def test_a_link_is_used_once(site: Staff) -> None:
    invited(site)
    site.office.people.redeem(WORD, lambda _c, _p: None)

    with pytest.raises(AccessDenied, match="was used"):
        site.office.people.redeem(WORD, lambda _c, _p: None)


def test_an_old_or_unknown_link_is_none(site: Staff) -> None:
    invited(site)
    site.clock.pass_days(2)

    for word in (WORD, bytes(32)):
        with pytest.raises(AccessDenied, match="expired"):
            site.office.people.redeem(word, lambda _c, _p: None)


def test_what_fails_beside_leaves_the_link_good(site: Staff) -> None:
    invited(site)

    def fails(_connection: object, _person: object) -> None:
        raise ConfigError("the password is too short")

    with pytest.raises(ConfigError):
        site.office.people.redeem(WORD, fails)
    assert site.office.people.redeem(WORD, lambda _c, _p: None).name == "New"


def test_rights_come_from_the_office_not_from_the_caller(site: Staff) -> None:
    user = site.join("rossi")
    says = replace(user, permissions=ALL_PERMISSIONS, roles=frozenset({"Owner"}))

    with pytest.raises(AccessDenied, match="create-users"):
        site.office.people.set_roles(says, user.id, frozenset({"Owner"}))


def test_somebody_who_is_not_here_may_nothing(site: Staff) -> None:
    stranger = Actor(id="01STRANGER", name="Olga", office="tum", permissions=ALL_PERMISSIONS)

    with pytest.raises(AccessDenied, match="is not here"):
        site.office.people.find(stranger)


@pytest.mark.parametrize("role", ["Administrator", "Compliance Officer", "Data Steward", "User"])
def test_nobody_promotes_themselves_or_makes_a_second_owner(site: Staff, role: str) -> None:
    person, other = site.join("rossi", role), site.join("bianchi")
    owner = frozenset({"Owner"})

    for target in (person.id, other.id):
        with pytest.raises(AccessDenied):
            site.office.people.set_roles(person, target, owner)
    whom = Invited(name="Me", email="me2@x.org", roles=owner)
    with pytest.raises(AccessDenied):
        site.office.people.invite(person, whom, WORD, site.clock.now + timedelta(days=1))


def test_an_administrator_touches_no_owner(site: Staff) -> None:
    administrator = site.join("rossi", "Administrator")
    token, until = WORD, site.clock.now + timedelta(days=1)

    with pytest.raises(AccessDenied):
        site.office.people.reset(administrator, site.owner.id, token, until)
    with pytest.raises(AccessDenied):
        site.office.people.revoke(administrator, site.owner.id, "a coup")


def test_a_role_never_gets_what_its_maker_lacks(site: Staff) -> None:
    site.office.roles.make_role(
        site.owner, Role(name="Builder", permissions=frozenset({Permission.EDIT_ROLES}))
    )
    builder = site.join("rossi", "Builder")

    with pytest.raises(AccessDenied, match="hands out"):
        site.office.roles.change_role(builder, Role(name="Builder", permissions=ALL_PERMISSIONS))


def test_built_in_roles_stay_and_held_roles_are_not_removed(site: Staff) -> None:
    site.join("weber", "Data Steward")

    with pytest.raises(AccessDenied):
        site.office.roles.change_role(site.owner, Role(name="User", permissions=ALL_PERMISSIONS))
    with pytest.raises(Conflict, match="weber have role"):
        site.office.roles.remove_role(site.owner, "Data Steward")


def test_groups_are_made_changed_and_removed(site: Staff) -> None:
    person, roles = site.join("rossi"), site.office.roles
    group = roles.make_group(site.owner, "heart")

    roles.add_member(site.owner, group.id, person.id)
    roles.rename_group(site.owner, group.id, "hearts")
    assert site.office.people.get(site.owner, person.id).groups == {"hearts"}
    roles.remove_member(site.owner, group.id, person.id)
    roles.remove_group(site.owner, group.id)

    assert roles.groups(site.owner) == ()


def test_nobody_joins_a_group_by_themselves(site: Staff) -> None:
    group = site.office.roles.make_group(site.owner, "heart")

    with pytest.raises(AccessDenied, match="nobody changes their own rights"):
        site.office.roles.add_member(site.owner, group.id, site.owner.id)


def test_a_revoked_person_may_nothing_from_then_on(site: Staff) -> None:
    person = site.join("rossi")
    site.office.people.revoke(site.owner, person.id, "left")

    with pytest.raises(AccessDenied):
        site.office.people.actor(person.id)
    with pytest.raises(AccessDenied):
        site.office.roles.roles(person)
    assert site.office.people.get(site.owner, person.id).state is PersonState.REVOKED


def test_people_are_found_by_words(site: Staff) -> None:
    site.join("rossi")
    site.join("weber", "Data Steward")

    assert [one.name for one in site.office.people.find(site.owner, "steward web")] == ["weber"]


def test_an_edit_of_what_changed_meanwhile_is_refused(site: Staff) -> None:
    people, me = site.office.people, site.owner.id
    people.change(site.owner, me, name="Olga", email="o@x.org", version=1)

    with pytest.raises(Conflict, match="version 2"):
        people.change(site.owner, me, name="Olga", email="p@x.org", version=1)


def test_the_command_line_is_who_the_machine_says(site: Staff) -> None:
    assert site.office.people.operator("root").id == site.owner.id
    with pytest.raises(AccessDenied, match="belongs to nobody"):
        site.office.people.operator("somebody")


def test_an_account_of_the_machine_is_one_persons(site: Staff) -> None:
    person = site.join("rossi")

    with pytest.raises(Conflict, match="is linked"):
        site.office.people.link(site.owner, person.id, "root")
    site.office.people.link(site.owner, person.id, "rossi")
    assert site.office.people.operator("rossi").id == person.id


def test_a_refusal_is_logged_and_changes_nothing(site: Staff) -> None:
    user = site.join("rossi")
    with pytest.raises(AccessDenied):
        site.office.people.revoke(user, site.owner.id, "no reason")

    last = site.office.log.latest(site.owner, LogFilter(outcome="denied"), Page(most=1))[0]

    assert (last.actor, last.action, last.outcome) == (user.id, "revoke-person", Outcome.DENIED)
    assert site.office.people.get(site.owner, site.owner.id).state is PersonState.ACTIVE


def test_what_is_not_there_is_not_found(site: Staff) -> None:
    with pytest.raises(NotFound):
        site.office.people.get(site.owner, "01NOBODY")


def test_settings_are_changed_by_few_and_by_version(site: Staff) -> None:
    settings = site.office.settings
    now = settings.get(site.owner)
    user = site.join("rossi")

    with pytest.raises(AccessDenied):
        settings.change(user, now)
    assert settings.change(site.owner, replace(now, title="Charité")).version == 2
    with pytest.raises(Conflict):
        settings.change(site.owner, now)
