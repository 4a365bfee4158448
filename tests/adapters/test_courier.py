# SPDX-License-Identifier: Apache-2.0
"""A site visits its coordinator over a real socket; and everything a forger could try there."""

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.adapters.office.made import (
    Staff,
    make_folder,
    make_office,
    new_dataset,
    project_draft,
)

from consilium.adapters.courier import Courier, Visit
from consilium.adapters.identity.signed_requests import Request, sign_request
from consilium.errors import AccessDenied
from consilium.web.serving import serving

EXCHANGE = "/api/v1/exchange"


class Pair:
    """A coordinator that is served, and a site that visits it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.centre = make_office(folder, "centre", "coordinator")
        self.site = make_office(folder, "charite")
        self.site.clock.now = self.centre.clock.now
        app = stack.enter_context(serving(self.centre.office))
        self.address = str(app.state.place.origins[0])
        self.client = stack.enter_context(httpx.Client(timeout=60))

    def visit(self) -> Visit:
        return Courier(self.site.office, 1).visit_with(self.client)

    def associate(self) -> None:
        site, centre = self.site.office, self.centre.office
        site.associations.ask(
            self.site.owner, "centre", address=self.address, own_address="", reason="join"
        )
        self.visit()
        (asks,) = centre.associations.all(self.centre.owner)
        centre.associations.answer(self.centre.owner, asks.id, accept=True, words=asks.words())
        self.visit()
        (said,) = site.associations.all(self.site.owner)
        site.associations.confirm(self.site.owner, said.id, words=said.words())

    def send(
        self,
        path: str,
        body: bytes = b"",
        *,
        key: bytes | None = None,
        changes: dict[str, str] | None = None,
    ) -> httpx.Response:
        """A request of the site's, signed, with headers changed afterwards."""
        method = "POST" if body else "GET"
        host = httpx.URL(self.address).netloc.decode()
        signed = sign_request(
            Request(method=method, host=host, path=EXCHANGE + path, body=body),
            key or self.site.office.desk.key,
            now=self.site.clock(),
            nonce=b"n" * 16,
        )
        headers = signed | {"Consilium-Office": "charite", "Content-Type": "application/json"}
        return self.client.request(
            method,
            self.address + EXCHANGE + path,
            content=body or None,
            headers=headers | (changes or {}),
        )


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        made = Pair(tmp_path, stack)
        yield made
    for office in (made.centre, made.site):
        office.office.close()


@pytest.fixture
def friends(pair: Pair) -> Pair:
    pair.associate()
    return pair


def steward(office: Staff) -> None:
    office.join("weber", "Data Steward")
    folder = make_folder(office.folder / "hearts")
    office.office.datasets.register(office.people["weber"], new_dataset(folder))


# -- What a visit does ----------------------------------------------------------------


def test_two_offices_meet_through_visits_alone(friends: Pair) -> None:
    (known,) = friends.site.office.associations.all(friends.site.owner)

    assert known.state == "accepted"
    assert known.key == friends.centre.office.desk.public_key()


def test_an_unanswered_introduction_is_brought_once(pair: Pair) -> None:
    pair.site.office.associations.ask(
        pair.site.owner, "centre", address=pair.address, own_address="", reason="join"
    )

    for _ in range(3):
        assert pair.visit().failed == 0

    assert len(pair.centre.office.associations.all(pair.centre.owner)) == 1


def test_heads_are_signed_by_both(friends: Pair) -> None:
    friends.visit()

    site = friends.site.office.log.verify(friends.site.owner)
    centre = friends.centre.office.log.verify(friends.centre.owner)

    assert (site.intact, site.witness) == (True, "centre")
    assert (centre.intact, centre.witness) == (True, "charite")


def test_a_second_visit_brings_nothing_again(friends: Pair) -> None:
    friends.visit()
    before = friends.centre.office.log.verify(friends.centre.owner).entries

    friends.visit()

    assert friends.centre.office.log.verify(friends.centre.owner).entries == before


def test_cards_reach_the_catalogue_of_the_coordinator(friends: Pair) -> None:
    steward(friends.site)

    friends.visit()

    found = friends.centre.office.datasets.search(friends.centre.owner, "heart")
    assert [one.office for one in found] == ["charite"]


def test_a_project_goes_there_and_its_decision_comes_back(friends: Pair) -> None:
    steward(friends.site)
    friends.visit()
    researcher = friends.centre.join("rossi")
    projects = friends.centre.office.projects
    made = projects.draft(
        researcher, project_draft({"charite": "hearts"}, arm="federated-local-dp", secure=False)
    )
    projects.submit(researcher, made.id)

    there = friends.visit()
    here = friends.site.office.projects
    here.revoke(friends.site.people["weber"], made.id, "not now")
    friends.visit()

    assert there.took == 1
    assert there.failed == 0
    (decision,) = projects.get(researcher, made.id).decisions
    assert (decision.site, decision.verdict) == ("charite", "revoke")


