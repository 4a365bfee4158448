# SPDX-License-Identifier: Apache-2.0
"""Three real operators, a publication, and the page that asks them; what they received is kept."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, final
from unittest.mock import patch

import msgspec
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import FilePayload, Page, expect
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.adapters.inference import parties as real
from tests.adapters.inference.parties import (
    Parties,
    free_port,
    publish_small,
    three_operators,
    until,
)

from consilium.adapters.inference.asking import Offered
from consilium.adapters.inference.computing import Operator
from consilium.adapters.inference.kit import Address, Operators, make_kits, read_operators
from consilium.adapters.inference.pictures import read_pictures
from consilium.adapters.inference.public_end import make_app, serve
from consilium.adapters.inference.publishing import compile_owned, publish
from consilium.inference.ring import Words, unpack
from consilium.inference.sharing import to_ring, unshare
from consilium.learning.familiarity import Kind
from consilium.learning.models.registry import build
from consilium.learning.preprocessing import Preprocessing
from consilium.web.phone.encrypted_site import ask_and_make_site, make_encrypted_site
from consilium.web.phone.pages import PhoneSite
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
        """Of both operators."""
        computing = read_operators(self.parties.kits).computing
        return [f"https://{one.host}:{one.port}" for one in computing]

    @property
    def uploads(self) -> list[Request]:
        """The shares that came."""
        return [one for one in self.received if one.method == "POST"]


@contextmanager
def encrypted_page(folder: Path, *, stock: int = 3, kind: Kind | None = None) -> Iterator[Asked]:
    """Starts three operators with a model of random weights, and offers a page that asks them."""
    port = free_port()
    received: list[Request] = []

    def recording(operator: Operator) -> Starlette:
        app = make_app(operator, (f"http://127.0.0.1:{port}",))
        app.add_middleware(Recorder, operator=operator.party, received=received)
        return app

    with patch.object(real, "make_app", recording), three_operators(folder, stock=stock) as parties:
        _publish(parties, stock, kind)
        offered = parties.patient.model(None)
        site = ask_and_make_site(parties.kits, None)
        received.clear()
        with _offering(site, port) as url:
            yield Asked(url=url, parties=parties, offered=offered, received=received)


def _publish(parties: Parties, stock: int, kind: Kind | None) -> None:
    if kind is None:
        publish_small(parties, stock=stock)
        return
    model = real.owned()
    compiled = compile_owned(model, None)
    name = publish(parties.kits / "owner", compiled, real.card_of(model, compiled, kind))
    until(lambda: real.stocked(parties, name, stock))


@contextmanager
def _offering(site: PhoneSite, port: int) -> Iterator[str]:
    with make_server(site, ("127.0.0.1", port)) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{port}/"
        server.shutdown()
        thread.join()


# -- Operators that only listen --------------------------------------------------------


def made_up(
    shape: tuple[int, int, int] = real.SHAPE, preprocessing: Preprocessing | None = None
) -> Offered:
    """Returns a publication that no operator holds."""
    owned = replace(
        real.owned(),
        model=build("logistic", shape=shape, classes=3, seed=0),
        shape=shape,
        preprocessing=preprocessing or Preprocessing(),
    )
    compiled = compile_owned(owned, None)
    card = real.card_of(owned, compiled)
    return Offered(publication="0b" * 32, card=card, ready=True, images=9, program=compiled.program)


@contextmanager
def listening(folder: Path, offered: Offered) -> Iterator[tuple[str, list[Request]]]:
    """Offers a page that asks operators who take shares and never answer; yields what came."""
    port, ports = free_port(), (free_port(), free_port())
    both = tuple(Address("127.0.0.1", free_port(), one) for one in ports)
    operators, received = Operators((both[0], both[1])), list[Request]()
    make_kits(folder / "kits", operators)
    servers = []
    for k, one in enumerate(ports):
        kit = folder / "kits" / f"operator-{k}"
        app = _silent(offered, f"http://127.0.0.1:{port}")
        app.add_middleware(Recorder, operator=k, received=received)
        servers.append(
            serve(app, port=one, certificate=kit / "certificate.pem", key=kit / "key.pem")
        )
    until(lambda: all(server.started for server in servers))
    with _offering(make_encrypted_site(operators, offered), port) as url:
        yield url, received
    for server in servers:
        server.should_exit = True


def _silent(offered: Offered, origin: str) -> Starlette:
    listed = msgspec.to_builtins(offered) | {
        "ring_bits": offered.program.ring_bits,
        "image": offered.program.image,
        "image_fraction": offered.program.image_fraction,
        "unit": offered.program.unit,
    }

    async def models(_: object) -> JSONResponse:
        return JSONResponse({"models": [listed]})

    async def took(request: StarletteRequest) -> JSONResponse:
        await request.body()
        return JSONResponse({}, 202)

    async def never(_: object) -> JSONResponse:
        return JSONResponse({"error": "this one only listens"}, 410)

    allowed = Middleware(
        CORSMiddleware,
        allow_origins=[origin],
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type"],
    )
    routes = [
        Route("/v1/models", models),
        Route("/v1/sessions/{session}", took, methods=["POST"]),
        Route("/v1/sessions/{session}/answer", never),
    ]
    return Starlette(routes=routes, middleware=[allowed])


def secret_of(uploads: Sequence[Request], offered: Offered) -> Words:
    """Returns the words that two shares make."""
    bits, count = offered.program.ring_bits, int(np.prod(offered.program.image))
    by_operator = sorted(uploads, key=lambda one: one.operator)
    first, second = (unpack(bytes(one.body), bits, (count,)) for one in by_operator)
    return unshare(first, second, bits)


def words_of(path: Path, offered: Offered) -> Words:
    """Returns the words that Python makes of a picture."""
    card, program = offered.card, offered.program
    rule = Preprocessing(
        mean=card.mean, std=card.std, standardise_each_image=card.standardise_each_image
    )
    images = read_pictures([path], card.about.input, rule)
    return to_ring(images.transpose(0, 2, 3, 1), program.image_fraction, program.ring_bits).reshape(
        -1
    )


@final
class Recorder:
    """Keeps what an application receives and answers."""

    def __init__(self, app: ASGIApp, operator: int, received: list[Request]) -> None:
        self._app, self._operator, self._received = app, operator, received

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = scope["query_string"].decode()
        one = Request(self._operator, scope["method"], scope["path"], query, headers)
        self._received.append(one)

        async def hear() -> Message:
            message = await receive()
            one.body.extend(message.get("body", b""))
            return message

        async def say(message: Message) -> None:
            one.status = message.get("status", one.status)
            one.answer.extend(message.get("body", b""))
            await send(message)

        await self._app(scope, hear, say)


# -- The page -------------------------------------------------------------------------


def opened(page: Page, url: str) -> Page:
    page.goto(url)
    expect(page.locator("#file")).to_be_enabled(timeout=SLOW)
    return page


def chosen(page: Page, data: bytes, name: str = "lung.png") -> None:
    picture: FilePayload = {"name": name, "mimeType": "image/png", "buffer": data}
    page.set_input_files("#file", picture)
    expect(page.locator("#keep:visible, #delete:visible")).to_be_visible(timeout=SLOW)


def sent(page: Page) -> None:
    """Says yes to sending, and waits for an answer or a refusal."""
    page.click("#send")
    expect(page.locator("#answer:not(:empty), #refused:not(:empty)").first).to_be_visible(
        timeout=SLOW
    )


def a_picture(seed: int = 0) -> NDArray[np.uint8]:
    """Returns smooth grey levels that fill a square of 28."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 7))
    return np.kron(coarse, np.ones((4, 4))).astype(np.uint8)
