# SPDX-License-Identifier: Apache-2.0
"""A small server of the phone page: fixed files, the right headers, nothing else.

Guarantees: it reads no file of the machine at a request and takes no data: every path but the
page's own is 404, every method but GET and HEAD is 405. Beyond this machine it serves over TLS
alone, which browsers demand of such a page. Not here: a site's office (`web.app`).
"""

import ssl
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Final, final

from consilium.errors import ConfigError
from consilium.web.phone import policies
from consilium.web.phone.pages import PAGE, PhoneSite, type_of

_SECONDS: Final = 30.0  # that a client may take to ask


def make_server(
    site: PhoneSite,
    address: tuple[str, int],
    *,
    certificate: Path | None = None,
    key: Path | None = None,
) -> ThreadingHTTPServer:
    """Returns a server that is bound to `address` and not yet running.

    Raises:
        ConfigError: An address beyond this machine without a certificate, or a bad certificate.
        OSError: The address is taken.
    """
    context = None if certificate is None else _context(certificate, key)
    if context is None and not is_loopback(address[0]):
        raise ConfigError(
            f"--host {address[0]} is beyond this machine; expected --certificate and --key too: "
            "browsers keep a page on a phone only if it came over TLS"
        )
    server = ThreadingHTTPServer(address, _handler(site))
    if context is not None:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    return server


def is_loopback(host: str) -> bool:
    """Returns whether `host` is this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"certificate {certificate.name} cannot be used ({type(error).__name__}); expected a "
            "PEM chain and its private key: give --certificate and --key"
        ) from None
    return context


def _handler(site: PhoneSite) -> type[BaseHTTPRequestHandler]:
    @final
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS
        protocol_version = "HTTP/1.1"
        server_version = "consilium"
        sys_version = ""

        do_GET: Callable[["Handler"], None] = lambda self: self._answer(body=True)  # noqa: N815
        do_HEAD: Callable[["Handler"], None] = lambda self: self._answer(body=False)  # noqa: N815

        def _answer(self, *, body: bool) -> None:
            name = self.path.partition("?")[0].removeprefix("/") or PAGE
            if name not in site.files:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            packed = "gzip" in self.headers.get("Accept-Encoding", "")
            data = (site.packed if packed else site.files)[name]
            self.send_response(HTTPStatus.OK)
            for header, value in policies.headers(name, site.operators).items():
                self.send_header(header, value)
            self.send_header("Content-Type", type_of(name))
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Cache-Control", policies.freshness(name))
            self.send_header("Vary", "Accept-Encoding")
            if packed:
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            if body:
                self.wfile.write(data)

        def send_error(
            self, code: int, message: str | None = None, explain: str | None = None
        ) -> None:
            """Answers without a word of what was asked."""
            del message, explain
            not_allowed = code == HTTPStatus.NOT_IMPLEMENTED
            self.send_response(HTTPStatus.METHOD_NOT_ALLOWED if not_allowed else code)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Keeps no record of who opened the page."""

    return Handler
