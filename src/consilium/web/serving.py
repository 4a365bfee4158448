# SPDX-License-Identifier: Apache-2.0
"""From an office to a socket: where it is reached, under which rules, until it is stopped.

Guarantees: plain HTTP is spoken to this machine alone; anywhere else there is TLS here, or the
operator has said in many words that a proxy in front of it ends TLS.
"""

import hashlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Final, final

import uvicorn
from fastapi import FastAPI

from consilium.adapters.office.office import Office
from consilium.errors import ConfigError
from consilium.web.app import WebSettings, make_app
from consilium.web.security import Place, is_loopback, loopback_origins, origins_of

_STOP_SECONDS: Final = 10


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where to listen.

    Attributes:
        host: Address of this machine.
        port: 0 takes a free one.
        certificate: PEM chain; with `key`, TLS ends here.
        key: PEM.
        proxied_as: https://..., as people reach a proxy in front of this that ends TLS.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    proxied_as: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("one of --tls-cert and --tls-key is missing; expected both or none")
        if self.proxied_as is not None and not self.proxied_as.startswith("https://"):
            raise ConfigError(f"{self.proxied_as!r} is not https://...; expected what people type")
        if not (is_loopback(self.host) or self.certificate or self.proxied_as):
            raise ConfigError(
                f"plain HTTP at {self.host} would send passwords in the clear; expected "
                "--tls-cert and --tls-key, or --host 127.0.0.1"
            )


def bind(listening: Listening) -> socket.socket:
    """Returns a socket that listens.

    Raises:
        ConfigError: The address is taken, or not of this machine.
    """
    family = socket.AF_INET6 if ":" in listening.host else socket.AF_INET
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listening.host, listening.port))
        bound.listen(128)
    except (OSError, OverflowError) as error:
        bound.close()
        raise ConfigError(
            f"nothing can listen at {listening.host} port {listening.port} ({error}); expected a "
            "free port of this machine: choose another --port"
        ) from None
    return bound


def place_of_office(office: Office, listening: Listening, port: int) -> Place:
    """Returns how browsers reach an office that listens at `port`."""
    secure = listening.certificate is not None or listening.proxied_as is not None
    scheme = "https" if listening.certificate is not None else "http"
    if listening.proxied_as is not None:
        origins = origins_of(listening.proxied_as)
    elif is_loopback(listening.host):
        origins = loopback_origins(scheme, port)
    else:
        origins = origins_of(f"https://{_named(listening.host)}:{port}")
    mark = hashlib.sha256(office.settings.facts().key).hexdigest()[:8]  # ports share cookies
    prefix = "__Host-" if secure else ""
    return Place(origins=origins, secure=secure, cookie=f"{prefix}consilium-{mark}")


def serve(app: FastAPI, bound: socket.socket, listening: Listening) -> None:
    """Serves until the process is told to stop."""
    _server(app, listening).run(sockets=[bound])


@contextmanager
def serving(
    office: Office, settings: WebSettings | None = None, listening: Listening | None = None
) -> Iterator[FastAPI]:
    """Gives the application of `office`, served on a thread of this process meanwhile."""
    where = listening or Listening()
    bound = bind(where)
    place = place_of_office(office, where, bound.getsockname()[1])
    app = make_app(office, replace(settings or WebSettings(place=place), place=place))
    server = _server(app, where)
    thread = Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            sleep(0.01)
        yield app
    finally:
        server.should_exit = True
        thread.join(2 * _STOP_SECONDS)
        bound.close()


def _server(app: FastAPI, listening: Listening) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            ssl_certfile=listening.certificate,
            ssl_keyfile=None if listening.key is None else str(listening.key),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=listening.proxied_as is not None,
            forwarded_allow_ips="127.0.0.1",
            timeout_graceful_shutdown=_STOP_SECONDS,
            ws="none",
        )
    )


def _named(host: str) -> str:
    name = socket.getfqdn() if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared
    return f"[{name}]" if ":" in name else name
