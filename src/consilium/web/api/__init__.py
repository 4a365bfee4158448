# SPDX-License-Identifier: Apache-2.0
"""The REST API, /api/v1: every service of the office, and nothing that is not in a service.

One module a resource. The OpenAPI document is at /api/v1/openapi.json; docs/api.md explains.
"""

from typing import Final

from fastapi import APIRouter

from consilium.web.api import (
    associations,
    datasets,
    exchange,
    grants,
    log,
    models,
    people,
    processes,
    projects,
    roles,
    session,
)
from consilium.web.api.shapes import REFUSALS

PREFIX: Final = "/api/v1"


def make_router() -> APIRouter:
    """Returns every route of the API."""
    router = APIRouter(prefix=PREFIX, responses=REFUSALS)
    for module in (
        session,
        people,
        roles,
        datasets,
        grants,
        projects,
        log,
        models,
        processes,
        associations,
        exchange,
    ):
        spending = getattr(module, "once", None)
        if spending is not None:
            router.include_router(spending, tags=list(module.router.tags))
        router.include_router(module.router)
    return router
