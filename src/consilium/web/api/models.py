# SPDX-License-Identifier: Apache-2.0
"""Published models: versions, `latest`, what may be done with them, download."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request, Response
from pydantic import Field

from consilium.adapters.office.office import Office
from consilium.adapters.office.values import NewModel
from consilium.governance.access import Actor
from consilium.governance.model_permissions import ModelPermissions, Use
from consilium.governance.model_permits import PERMIT, encode_permit
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.files import FILE, file_answer
from consilium.web.api.once import spending
from consilium.web.api.people import Why
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Cursor,
    Editing,
    Id,
    Listed,
    listed,
    tagged,
)
from consilium.web.model_files import model_answer

router = APIRouter(tags=["models"])
once = spending()
Version = Annotated[str, Field(pattern=r"^(latest|[1-9][0-9]{0,8})$")]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
File = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$")]


class PermissionsAnswer(Answer):
    """What may be done with a version."""

    allow_download: bool
    allow_device: bool
    allow_remote_inference: bool
    encrypted_only: bool


class ModelAnswer(Answer):
    """One version of a model, and where it comes from."""

    id: str
    name: str
    version: int
    digest: str
    project: str
    run: str
    epsilon: float | None
    delta: float | None
    published: datetime
    withdrawn: datetime | None
    permissions: PermissionsAnswer


class ModelAsked(Asked):
    """A checkpoint in the office's folder of models, to publish under a name."""

    name: Id
    digest: Digest
    file: File
    project: Id
    run: Id
    epsilon: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    delta: Annotated[float, Field(ge=0, lt=1)] | None


class PermissionsAsked(Asked):
    """What is to be allowed; by default nothing."""

    allow_download: bool = False
    allow_device: bool = False
    allow_remote_inference: bool = False
    encrypted_only: bool = False


@router.get("/models")
def find_models(actor: CurrentActor, office: TheOffice, part: Cursor) -> Listed[ModelAnswer]:
    """Returns every version of every model."""
    found = office.models.versions(actor)
    return listed(found, part, ModelAnswer.model_validate, lambda one: one.id)


@once.post("/models", status_code=201)
def publish_model(asked: ModelAsked, actor: CurrentActor, office: TheOffice) -> ModelAnswer:
    """Publishes a checkpoint; nothing may be done with it before somebody else allows it."""
    return ModelAnswer.model_validate(office.models.publish(actor, NewModel(**asked.model_dump())))


@router.get("/models/{name}")
def find_versions(
    name: Id, actor: CurrentActor, office: TheOffice, part: Cursor
) -> Listed[ModelAnswer]:
    """Returns every version of a model."""
    found = office.models.versions(actor, name)
    return listed(found, part, ModelAnswer.model_validate, lambda one: one.id)


@router.get("/models/{name}/{version}")
def get_model(
    name: Id, version: Version, actor: CurrentActor, office: TheOffice, response: Response
) -> ModelAnswer:
    """Returns the version that is meant; `latest` is the newest that was not withdrawn."""
    return tagged(response, _model(actor, office, name, version))


@router.put("/models/{name}/{version}/permissions")
def permit_model(
    name: Id,
    version: Version,
    asked: PermissionsAsked,
    edit: Editing,
) -> ModelAnswer:
    """Replaces what may be done with a version; its publisher may not."""
    now = _model(edit.actor, edit.office, name, version)
    edit.check(now)
    changed = edit.office.models.permit(edit.actor, now.id, ModelPermissions(**asked.model_dump()))
    return edit.tagged(ModelAnswer.model_validate(changed))


@router.post("/models/{name}/{version}/withdrawal")
def withdraw_model(
    name: Id, version: Version, asked: Why, actor: CurrentActor, office: TheOffice
) -> ModelAnswer:
    """Ends every use of a version."""
    found = _model(actor, office, name, version)
    return ModelAnswer.model_validate(office.models.withdraw(actor, found.id, asked.reason))


@router.get("/models/{name}/{version}/file", response_class=Response, responses=FILE)
def download_model(
    name: Id, version: Version, actor: CurrentActor, office: TheOffice, request: Request
) -> Response:
    """Returns the weights (safetensors), if the version may be downloaded."""
    model = office.models.use(actor, name, version, Use.DOWNLOAD)
    return model_answer(request, model)


@router.get("/models/{name}/{version}/permit", response_class=Response, responses=FILE)
def download_permit(name: Id, version: Version, actor: CurrentActor, office: TheOffice) -> Response:
    """Returns the office's signed word on what may be done with a version, to lie beside it."""
    permit = office.models.statement(actor, name, version)
    return file_answer(encode_permit(permit), PERMIT)


def _model(actor: Actor, office: Office, name: str, version: str) -> ModelAnswer:
    return ModelAnswer.model_validate(office.models.resolve(actor, name, version))
