# SPDX-License-Identifier: Apache-2.0
"""The settings of an office: its policy and its title."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import OfficeFacts, Settings
from consilium.governance.access import Actor


@final
class OfficeSettings:
    """Read by everybody, changed by few."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def facts(self) -> OfficeFacts:
        """Returns which office this is; public."""
        raise NotImplementedError

    def get(self, actor: Actor) -> Settings:
        """Returns the settings."""
        raise NotImplementedError

    def change(self, actor: Actor, new: Settings) -> Settings:
        """Replaces the settings.

        Raises:
            Conflict: They were changed since `new.version`.
        """
        raise NotImplementedError