def test_a_disconnected_site_is_refused(friends: Pair) -> None:
    (known,) = friends.centre.office.associations.all(friends.centre.owner)
    friends.centre.office.associations.revoke(friends.centre.owner, known.id, "gone")

    assert friends.visit().failed == 1


def test_a_coordinator_that_is_away_delays_and_nothing_else(friends: Pair) -> None:
    def away(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("away")

    with httpx.Client(transport=httpx.MockTransport(away)) as client:
        assert Courier(friends.site.office, 1).visit_with(client) == Visit(failed=1)
    assert friends.visit().failed == 0


def test_an_answer_of_somebody_else_is_refused(friends: Pair) -> None:
    def proxy(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"cosigned": "", "head": ""})

    with httpx.Client(transport=httpx.MockTransport(proxy)) as client:
        assert Courier(friends.site.office, 1).visit_with(client).failed == 1


@pytest.mark.parametrize("address", ["http://hub.example", "ftp://127.0.0.1", "nonsense"])
def test_no_visit_goes_over_a_line_that_is_open(pair: Pair, address: str) -> None:
    pair.site.office.associations.ask(
        pair.site.owner, "centre", address=address, own_address="", reason="join"
    )

    assert pair.visit().failed == 1


# -- Forgeries ------------------------------------------------------------------------


def test_the_same_request_again_is_refused(friends: Pair) -> None:
    friends.site.clock.now -= timedelta(milliseconds=10)
    first = friends.send("/projects")
    friends.site.clock.now -= timedelta(milliseconds=1)

    again = friends.send("/projects")

    assert (first.status_code, again.status_code) == (200, 401)
    assert "seen before" in again.json()["detail"]


def test_a_stranger_is_refused(friends: Pair) -> None:
    stranger = Ed25519PrivateKey.generate().private_bytes_raw()

    assert friends.send("/projects", key=stranger).status_code == 403


def test_a_strangers_signature_under_our_key_is_refused(friends: Pair) -> None:
    public = friends.site.office.desk.public_key()
    named = base64.urlsafe_b64encode(public).rstrip(b"=").decode()
    stranger = Ed25519PrivateKey.generate().private_bytes_raw()

    answer = friends.send("/projects", key=stranger, changes={"Consilium-Identity": named})

    assert answer.status_code == 401


def test_our_key_under_another_name_is_refused(friends: Pair) -> None:
    answer = friends.send("/projects", changes={"Consilium-Office": "lmu"})

    assert answer.status_code == 403


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_clock_that_is_off_is_refused(friends: Pair, minutes: int) -> None:
    friends.site.clock.now += timedelta(minutes=minutes)

    answer = friends.send("/projects")

    assert answer.status_code == 401
    assert "clock" in answer.json()["detail"]


def test_a_changed_body_is_refused(friends: Pair) -> None:
    body = b'{"message": "AAAA"}'
    host = httpx.URL(friends.address).netloc.decode()
    request = Request(method="POST", host=host, path=f"{EXCHANGE}/cards", body=body)
    signed = sign_request(
        request, friends.site.office.desk.key, now=friends.site.clock(), nonce=b"m" * 16
    )

    answer = friends.client.post(
        f"{friends.address}{EXCHANGE}/cards",
        content=b'{"message": "AAAB"}',
        headers=signed | {"Consilium-Office": "charite", "Content-Type": "application/json"},
    )

    assert answer.status_code == 401


def test_a_forged_introduction_is_refused(pair: Pair) -> None:
    message = pair.site.office.associations.ask(
        pair.site.owner, "centre", address=pair.address, own_address="", reason="join"
    )
    forged = base64.b64encode(message[:-1] + bytes([message[-1] ^ 1])).decode()

    answer = pair.send("/introductions", f'{{"message": "{forged}"}}'.encode())

    assert answer.status_code >= 400
    assert pair.centre.office.associations.all(pair.centre.owner) == ()


def test_an_answer_with_other_words_is_not_accepted(pair: Pair) -> None:
    pair.site.office.associations.ask(
        pair.site.owner, "centre", address=pair.address, own_address="", reason="join"
    )
    pair.visit()
    (asks,) = pair.centre.office.associations.all(pair.centre.owner)

    with pytest.raises(AccessDenied, match="six words"):
        pair.centre.office.associations.answer(
            pair.centre.owner, asks.id, accept=True, words="six words of somebody else here"
        )
