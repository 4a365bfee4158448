# SPDX-License-Identifier: Apache-2.0
"""HTTPS for patients, at operators 0 and 1: shares of images come, shares of answers go.

    GET  /v1/models                             the public description of every model
    POST /v1/sessions/{session}?model=&count=   the share; Authorization: Bearer TOKEN
    GET  /v1/sessions/{session}/answer          200 the share of the answer, 202 not yet, 410 failed

The format is in docs/inference.md. Guarantees: an upload's size is checked before it is read to
its end; an answer leaves against its token only; nothing of a share or an answer is logged.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.sessions import Busy
from consilium.adapters.inference.shelf import Published
from consilium.errors import AccessDenied, ConsiliumError, DataError
from consilium.inference.messages import InputShare
from consilium.inference.operator import MOST_IMAGES
from consilium.inference.ring import packed_size

_UPLOAD: Final = 60.0  # seconds for one share to come
_WAIT: Final = 20.0  # seconds that a request for an answer waits
_BINARY: Final = "application/octet-stream"


def make_app(operator: Operator, origins: Sequence[str] = ()) -> Starlette:
    """Returns the application; browsers of `origins` may use it."""

    async def models(_: Request) -> Response:
        found = [_described(one) for one in operator.shelf.all() if not one.revoked]
        return _json(200, {"operator": operator.party, "models": found})

    async def upload(request: Request) -> Response:
        return await _guarded(_upload, operator, request)

    async def answer(request: Request) -> Response:
        return await _guarded(_answer, operator, request)

    allowed = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
        expose_headers=["X-Consilium-Facts"],
    )
    routes = [
        Route("/v1/models", models),
        Route("/v1/sessions/{session}", upload, methods=["POST"]),
        Route("/v1/sessions/{session}/answer", answer),
    ]
    return Starlette(routes=routes, middleware=[allowed])


def serve(app: Starlette, *, port: int, certificate: Path, key: Path) -> uvicorn.Server:
    """Starts to serve `app` on a thread; returns the server, to stop it."""
    config = uvicorn.Config(
        app,
        host="0.0.0.0",  # noqa: S104 - a service
        port=port,
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
        log_level="warning",
        access_log=False,
    )
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, daemon=True).start()
    return server


# -- Requests -------------------------------------------------------------------------


async def _upload(operator: Operator, request: Request) -> Response:
    session, token = _hex(request.path_params["session"], 16), _token(request)
    model, count = _hex(request.query_params.get("model", ""), 32), _count(request)
    published = operator.shelf.get(model)
    program = published.put.share.program
    height, width, channels = program.image
    size = packed_size(count * height * width * channels, program.ring_bits)
    body = await _body(request, size)
    if len(body) != size:
        raise DataError(
            f"a share of {len(body)} bytes or more; expected {size} for {count} images of "
            f"{program.image}"
        )
    share = InputShare(model, session, count, body)
    await run_in_threadpool(operator.accept, share, token)
    return _json(202, {"session": session.hex()})


async def _body(request: Request, size: int) -> bytes:
    """Returns the body, or of a longer one as much as shows that it is longer."""
    body = bytearray()
    try:
        async with asyncio.timeout(_UPLOAD):
            async for part in request.stream():
                body += part
                if len(body) > size:
                    break
    except TimeoutError:
        raise DataError(
            f"{len(body)} of {size} bytes came in {_UPLOAD:.0f} s; send anew over a faster line"
        ) from None
    except ClientDisconnect:
        raise DataError("the share was not sent to its end; send anew") from None
    return bytes(body)


async def _answer(operator: Operator, request: Request) -> Response:
    session, token = _hex(request.path_params["session"], 16), _token(request)
    found = await run_in_threadpool(operator.sessions.wait, session, token, _WAIT)
    if found.failure is not None:
        return _json(410, {"error": found.failure})
    if found.answer is None:
        return _json(202, {"session": session.hex()})
    facts = {"X-Consilium-Facts": msgspec.json.encode(found.facts).decode()}
    return Response(found.answer.words, media_type=_BINARY, headers=facts)


async def _guarded(
    handler: Callable[[Operator, Request], Awaitable[Response]],
    operator: Operator,
    request: Request,
) -> Response:
    try:
        return await handler(operator, request)
    except AccessDenied as error:
        return _json(403, {"error": str(error)})
    except Busy as error:
        return _json(503, {"error": str(error)})
    except ConsiliumError as error:
        return _json(422, {"error": str(error)})


def _described(published: Published) -> dict[str, object]:
    program = published.put.share.program
    return {
        "publication": published.put.share.publication.hex(),
        "card": published.card,
        "ready": published.ready,
        "images": len(published.materials.numbers()),
        "ring_bits": program.ring_bits,
        "image": program.image,
        "image_fraction": program.image_fraction,
        "unit": program.unit,
        "program": program,
    }


def _json(status: int, value: object) -> Response:
    headers = {"Cache-Control": "no-store"}
    data = msgspec.json.encode(value)
    return Response(data, status, media_type="application/json", headers=headers)


def _hex(text: str, size: int) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != size:
        raise DataError(f"{text[:40]!r}, expected {size} bytes in hexadecimal; send anew")
    return data


def _token(request: Request) -> bytes:
    kind, _, word = request.headers.get("Authorization", "").partition(" ")
    try:
        token = bytes.fromhex(word) if kind == "Bearer" else b""
    except ValueError:
        token = b""
    if len(token) != 32:  # what was sent is not repeated: it may be one, in part
        raise AccessDenied("no token; send Authorization: Bearer with 32 bytes in hexadecimal")
    return token


def _count(request: Request) -> int:
    text = request.query_params.get("count", "1")
    count = int(text) if text.isdecimal() and len(text) < 4 else 0
    if not 1 <= count <= MOST_IMAGES:
        raise DataError(f"count={text[:10]!r}, expected 1 to {MOST_IMAGES}; send fewer at once")
    return count
