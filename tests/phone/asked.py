# SPDX-License-Identifier: Apache-2.0
"""Three real operators, a publication, and the page that asks them; what they received is kept."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final
from unittest.mock import patch

import numpy as np
from playwright.sync_api import FilePayload, Page, expect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.adapters.inference import parties as real
from tests.adapters.inference.parties import Parties, free_port, publish_small, three_operators

from consilium.adapters.inference.asking import Offered
from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.public_end import make_app
from consilium.web.phone.encrypted_site import make_encrypted_site
from consilium.web.phone.serving import make_server

SLOW: Final = 60_000.0  # milliseconds that a loaded machine may take


@final
@dataclass(slots=True)
class Request:
    """What an operator received, and what it answered."""

    operator: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytearray = field(default_factory=bytearray)
    status: int = 0
    answer: bytearray = field(default_factory=bytearray)

    @property
    def line(self) -> str:
        """The call, without what differs each time."""
        parts = self.path.split("/")
        return " ".join([self.method, *("SESSION" if len(one) == 32 else one for one in parts[1:])])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A page and whom it asks."""

    url: str
    parties: Parties
    offered: Offered
    received: list[Request]

    @property
    def origins(self) -> list[str]:
        return [
            f"https://{one.host}:{one.port}" for one in read_operators(self.parties.kits).computing
        ]


@contextmanager
def encrypted_page(folder: Path, *, stock: int = 3) -> Iterator[Asked]:
    """Starts three operators with a model of random weights, and offers a page that asks them."""
    port = free_port()
    received: list[Request] = []

    def recording(operator: Operator) -> ASGIApp:
        app = make_app(operator, (f"http://127.0.0.1:{port}",))
        return _recording(app, operator.party, received)

    with patch.object(real, "make_app", recording), three_operators(folder, stock=stock) as parties:
        publish_small(parties, stock=stock)
        offered = parties.patient.model(None)
        site = make_encrypted_site(read_operators(parties.kits), offered)
        received.clear()
        with make_server(site, ("127.0.0.1", port)) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield Asked(
                url=f"http://127.0.0.1:{port}/",
                parties=parties,
                offered=offered,
                received=received,
            )
            server.shutdown()
            thread.join()


def _recording(app: ASGIApp, operator: int, received: list[Request]) -> ASGIApp:
    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        one = Request(operator, scope["method"], scope["path"], query, headers)
        received.append(one)

        async def hear() -> Message:
            message = await receive()
            one.body.extend(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            one.status = message.get("status", one.status)
            one.answer.extend(message.get("body", b""))
            await send(message)

        await app(scope, hear, say)

    return record


# -- The page -------------------------------------------------------------------------


def opened(page: Page, url: str) -> Page:
    page.goto(url)
    expect(page.locator("#file")).to_be_enabled(timeout=SLOW)
    return page


def chosen(page: Page, data: bytes, name: str = "lung.png") -> None:
    picture: FilePayload = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#file", picture)
    expect(page.locator("#delete")).to_be_visible(timeout=SLOW)


def sent(page: Page) -> None:
    """Says yes to sending, and waits for an answer or a refusal."""
    page.click("#send")
    expect(page.locator("#answer:not(:empty), #refused:not(:empty)").first).to_be_visible(
        timeout=SLOW
    )


def a_picture(seed: int = 0) -> np.typing.NDArray[np.uint8]:
    """Returns smooth grey levels that fill a square of 28."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7))
    return np.kron(coarse, np.ones((4, 4))).astype(np.uint8)
