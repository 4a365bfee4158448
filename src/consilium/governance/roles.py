# SPDX-License-Identifier: Apache-2.0
"""Who people are in an office: seven permissions, roles made of them, groups, persons.

Four roles exist in every office and never change; an office makes others of the same seven
permissions. A person may hold several. Not here: what a permission allows (`access`), passwords,
sessions.

Guarantees: nobody can hand out, or take from another, a permission that they do not hold.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final

from consilium.errors import ConfigError


class Permission(StrEnum):
    """What a role can carry. Nothing else distinguishes one role from another."""

    TRIAGE_REQUESTS = "triage-requests"  # review projects and requests, grant, set caps, revoke
    EDIT_SETTINGS = "edit-settings"
    CREATE_USERS = "create-users"
    CREATE_GROUPS = "create-groups"
    EDIT_ROLES = "edit-roles"
    MANAGE_INFRASTRUCTURE = "manage-infrastructure"  # associations, hosted processes, models
    UPLOAD_DATA = "upload-data"  # register, describe and withdraw datasets


ALL_PERMISSIONS: Final = frozenset(Permission)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A name for some permissions.

    Attributes:
        name: In this office.
        permissions: What its holders may do.
        built_in: It exists everywhere and never changes.
    """

    name: str
    permissions: frozenset[Permission]
    built_in: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > 60:
            raise ConfigError(f"role {self.name!r}; expected a name of 1 to 60 characters")


USER: Final = Role(name="User", permissions=frozenset(), built_in=True)
COMPLIANCE_OFFICER: Final = Role(
    name="Compliance Officer", permissions=frozenset({Permission.TRIAGE_REQUESTS}), built_in=True
)
ADMINISTRATOR: Final = Role(
    name="Administrator",
    permissions=ALL_PERMISSIONS - {Permission.EDIT_ROLES, Permission.MANAGE_INFRASTRUCTURE},
    built_in=True,
)
OWNER: Final = Role(name="Owner", permissions=ALL_PERMISSIONS, built_in=True)
BUILT_IN: Final = {role.name: role for role in (USER, COMPLIANCE_OFFICER, ADMINISTRATOR, OWNER)}
DATA_STEWARD: Final = Role(  # every new office has it; it may be changed
    name="Data Steward",
    permissions=frozenset({Permission.TRIAGE_REQUESTS, Permission.UPLOAD_DATA}),
)


class PersonState(StrEnum):
    """Whether a person may act."""

    ACTIVE = "active"
    REVOKED = "revoked"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody with an account in this office.

    Attributes:
        id: ULID.
        name: As others read it.
        email: What they sign in with; unique here.
        roles: Names of roles.
        groups: Names of groups.
        permissions: Of all their roles together.
        state: Whether they may act.
        key: Ed25519 public key that they sign with, or None.
        version: Grows with every change.
    """

    id: str
    name: str
    email: str
    roles: frozenset[str]
    groups: frozenset[str]
    permissions: frozenset[Permission]
    state: PersonState = PersonState.ACTIVE
    key: bytes | None = None
    version: int = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """People who are granted datasets together.

    Attributes:
        id: ULID.
        name: Unique in this office.
        members: Ids of persons.
        version: Grows with every change.
    """

    id: str
    name: str
    members: frozenset[str]
    version: int = 1


def permissions_of(roles: frozenset[Role]) -> frozenset[Permission]:
    """Returns what somebody with all of `roles` may do."""
    return frozenset(permission for role in roles for permission in role.permissions)
