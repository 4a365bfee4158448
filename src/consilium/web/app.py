# SPDX-License-Identifier: Apache-2.0
"""The application of one office: pages and API, behind one guard.

The only place where they meet. `make_app` owns no socket; `adapters`, `cli` and tests drive it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from consilium import __version__
from consilium.adapters.courier import Courier
from consilium.adapters.identity.accounts import Accounts
from consilium.adapters.identity.provider_sign_in import ProviderSignIn
from consilium.adapters.identity.settings import IdentitySettings
from consilium.adapters.office.office import Office
from consilium.errors import ConsiliumError, NotSignedIn
from consilium.web import api, pages
from consilium.web.openapi import describe
from consilium.web.problems import (
    MEDIA_TYPE,
    Problem,
    broken,
    problem_of,
    problem_of_status,
)
from consilium.web.security import LOG, Guard, Place

STATIC: Final = Path(__file__).parent / "static"
_MOST_ERRORS: Final = 10
_MINUTE: Final = 60.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What an operator decides about serving.

    Attributes:
        place: Where the office is reached.
        identity: Whom it believes beside itself.
        models_folder: Where published models lie; None: nothing can be downloaded.
        courier_seconds: Between two visits at associated coordinators; None: it stays at home.
    """

    place: Place
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    models_folder: Path | None = None
    courier_seconds: float | None = None


def make_app(office: Office, settings: WebSettings) -> FastAPI:
    """Returns the application of `office`."""
    app = FastAPI(
        title=f"consilium: {office.desk.name}",
        version=__version__,
        openapi_url=f"{api.PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        separate_input_output_schemas=False,
    )
    app.state.office = office
    app.state.accounts = Accounts(office)
    app.state.place = settings.place
    app.state.identity = settings.identity
    app.state.provider = _provider(office, app.state.accounts, settings)
    app.state.models_folder = settings.models_folder
    app.state.courier = _courier(office, settings)
    _add_refusals(app)
    app.include_router(api.make_router())
    app.add_api_route("/healthz", _health, methods=["GET"], tags=["health"])
    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.include_router(pages.router)
    app.add_middleware(Guard, place=settings.place, refuse=_refuse_outside)
    describe(app, settings.place)
    return app


def _courier(office: Office, settings: WebSettings) -> Courier | None:
    return None if settings.courier_seconds is None else Courier(office, settings.courier_seconds)


def _provider(office: Office, accounts: Accounts, settings: WebSettings) -> ProviderSignIn | None:
    rule = settings.identity.provider
    return None if rule is None else ProviderSignIn(office, accounts, rule)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    courier: Courier | None = app.state.courier
    tasks = [asyncio.create_task(_expire(app.state.office))]
    tasks += [] if courier is None else [asyncio.create_task(courier.run())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _expire(office: Office) -> None:
    """Ends projects whose time is over, each minute."""
    while True:
        try:
            await asyncio.to_thread(office.runs.expire)
        except (ConsiliumError, SQLAlchemyError):  # tried again in a minute
            LOG.exception("projects could not be expired")
        await asyncio.sleep(_MINUTE)


def _health() -> dict[str, str]:
    """Returns that this process answers; nothing about the office."""
    return {"status": "ok"}


# -- Refusals -------------------------------------------------------------------------


def _add_refusals(app: FastAPI) -> None:
    async def refused(request: Request, error: Exception) -> Response:
        return answer_refusal(request, error)

    for kind in (ConsiliumError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, refused)


async def _refuse_outside(scope: Scope, receive: Receive, send: Send, error: Exception) -> None:
    """Answers for the guard, where no route was reached or a route broke."""
    response = answer_refusal(Request(scope, receive), error)
    await response(scope, receive, send)


def answer_refusal(request: Request, error: Exception) -> Response:
    """Returns a refusal as problem+json, as a page, or as the way to sign in."""
    if wants_json(request):
        return _problem_json(_problem(error))
    if isinstance(error, NotSignedIn) and request.method == "GET":
        return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303)
    return pages.problem_page(request, _problem(error))


def wants_json(request: Request) -> bool:
    """Returns whether a program is asking."""
    path = request.url.path
    if path.startswith("/api/") or path.endswith(".json") or path == "/healthz":
        return True
    return "text/html" not in request.headers.get("accept", "text/html")


def _problem(error: Exception) -> Problem:
    match error:
        case ConsiliumError():
            return problem_of(error)
        case RequestValidationError():
            return problem_of_status(422, _what_is_wrong(error))
        case HTTPException():
            return problem_of_status(error.status_code, str(error.detail))
        case _:
            return broken()


def _what_is_wrong(error: RequestValidationError) -> str:
    """Returns where and why, without the value: it may be a password or a patient's."""
    found = [
        f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}"
        for one in error.errors()[:_MOST_ERRORS]
    ]
    return "; ".join(found) + "; expected what the OpenAPI document says"


def _problem_json(problem: Problem) -> Response:
    wait = problem.retry_after
    headers = {} if wait is None else {"Retry-After": str(wait)}
    return JSONResponse(problem.as_json(), problem.status, headers, media_type=MEDIA_TYPE)
