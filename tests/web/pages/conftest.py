# SPDX-License-Identifier: Apache-2.0
"""The pages of four offices that know each other, each read over a real socket."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest
from fastapi import FastAPI
from tests.adapters.office.conftest import Federation
from tests.adapters.office.made import Staff

from consilium.governance.access import Actor
from consilium.web.serving import serving


class Served:
    """Offices that are served, each once, for as long as a test runs."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._apps: dict[str, FastAPI] = {}

    def app(self, staff: Staff) -> FastAPI:
        if staff.name not in self._apps:
            self._apps[staff.name] = self._stack.enter_context(serving(staff.office))
        return self._apps[staff.name]

    def origin(self, staff: Staff) -> str:
        return str(self.app(staff).state.place.origins[0])

    def entry(self, staff: Staff, actor: Actor) -> str:
        """A link that lets somebody in, once."""
        return f"/links/{self.app(staff).state.accounts.entry_link(actor.id)}"

    def read(self, staff: Staff, actor: Actor) -> httpx.Client:
        """A browser of an office in which somebody is signed in."""
        origin = self.origin(staff)
        client = httpx.Client(
            base_url=origin,
            headers={"Origin": origin, "Accept": "text/html"},
            follow_redirects=True,
            timeout=60,
        )
        self._stack.enter_context(client)
        assert client.post(self.entry(staff, actor)).status_code == 200
        return client


Reading: TypeAlias = Callable[[Staff, Actor], httpx.Client]


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def served() -> Iterator[Served]:
    with ExitStack() as stack:
        yield Served(stack)


@pytest.fixture
def read(served: Served) -> Reading:
    return served.read
