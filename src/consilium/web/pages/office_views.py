# SPDX-License-Identifier: Apache-2.0
"""What the pages of administrators show: people, roles, groups, sites, settings, health."""

from dataclasses import dataclass
from datetime import datetime
from typing import final

from consilium.web.pages.parts import Fact, Form, Link, Tag


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonLine:
    """Somebody who can sign in here."""

    id: str
    name: str
    email: str
    roles: tuple[str, ...]
    groups: tuple[str, ...]
    state: Tag


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleView:
    """Users of this office."""

    search: Form
    people: tuple[PersonLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "People"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PersonView:
    """One user."""

    id: str
    title: str
    state: Tag
    facts: tuple[Fact, ...]
    roles: Form | None
    actions: tuple[Link, ...]
    cli: str


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLine:
    """A role and what it allows: yes or no for each permission."""

    name: str
    allows: tuple[bool, ...]
    custom: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RolesView:
    """The table of roles and permissions."""

    permissions: tuple[str, ...]
    roles: tuple[RoleLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "Roles"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLine:
    """People who are granted things together."""

    id: str
    name: str
    members: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class GroupsView:
    """Groups of this office."""

    groups: tuple[GroupLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "Groups"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine:
    """Another office: whether it belongs to this one, and its key in words."""

    id: str
    name: str
    state: Tag
    fingerprint: tuple[str, ...]
    since: datetime
    reason: str
    actions: tuple[Link, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SitesView:
    """Sites that are associated, and signed requests to be."""

    own_name: str
    own_fingerprint: tuple[str, ...]
    asking: tuple[SiteLine, ...]
    sites: tuple[SiteLine, ...]
    actions: tuple[Link, ...]
    cli: str
    title: str = "Sites"


@final
@dataclass(frozen=True, slots=True)
class HealthLine:
    """One thing that was looked at; `advice` says what to do if it is not well."""

    name: str
    state: Tag
    found: str
    advice: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """How this office is."""

    lines: tuple[HealthLine, ...]
    looked: datetime
    cli: str
    title: str = "Health"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsView:
    """What this office has decided for itself."""

    facts: tuple[Fact, ...]
    form: Form | None
    actions: tuple[Link, ...]
    cli: str
    title: str = "Settings"
