# SPDX-License-Identifier: Apache-2.0
"""The pages of four offices that know each other, each read as a browser would."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.adapters.office.conftest import Federation
from tests.adapters.office.made import Staff

from consilium.governance.access import Actor
from consilium.web.app import WebSettings, make_app
from consilium.web.security import Place

ORIGIN = "http://testserver"
Reading: TypeAlias = Callable[[Staff, Actor], TestClient]


def application(staff: Staff, origin: str = ORIGIN) -> FastAPI:
    place = Place(origins=(origin,), secure=False, cookie=f"session-{staff.name}")
    return make_app(staff.office, WebSettings(place=place))


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def read() -> Iterator[Reading]:
    """Makes a browser of an office in which somebody is signed in."""
    clients: list[TestClient] = []

    def signed_in(staff: Staff, actor: Actor) -> TestClient:
        app = application(staff)
        client = TestClient(app, headers={"origin": ORIGIN, "accept": "text/html"})
        clients.append(client)
        word = app.state.accounts.entry_link(actor.id)
        assert client.post(f"/links/{word}").status_code == 200
        return client

    yield signed_in
    for client in clients:
        client.close()
