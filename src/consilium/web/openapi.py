# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, made true where the framework's own is not.

Refusals are `application/problem+json`; a route that needs a session says so; one that everybody
may call says `x-anonymous`.
"""

from typing import Any, Final

from fastapi import FastAPI

from consilium.web.problems import MEDIA_TYPE
from consilium.web.security import Place

SESSION: Final = "session"
_OWN: Final = "#/components/schemas/ProblemAnswer"
_JSON: Final = "application/json"


def describe(app: FastAPI, place: Place) -> None:
    """Makes `app.openapi` return the document as it should be."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _amended(plain(), place)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _amended(document: dict[str, Any], place: Place) -> dict[str, Any]:
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[SESSION] = {
        "type": "apiKey",
        "in": "cookie",
        "name": place.cookie,
        "description": "Set by POST /api/v1/session; with it, unsafe methods need an Origin.",
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _amend(path, operation)
    return document


def _amend(path: str, operation: dict[str, Any]) -> None:
    for response in operation["responses"].values():
        content = response.get("content", {})
        if content.get(_JSON, {}).get("schema") == {"$ref": _OWN}:
            content[MEDIA_TYPE] = content.pop(_JSON)
    signed = path.startswith("/api/v1/exchange") or path == "/healthz"
    if not (operation.get("x-anonymous") or operation.get("security") or signed):
        operation["security"] = [{SESSION: []}]
