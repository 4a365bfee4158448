# SPDX-License-Identifier: Apache-2.0
"""Published models of an office."""

from dataclasses import replace
from typing import final

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.values import NewModel
from consilium.adapters.store.office_shelves import MODELS, PROJECTS
from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, Resource, ResourceKind
from consilium.governance.model_permissions import (
    HOLDING,
    ModelPermissions,
    ModelVersion,
    Use,
    may_use,
    resolve,
)
from consilium.governance.model_permits import Permit, Signer, permit_of


@final
class Models:
    """Versions, permissions, lineage."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def publish(self, actor: Actor, new: NewModel) -> ModelVersion:
        """Keeps a new version; nothing may be done with it yet."""
        with self._desk.acting(actor) as turn:
            project = PROJECTS.get(turn.connection, new.project)
            resource = Resource(kind=ResourceKind.MODEL, id=new.project, author=project.author)
            turn.allow(Action.PUBLISH_MODEL, resource)
            before = MODELS.having(turn.connection, "name", new.name)
            model = ModelVersion(
                id=self._desk.new_id(),
                name=new.name,
                version=1 + max((one.version for one in before), default=0),
                digest=new.digest,
                file=new.file,
                project=new.project,
                run=new.run,
                epsilon=new.epsilon,
                delta=new.delta,
                published=turn.now,
            )
            MODELS.add(turn.connection, model.id, model)
            facts = {"name": model.name, "version": model.version, "digest": model.digest}
            turn.note(facts, about=model.id)
        return model

    def versions(self, actor: Actor, name: str | None = None) -> tuple[ModelVersion, ...]:
        """Returns all, or those of a name, newest first."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_MODEL, Resource(kind=ResourceKind.MODEL))
            found = MODELS.where(turn.connection)
        return tuple(one for one in reversed(found) if name in (None, one.name))

    def resolve(self, actor: Actor, name: str, version: str = "latest") -> ModelVersion:
        """Returns the version that is meant.

        Raises:
            NotFound: There is none.
        """
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_MODEL, Resource(kind=ResourceKind.MODEL))
            return resolve(MODELS.having(turn.connection, "name", name), name, version)

    def permit(self, actor: Actor, model: str, permissions: ModelPermissions) -> ModelVersion:
        """Replaces what may be done with a version."""
        with self._desk.acting(actor) as turn:
            old = MODELS.get(turn.connection, model)
            author = PROJECTS.get(turn.connection, old.project).author
            turn.allow(
                Action.EDIT_MODEL, Resource(kind=ResourceKind.MODEL, id=model, author=author)
            )
            new = replace(old, permissions=permissions)
            MODELS.put(turn.connection, model, new)
            turn.note(
                {
                    "allow_download": permissions.allow_download,
                    "allow_device": permissions.allow_device,
                    "allow_remote_inference": permissions.allow_remote_inference,
                    "encrypted_only": permissions.encrypted_only,
                }
            )
        return new

    def use(self, actor: Actor, name: str, version: str, use: Use) -> ModelVersion:
        """Returns the version if it may be used so; logged either way.

        Raises:
            AccessDenied: It may not.
        """
        action = Action.DOWNLOAD_MODEL if use is Use.DOWNLOAD else Action.INFER
        with self._desk.acting(actor) as turn:
            model = resolve(MODELS.having(turn.connection, "name", name), name, version)
            turn.allow(action, Resource(kind=ResourceKind.MODEL, id=model.id))
            decision = may_use(model, use)
            turn.note({"use": str(use), "allowed": decision.allowed, "reason": decision.reason})
        if not decision.allowed:
            raise AccessDenied(f"{name} {model.version}: {decision.reason}")
        return model

    def statement(self, actor: Actor, name: str, version: str) -> Permit:
        """Returns the office's signed word on a version, to go wherever it goes; logged.

        Raises:
            AccessDenied: Nothing at all may be done with it.
        """
        with self._desk.acting(actor) as turn:
            model = resolve(MODELS.having(turn.connection, "name", name), name, version)
            turn.allow(Action.SEE_MODEL, Resource(kind=ResourceKind.MODEL, id=model.id))
            return self._sign(turn, model)

    def release(self, actor: Actor, name: str, version: str) -> tuple[ModelVersion, Permit]:
        """Returns a version and its permit, to take the weights out of the office's folder.

        Where nobody may hold the weights, that is for those alone who may decide on the model, to
        publish it to operators.

        Raises:
            AccessDenied: Nothing at all may be done with it, or not by this actor.
        """
        with self._desk.acting(actor) as turn:
            model = resolve(MODELS.having(turn.connection, "name", name), name, version)
            author = PROJECTS.get(turn.connection, model.project).author
            leaves = any(may_use(model, use).allowed for use in HOLDING)
            turn.allow(
                Action.DOWNLOAD_MODEL if leaves else Action.EDIT_MODEL,
                Resource(kind=ResourceKind.MODEL, id=model.id, author=author),
            )
            return model, self._sign(turn, model)

    def _sign(self, turn: Turn, model: ModelVersion) -> Permit:
        decisions = [may_use(model, use) for use in Use]
        if not any(decision.allowed for decision in decisions):
            raise AccessDenied(
                f"{model.name} {model.version}: {decisions[0].reason}; expected a yes to some use: "
                "`consilium model permit`, by somebody who did not train it"
            )
        turn.note({"permit": " ".join(model.permissions.words())})
        return permit_of(model, self.signer(), turn.now)

    def signer(self) -> Signer:
        """Returns the office as it signs."""
        return Signer(self._desk.name, self._desk.key)

    def withdraw(self, actor: Actor, model: str, reason: str) -> ModelVersion:
        """Ends every use of a version."""
        with self._desk.acting(actor) as turn:
            old = MODELS.get(turn.connection, model)
            author = PROJECTS.get(turn.connection, old.project).author
            turn.allow(
                Action.WITHDRAW_MODEL, Resource(kind=ResourceKind.MODEL, id=model, author=author)
            )
            gone = replace(old, withdrawn=old.withdrawn or turn.now)
            MODELS.put(turn.connection, model, gone)
            turn.note({"reason": reason})
        return gone
