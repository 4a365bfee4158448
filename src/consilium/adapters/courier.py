# SPDX-License-Identifier: Apache-2.0
"""What a site fetches and brings at its coordinators: it dials out, and nobody dials in.

A visit, over one httpx client (so HTTPS_PROXY and SSL_CERT_FILE hold):

    asked       send our introduction; fetch the answer, for a person to confirm
    accepted    bring our log head, take theirs, bring our signature of it
                bring our cards, when they changed
                fetch project files that are new there; bring those that are new here

Guarantees: every request is signed by this office's key and every answer is checked against the
key that two people compared; no plain HTTP but to this machine; no redirect is followed; what a
visit took or brought is written down only after it was. A coordinator that does not answer delays
the next visit, up to ten minutes, and nothing else.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final, final

import httpx
import msgspec
from sqlalchemy import ColumnElement, delete, insert, select

from consilium.adapters.identity.signed_requests import (
    NONCE_BYTES,
    Request,
    check_answer,
    sign_request,
)
from consilium.adapters.office.office import Office
from consilium.adapters.store.identity_tables import EXCHANGED
from consilium.errors import Conflict, ConsiliumError, DataError
from consilium.governance.access import Actor
from consilium.governance.association import Association, AssociationState
from consilium.governance.catalogue import Dataset

LOG: Final = logging.getLogger("consilium.courier")
LONGEST_WAIT: Final = 600.0  # seconds between two visits, when they fail
SECONDS: Final = 30.0  # for one request
LARGEST: Final = 4 << 20  # bytes of an answer
HEADS_EVERY: Final = 3600  # seconds between two signatures of one office's log
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_PREFIX: Final = "/api/v1/exchange"
_JSON: Final = "application/json"
_SHORT: Final = 24  # digits of a digest, to know it again


class _Message(msgspec.Struct, frozen=True):
    message: bytes


class _Heads(msgspec.Struct, frozen=True):
    cosigned: bytes
    head: bytes


class _WaitingList(msgspec.Struct, frozen=True):
    projects: tuple[Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")], ...]


@final
@dataclass(frozen=True, slots=True)
class Visit:
    """What one visit did, for the log and for tests."""

    took: int = 0
    brought: int = 0
    failed: int = 0


@final
class Courier:
    """Visits every coordinator that `office` asked or is associated with."""

    def __init__(self, office: Office, seconds: float) -> None:
        self._office = office
        self._seconds = seconds

    async def run(self) -> None:
        """Visits until it is cancelled; after a failure it waits longer, each time twice."""
        wait = self._seconds
        while True:
            visit = await asyncio.to_thread(self.visit)
            failed = visit is None or visit.failed > 0
            wait = min(2 * wait, LONGEST_WAIT) if failed else self._seconds
            await asyncio.sleep(wait)

    def visit(self) -> Visit | None:
        """Returns what was done at all coordinators together; None after an unexpected error."""
        try:
            with httpx.Client(timeout=SECONDS, follow_redirects=False) as client:
                return self.visit_with(client)
        except Exception:  # the edge of this process
            LOG.exception("a visit failed")
            return None

    def visit_with(self, client: httpx.Client) -> Visit:
        """Returns what was done, over `client`."""
        took = brought = failed = 0
        for peer in self._office.associations.dialled():
            try:
                done = self._visit_one(_Line(self._office, peer, client))
            except (ConsiliumError, httpx.HTTPError, msgspec.MsgspecError) as error:
                LOG.warning("visit refused", extra={"office": peer.name, "error": _short(error)})
                failed += 1
            else:
                took, brought = took + done.took, brought + done.brought
                failed += done.failed
        return Visit(took, brought, failed)

    def _visit_one(self, line: "_Line") -> Visit:
        if line.peer.state is AssociationState.ASKED:
            return self._ask(line)
        actor = self._office.associations.known(line.peer.name, line.peer.key)
        self._exchange_heads(line, actor)
        self._bring_cards(line, actor)
        took, failed = self._take_projects(line, actor)
        return Visit(took, self._bring_projects(line, actor), failed)

    # -- One errand each --------------------------------------------------------------

    def _ask(self, line: "_Line") -> Visit:
        if line.peer.key:
            return Visit()  # they said yes; a person here compares the words
        if line.position("introduction") is None:
            message = self._office.associations.introduction(line.peer.id)
            line.post("/introductions", message)
            line.note("introduction", line.peer.id)
        answer = line.fetch_answer()
        if answer is None:
            return Visit(brought=1)
        self._office.associations.take_answer(answer)
        return Visit(took=1)

    def _exchange_heads(self, line: "_Line", actor: Actor) -> None:
        now = int(self._office.desk.clock().timestamp())
        if now - int(line.position("heads") or 0) < HEADS_EVERY:
            return
        head = self._office.log.head(line.peer.name)
        heads = msgspec.json.decode(line.post("/heads", head), type=_Heads)
        self._office.log.keep(actor, heads.cosigned)
        line.post("/signatures", self._office.log.witness(actor, heads.head))
        line.note("heads", str(now))

    def _bring_cards(self, line: "_Line", actor: Actor) -> None:
        own = self._office.desk.name
        version = _cards_version(
            one for one in self._office.datasets.search(actor) if one.office == own
        )
        if line.position("cards") != version:
            line.post("/cards", self._office.datasets.cards(actor))
            line.note("cards", version)

    def _take_projects(self, line: "_Line", actor: Actor) -> tuple[int, int]:
        took = failed = 0
        waiting = msgspec.json.decode(line.get("/projects"), type=_WaitingList)
        for digest in waiting.projects:
            kind = f"take/{digest[:_SHORT]}"
            if line.position(kind) is not None:
                continue
            try:
                self._office.exchange.take(actor, line.get_message(f"/projects/{digest}"))
                took += 1
            except Conflict:
                pass  # it is here already, or newer
            except ConsiliumError as error:
                LOG.warning("project refused", extra={"office": actor.name, "error": _short(error)})
                failed += 1
            line.note(kind, digest)
        return took, failed

    def _bring_projects(self, line: "_Line", actor: Actor) -> int:
        brought = 0
        for message in self._office.exchange.export_all(actor):
            digest = hashlib.sha256(message).hexdigest()
            kind = f"bring/{digest[:_SHORT]}"
            if line.position(kind) is None:
                line.post("/projects", message)
                line.note(kind, digest)
                brought += 1
        return brought


@final
class _Line:
    """The way to one coordinator."""

    def __init__(self, office: Office, peer: Association, client: httpx.Client) -> None:
        self.peer = peer
        self._desk = office.desk
        self._client = client
        try:
            self._address = httpx.URL(peer.address)
        except httpx.InvalidURL:
            self._address = httpx.URL("")
        plain = self._address.scheme == "http" and self._address.host in _LOOPBACK
        if not (self._address.scheme == "https" or plain):
            raise DataError(
                f"the address of {peer.name} is not https://...; expected one, because whoever "
                "is in between could hold messages back"
            )

    def get(self, path: str) -> bytes:
        """Returns the checked answer to a GET."""
        return self._ask("GET", path, b"")

    def post(self, path: str, message: bytes) -> bytes:
        """Returns the checked answer to a message."""
        return self._ask("POST", path, msgspec.json.encode(_Message(message)))

    def get_message(self, path: str) -> bytes:
        """Returns the message of a checked answer."""
        return msgspec.json.decode(self.get(path), type=_Message).message

    def fetch_answer(self) -> bytes | None:
        """Returns the coordinator's answer to our introduction, signed by itself; None: not yet."""
        reply = self._send("POST", f"{_PREFIX}/answers", b"{}")
        if reply.status == 404:
            return None
        return msgspec.json.decode(self._well(reply), type=_Message).message

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        reply = self._send(method, f"{_PREFIX}{path}", body)
        answer = self._well(reply)
        if self.peer.key:
            check_answer(self.peer.key, reply.nonce, reply.status, answer, reply.signature)
        return answer

    def _well(self, reply: "_Reply") -> bytes:
        if reply.status != 200:
            raise DataError(f"{self.peer.name} answers {reply.status}; expected 200: see its log")
        return reply.body

    def _send(self, method: str, path: str, body: bytes) -> "_Reply":
        host = self._address.netloc.decode("ascii")
        nonce = os.urandom(NONCE_BYTES)
        headers = sign_request(
            Request(method=method, host=host, path=path, body=body),
            self._desk.key,
            now=self._desk.clock(),
            nonce=nonce,
        )
        with self._client.stream(
            method,
            self._address.copy_with(raw_path=path.encode("ascii")),
            content=body or None,
            headers=headers | {"Consilium-Office": self._desk.name, "Content-Type": _JSON},
        ) as response:
            answer = bytearray()
            for part in response.iter_bytes():
                answer += part
                if len(answer) > LARGEST:
                    raise DataError(f"{self.peer.name} answers more than {LARGEST} bytes")
            return _Reply(
                response.status_code,
                bytes(answer),
                response.headers.get("Consilium-Signature"),
                nonce,
            )

    # -- How far we are ---------------------------------------------------------------

    def position(self, kind: str) -> str | None:
        """Returns what was noted last of `kind`, or None."""
        with self._desk.database.reading() as connection:
            return connection.execute(
                select(EXCHANGED.c.position).where(*self._mine(kind))
            ).scalar_one_or_none()

    def note(self, kind: str, position: str) -> None:
        """Writes down how far we are."""
        with self._desk.database.transaction() as connection:
            connection.execute(delete(EXCHANGED).where(*self._mine(kind)))
            connection.execute(
                insert(EXCHANGED).values(peer=self.peer.id, kind=kind, position=position)
            )

    def _mine(self, kind: str) -> tuple[ColumnElement[bool], ...]:
        return (EXCHANGED.c.peer == self.peer.id, EXCHANGED.c.kind == kind)


@final
@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    signature: str | None
    nonce: bytes


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]


def _cards_version(cards: Iterable[Dataset]) -> str:
    """Returns a word that changes exactly when a card does."""
    known = sorted(f"{one.id}/{one.version}/{one.state}" for one in cards)
    return hashlib.sha256("\n".join(known).encode()).hexdigest()
