# SPDX-License-Identifier: Apache-2.0
"""The settings of an office: its policy and its title."""

from dataclasses import replace
from typing import final

import msgspec
from sqlalchemy import Connection

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import OfficeFacts, Settings
from consilium.adapters.store.office_shelves import OFFICE, THE_OFFICE, OfficeRow
from consilium.errors import ConfigError, Conflict
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.contract import values_difference
from consilium.governance.policy import Policy


@final
class OfficeSettings:
    """Read by everybody, changed by few."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def facts(self) -> OfficeFacts:
        """Returns which office this is; public."""
        with self._desk.database.reading() as connection:
            row = OFFICE.get(connection, THE_OFFICE)
        return OfficeFacts(name=row.name, kind=row.kind, key=row.key, founded=row.founded)

    def get(self, actor: Actor) -> Settings:
        """Returns the settings."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_SETTINGS, Resource(kind=ResourceKind.OFFICE))
            return _settings(OFFICE.get(turn.connection, THE_OFFICE))

    def change(self, actor: Actor, new: Settings) -> Settings:
        """Replaces the settings.

        Raises:
            Conflict: They were changed since `new.version`.
            ConfigError: A value is out of range.
        """
        if not 1 <= new.idle_minutes <= 24 * 60 or not 0 < len(new.title) <= 200:
            raise ConfigError(f"{new.idle_minutes=}; expected 1 to 1440, and a title")
        with self._desk.acting(actor) as turn:
            turn.allow(Action.EDIT_SETTINGS, Resource(kind=ResourceKind.OFFICE))
            row = OFFICE.get(turn.connection, THE_OFFICE)
            if row.version != new.version:
                raise Conflict(f"the settings are at version {row.version}; you read {new.version}")
            after = replace(
                row,
                policy=new.policy,
                title=new.title,
                idle_minutes=new.idle_minutes,
                version=row.version + 1,
            )
            OFFICE.put(turn.connection, THE_OFFICE, after)
            turn.note({"changed": _changes(row, after)})
        return _settings(after)


def policy_of(connection: Connection) -> Policy:
    """Returns the policy as it stands now."""
    return OFFICE.get(connection, THE_OFFICE).policy


def _changes(before: OfficeRow, after: OfficeRow) -> str:
    return values_difference(msgspec.to_builtins(before.policy), msgspec.to_builtins(after.policy))


def _settings(row: OfficeRow) -> Settings:
    return Settings(
        policy=row.policy, title=row.title, idle_minutes=row.idle_minutes, version=row.version
    )
