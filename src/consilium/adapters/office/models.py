# SPDX-License-Identifier: Apache-2.0
"""Published models of an office."""

from typing import final

from consilium.adapters.office.desk import Desk
from consilium.adapters.office.values import NewModel
from consilium.governance.access import Actor
from consilium.governance.model_permissions import ModelPermissions, ModelVersion, Use


@final
class Models:
    """Versions, permissions, lineage."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def publish(self, actor: Actor, new: NewModel) -> ModelVersion:
        """Keeps a new version; nothing may be done with it yet."""
        raise NotImplementedError

    def versions(self, actor: Actor, name: str | None = None) -> tuple[ModelVersion, ...]:
        """Returns all, or those of a name, newest first."""
        raise NotImplementedError

    def resolve(self, actor: Actor, name: str, version: str = "latest") -> ModelVersion:
        """Returns the version that is meant."""
        raise NotImplementedError

    def permit(self, actor: Actor, model: str, permissions: ModelPermissions) -> ModelVersion:
        """Replaces what may be done with a version."""
        raise NotImplementedError

    def use(self, actor: Actor, name: str, version: str, use: Use) -> ModelVersion:
        """Returns the version if it may be used so; logged either way.

        Raises:
            AccessDenied: It may not.
        """
        raise NotImplementedError

    def withdraw(self, actor: Actor, model: str, reason: str) -> ModelVersion:
        """Ends every use of a version."""
        raise NotImplementedError
