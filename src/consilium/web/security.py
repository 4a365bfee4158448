# SPDX-License-Identifier: Apache-2.0
"""What every request and every answer goes through, before and after any route.

Guarantees, for pages and API alike: a host that this office is not called by is refused; an
unsafe method from another origin is refused, and so is one that carries the session's cookie and
does not say where it comes from; a body above the limit is refused before it is read whole; no
answer may be framed, sniffed, cached with private content, or run script or style that is not
this office's own file. Logs hold method, route, status and time: no address, query or body.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consilium.errors import AccessDenied, ConsiliumError, TooLarge

LOG: Final = logging.getLogger("consilium.web")
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
PATH_POLICIES: Final[dict[str, str]] = {}  # for a path's beginning, a policy of its own
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" would make a form's Origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
LARGEST_BODY: Final = 1 << 20  # bytes
LARGER_BODIES: Final = {"/api/v1/exchange/": 8 << 20}  # for a path's beginning: projects, cards
_HSTS: Final = "max-age=31536000"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Refuse: TypeAlias = Callable[[Scope, Receive, Send, Exception], Awaitable[None]]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an office is reached.

    Attributes:
        origins: scheme://host:port, as a browser writes them; the first is the one in links.
        secure: Browsers reach it by TLS alone.
        cookie: Name of the session's cookie.
    """

    origins: tuple[str, ...]
    secure: bool
    cookie: str

    def hosts(self) -> frozenset[str]:
        """Returns the names, with ports, that requests may be for."""
        return frozenset(urlsplit(origin).netloc for origin in self.origins)


def loopback_origins(scheme: str, port: int) -> tuple[str, ...]:
    """Returns every origin by which a browser on this machine can name a port."""
    return tuple(f"{scheme}://{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]"))


def is_loopback(host: str) -> bool:
    """Returns whether nobody but this machine can reach `host`."""
    return host in _LOOPBACK


def check_origin(method: str, headers: Headers, place: Place) -> None:
    """Refuses what another site made a browser send.

    Raises:
        AccessDenied: The host is not ours, or an unsafe method is not from our origin.
    """
    if headers.get("host", "") not in place.hosts():
        raise AccessDenied("this office is not called by that host name; expected its own address")
    if method in SAFE:
        return
    origin, fetched = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is not None and origin not in place.origins:
        raise AccessDenied("the request comes from another site; expected this office's own page")
    if fetched is not None and fetched != "same-origin":
        raise AccessDenied("the request comes from another site; expected this office's own page")
    if origin is None and fetched is None and f"{place.cookie}=" in headers.get("cookie", ""):
        raise AccessDenied(
            "the request does not say which site it comes from; expected an Origin header"
        )


@final
class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, place: Place, refuse: Refuse) -> None:
        self._app = app
        self._place = place
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks a request, passes it on, dresses the answer, and logs one line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, send, secure=self._place.secure)
        begun = time.perf_counter()
        try:
            headers = Headers(scope=scope)
            check_origin(scope["method"], headers, self._place)
            limit = largest_body(scope["path"])
            _check_length(headers, limit)
        except ConsiliumError as error:
            await self._refuse(scope, receive, answer.send, error)
        else:
            await self._pass_on(scope, _Bounded(receive, limit), answer)
        finally:
            _log(scope, answer.status, time.perf_counter() - begun)

    async def _pass_on(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            await self._app(scope, receive, answer.send)
        except Exception as error:  # the edge of this process: nothing of it may leave
            LOG.exception("an unexpected error")  # `adapters.logs` shows its type, never its text
            if not answer.status:
                await self._refuse(scope, receive, answer.send, error)


@final
class _Answer:
    """Adds the headers to whatever goes out."""

    def __init__(self, scope: Scope, send: Send, *, secure: bool) -> None:
        self._scope, self._send, self._secure = scope, send, secure
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers["Content-Security-Policy"] = policy(self._scope["path"])
            headers.setdefault("Cache-Control", "no-store")
            if self._secure:
                headers["Strict-Transport-Security"] = _HSTS
        await self._send(message)


def policy(path: str) -> str:
    """Returns the content security policy of a path."""
    return next((own for start, own in PATH_POLICIES.items() if path.startswith(start)), POLICY)


def largest_body(path: str) -> int:
    """Returns how many bytes a request to `path` may have."""
    return next(
        (most for start, most in LARGER_BODIES.items() if path.startswith(start)), LARGEST_BODY
    )


def _check_length(headers: Headers, limit: int) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length) > limit:
        raise TooLarge(f"the body is not of 0 to {limit} bytes; expected a smaller one")


class _Bounded:
    """Reads a body of unknown length up to the limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > self._limit:
                raise HTTPException(413, f"the body has more than {self._limit} bytes")
        return message


def _log(scope: Scope, status: int, seconds: float) -> None:
    route = getattr(scope.get("route"), "path", "-")  # its pattern, without any value
    method = scope["method"]
    facts = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
    LOG.info("%s %s %d", method, route, status, extra=facts)


def origins_of(public_url: str) -> tuple[str, ...]:
    """Returns the origin of the address under which people reach an office."""
    parts = urlsplit(public_url)
    return (f"{parts.scheme}://{parts.netloc}",)
