# SPDX-License-Identifier: Apache-2.0
"""One request, one effect: what is done under an Idempotency-Key is done once and answered alike.

Guarantees: of two requests of one actor with one key, one is carried out and the other gets its
answer; the same key with another request is refused; a refusal keeps nothing, because nothing was
done. A request whose end was not seen (a crash in between) is never carried out again: the caller
is told to look. Answers are kept for a day. They are answers of this API: no patient is in them.
"""

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy import delete, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from consilium.adapters.store.identity_tables import ANSWERS, seconds
from consilium.errors import ConfigError, Conflict, ConsiliumError
from consilium.web.access import current_actor, office_of
from consilium.wire import digest

KEPT: Final = timedelta(days=1)
HEADER: Final = "Idempotency-Key"


def _named(
    idempotency_key: Annotated[
        str,
        Header(
            alias=HEADER,
            min_length=8,
            max_length=128,
            pattern=r"^[\x21-\x7e]+$",
            description="Made anew by the caller for each thing to do; repeated only to try again.",
        ),
    ],
) -> str:
    return idempotency_key


class OnceRoute(APIRoute):
    """A route whose effect happens once a key."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the handler, with the memory of its answers around it."""
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            if HEADER not in request.headers:
                return await handle(request)  # which refuses it: the header is required
            body = await request.body()
            before = await run_in_threadpool(_begin, request, body)
            if before is not None:
                return before
            try:
                response = await handle(request)
            except (ConsiliumError, HTTPException, RequestValidationError):
                await run_in_threadpool(_forget, request)
                raise
            await run_in_threadpool(_keep, request, response)
            return response

        return once


def spending() -> APIRouter:
    """Returns a router each of whose routes needs an Idempotency-Key."""
    return APIRouter(route_class=OnceRoute, dependencies=[Depends(_named)])


def _begin(request: Request, body: bytes) -> Response | None:
    """Returns the answer of before, or None after noting that this request begins."""
    key = request.headers[HEADER]
    if not 8 <= len(key) <= 128:
        raise ConfigError(f"{HEADER} has {len(key)} characters; expected 8 to 128")
    desk = office_of(request).desk
    now, actor = desk.clock(), current_actor(request).id
    request.state.once = (ANSWERS.c.actor == actor) & (ANSWERS.c.key_digest == _key(key))
    asked = digest("api/request", request.method, request.url.path, body)
    with desk.database.transaction() as connection:
        connection.execute(delete(ANSWERS).where(ANSWERS.c.at <= seconds(now - KEPT)))
        row = connection.execute(select(ANSWERS).where(request.state.once)).one_or_none()
        if row is None:
            values = {"actor": actor, "key_digest": _key(key), "request_digest": asked}
            connection.execute(insert(ANSWERS).values(**values, at=seconds(now)))
            return None
    if row.request_digest != asked:
        raise ConfigError(f"{HEADER} was used for another request; expected a new one")
    if row.status is None:
        raise Conflict(
            "a request with this key is under way, or its end was not seen; expected you to look "
            "whether it was done, and then a new key"
        )
    return Response(
        row.body,
        row.status,
        headers={"Content-Type": "application/json", "Idempotent-Replayed": "true"},
    )


def _forget(request: Request) -> None:
    with office_of(request).desk.database.transaction() as connection:
        connection.execute(delete(ANSWERS).where(request.state.once))


def _keep(request: Request, response: Response) -> None:
    with office_of(request).desk.database.transaction() as connection:
        connection.execute(
            update(ANSWERS)
            .where(request.state.once)
            .values(status=response.status_code, body=bytes(response.body))
        )


def _key(key: str) -> bytes:
    return digest("api/key", key.encode("utf-8", "surrogatepass"))
