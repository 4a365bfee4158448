# SPDX-License-Identifier: Apache-2.0
"""Pages (not yet here)."""

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from consilium.web.problems import Problem

router = APIRouter(include_in_schema=False)


def problem_page(request: Request, problem: Problem) -> Response:  # noqa: ARG001
    """Returns a problem as text."""
    return PlainTextResponse(f"{problem.title}: {problem.why}", problem.status)
