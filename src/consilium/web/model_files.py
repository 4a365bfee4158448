# SPDX-License-Identifier: Apache-2.0
"""A published model's weights, sent as they were published or not at all."""

import hashlib
from pathlib import Path
from typing import cast

from fastapi import Request, Response
from fastapi.responses import FileResponse

from consilium.errors import DataError, NotFound
from consilium.governance.model_permissions import ModelVersion


def model_answer(request: Request, model: ModelVersion) -> Response:
    """Returns the file of `model`, which the caller was already allowed to have.

    Raises:
        NotFound: This office serves no models, or the file is gone.
        DataError: It is not the file that was published.
    """
    folder = cast("Path | None", request.app.state.models_folder)
    path = None if folder is None else folder / Path(model.file).name
    if path is None or not path.is_file():
        raise NotFound(f"the file of {model.name} {model.version} is not here; ask the operator")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.digest:
        raise DataError(
            f"the file of {model.name} {model.version} is not the one that was published; expected "
            "its digest: restore it, or withdraw the version"
        )
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=f"{model.name}-{model.version}.safetensors",
    )
