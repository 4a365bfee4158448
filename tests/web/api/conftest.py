# SPDX-License-Identifier: Apache-2.0
"""A hospital's office, served over a real socket, with four people who are signed in."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from consilium.adapters.identity.accounts import Accounts, Founder
from consilium.adapters.office.office import Office, found_office
from consilium.adapters.office.values import Invited
from consilium.web.serving import serving
from tests.adapters.office.made import make_folder

PASSWORD = "correct horse battery staple"  # noqa: S105
API = "/api/v1"
_KEYS = count()


@dataclass
class Hospital:
    """An office, where it is, and clients of people."""

    office: Office
    app: FastAPI
    folder: Path
    stack: ExitStack
    ids: dict[str, str] = field(default_factory=dict)
    clients: dict[str, httpx.Client] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return str(self.app.state.place.origins[0])

    @property
    def accounts(self) -> Accounts:
        accounts: Accounts = self.app.state.accounts
        return accounts

    def client(self, **headers: str) -> httpx.Client:
        """Somebody with a browser, not signed in."""
        client = httpx.Client(
            base_url=self.origin, headers={"Origin": self.origin} | headers, timeout=60
        )
        return self.stack.enter_context(client)

    def stolen(self, client: httpx.Client) -> httpx.Client:
        """Somebody else with a copy of a browser's cookies."""
        thief = self.client()
        thief.cookies.update(client.cookies)
        return thief

    def found(self) -> httpx.Client:
        """The Owner, by the first link."""
        client, word = self.client(), self.accounts.first_link()
        founder = {"name": "Olga Owner", "email": "olga@x.org"}
        answer = client.post(
            f"{API}/session/join", json={"link": word, "password": PASSWORD, **founder}
        )
        return self._keep("olga", client, answer)

    def join(self, name: str, *roles: str) -> httpx.Client:
        """Somebody with an invitation of the Owner, who then has a password."""
        whom = Invited(name=name, email=f"{name}@x.org", roles=frozenset(roles or {"User"}))
        word, _ = self.accounts.invite(self.office.people.actor(self.ids["olga"]), whom)
        client = self.client()
        answer = client.post(f"{API}/session/join", json={"link": word, "password": PASSWORD})
        return self._keep(name, client, answer)

    def _keep(self, name: str, client: httpx.Client, answer: httpx.Response) -> httpx.Client:
        assert answer.status_code == 201, answer.text
        self.ids[name], self.clients[name] = answer.json()["id"], client
        return client

    def register(self, name: str = "hearts") -> str:
        """The id of a dataset that the steward registered."""
        made = make_folder(self.folder / name)
        body = {"name": name, "folder": str(made), "description": "Heart disease", "tags": ["h"]}
        answer = self.clients["weber"].post(f"{API}/datasets", json=body, headers=once())
        assert answer.status_code == 201, answer.text
        self.ids[name] = answer.json()["id"]
        return self.ids[name]


def once() -> dict[str, str]:
    """A new key for something to do once."""
    return {"Idempotency-Key": f"test-key-{next(_KEYS)}"}


def with_people(folder: Path, stack: ExitStack) -> Hospital:
    office = found_office(folder / "office", "charite", "site")
    app = stack.enter_context(serving(office))
    hospital = Hospital(office, app, folder, stack)
    hospital.found()
    hospital.join("weber", "Data Steward")
    hospital.join("klein", "Compliance Officer")
    hospital.join("rossi", "User")
    return hospital


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with ExitStack() as stack:
        made = with_people(tmp_path_factory.mktemp("hospital"), stack)
        yield made
    made.office.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Hospital]:
    """An office without any person."""
    with ExitStack() as stack:
        office = found_office(tmp_path / "office", "charite", "site")
        yield Hospital(office, stack.enter_context(serving(office)), tmp_path, stack)
    office.close()


__all__ = ["API", "PASSWORD", "Founder", "Hospital", "once"]
