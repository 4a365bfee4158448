# SPDX-License-Identifier: Apache-2.0
"""Other offices: asked, compared, accepted, disconnected."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import final

from consilium.adapters.office.desk import Desk, Turn
from consilium.adapters.office.ending import end_office
from consilium.adapters.store.audit_store import append_entry
from consilium.adapters.store.office_shelves import (
    ASSOCIATIONS,
    OFFICE,
    THE_OFFICE,
    AssociationRow,
)
from consilium.errors import AccessDenied, Conflict, RemoteProtocolError
from consilium.governance import association as rules
from consilium.governance.access import Action, Actor, ActorKind, Resource, ResourceKind
from consilium.governance.association import (
    ANSWER,
    INTRODUCTION,
    LARGEST,
    NONCE,
    Answer,
    Association,
    AssociationEvent,
    AssociationState,
    Introduction,
    next_association_state,
)
from consilium.governance.audit_log import Fact, facts_json
from consilium.wire import decode, encode


@final
class Associations:
    """Whom this office knows."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def ask(self, actor: Actor, to: str, *, address: str, own_address: str, reason: str) -> bytes:
        """Returns a signed introduction to the office `to`.

        Args:
            actor: Who asks.
            to: Name of the other office.
            address: Where it is reached, or empty.
            own_address: Where this office is reached, or empty: it only dials out.
            reason: For the people there.
        """
        with self._desk.acting(actor) as turn:
            turn.allow(Action.REQUEST_ASSOCIATION, Resource(kind=ResourceKind.ASSOCIATION))
            self._check_free(turn, to)
            office = OFFICE.get(turn.connection, THE_OFFICE)
            claim = Introduction(
                office.name, office.kind, own_address, b"", to, reason, turn.now.isoformat(),
                os.urandom(NONCE), b"",
            )  # fmt: skip
            said = rules.introduce(claim, self._desk.key)
            known = Association(
                id=self._desk.new_id(),
                name=to,
                kind="coordinator" if office.kind == "site" else "site",
                address=address,
                key=b"",
                reason=reason,
                state=AssociationState.ASKED,
                since=turn.now,
            )
            row = AssociationRow(known=known, introduction=encode(said), nonce=said.nonce)
            ASSOCIATIONS.add(turn.connection, known.id, row)
            turn.note({"to": to, "reason": reason}, about=known.id)
        return row.introduction

    def receive(self, message: bytes) -> Association:
        """Keeps a checked introduction of another office; nothing is trusted yet.

        Raises:
            RemoteProtocolError: Forged, stale, for another office or seen before.
            Conflict: Too many wait for an answer.
        """
        said = decode(message, INTRODUCTION, limit=LARGEST)
        with self._desk.database.transaction() as connection:
            rows, now = ASSOCIATIONS.where(connection), self._desk.clock()
            seen = {row.nonce for row in rows}
            rules.check_introduction(said, to=self._desk.name, now=now, seen=seen)
            if sum(row.known.state is AssociationState.RECEIVED for row in rows) >= _MOST_WAITING:
                raise Conflict(f"{_MOST_WAITING} introductions wait here; expected an answer first")
            known = Association(
                id=self._desk.new_id(),
                name=said.name,
                kind=said.kind,
                address=said.address,
                key=said.key,
                reason=said.reason,
                state=AssociationState.RECEIVED,
                since=now,
            )
            row = AssociationRow(known=known, introduction=message, nonce=said.nonce)
            ASSOCIATIONS.add(connection, known.id, row)
            fact = Fact(
                time=now,
                actor=f"office:{said.name}",
                actor_name=said.name,
                action=str(Action.REQUEST_ASSOCIATION),
                resource=f"{ResourceKind.ASSOCIATION}:{known.id}",
                facts=facts_json({"reason": said.reason, "words": known.words()}),
            )
            append_entry(connection, fact)
        return known

    def answer(self, actor: Actor, association: str, *, accept: bool, words: str) -> bytes:
        """Accepts (the six words must be typed) or refuses; returns the signed answer.

        Raises:
            AccessDenied: The words are another office's.
        """
        with self._desk.acting(actor) as turn:
            row = self._row(turn, association)
            if row.known.state is not AssociationState.RECEIVED:
                raise Conflict(f"the association is {row.known.state}; expected one that asks")
            event = AssociationEvent.ACCEPT if accept else AssociationEvent.REFUSE
            if accept:
                _check_words(row.known, words)
                self._check_free(turn, row.known.name)
            office = OFFICE.get(turn.connection, THE_OFFICE)
            said = decode(row.introduction, INTRODUCTION, limit=LARGEST)
            claim = Answer(b"", accept, office.name, office.kind, b"", turn.now.isoformat(), b"")
            message = encode(rules.answer(said, claim, self._desk.key))
            self._move(turn, replace(row, answer=message), event, {"accepted": accept})
        return message

    def answer_for(self, key: bytes) -> bytes | None:
        """Returns the newest answer to an introduction signed by `key`, or None."""
        with self._desk.database.reading() as connection:
            rows = ASSOCIATIONS.where(connection)
        own = [row.answer for row in rows if row.known.key == key and row.answer]
        return own[-1] if own else None

    def take_answer(self, message: bytes) -> Association:
        """Keeps the answer to our introduction; still to be confirmed with `confirm`.

        Raises:
            RemoteProtocolError: Forged, or the answer to nothing that we asked.
        """
        said = decode(message, ANSWER, limit=LARGEST)
        with self._desk.database.transaction() as connection:
            for row in ASSOCIATIONS.having(connection, "name", said.name):
                if row.known.state is not AssociationState.ASKED or row.known.key:
                    continue
                rules.check_answer(decode(row.introduction, INTRODUCTION, limit=LARGEST), said)
                known = replace(row.known, key=said.key, kind=said.kind, since=self._desk.clock())
                if not said.accepted:
                    refused = next_association_state(known.state, AssociationEvent.REFUSE)
                    known = replace(known, state=refused)
                ASSOCIATIONS.put(connection, known.id, replace(row, known=known))
                facts = {"accepted": said.accepted, "words": known.words()}
                fact = Fact(
                    time=known.since,
                    actor=f"office:{said.name}",
                    actor_name=said.name,
                    action=str(Action.DECIDE_ASSOCIATION),
                    resource=f"{ResourceKind.ASSOCIATION}:{known.id}",
                    facts=facts_json(facts),
                )
                append_entry(connection, fact)
                return known
        raise RemoteProtocolError(f"an answer of {said.name!r}; this office asked nothing of it")

    def confirm(self, actor: Actor, association: str, *, words: str) -> Association:
        """Accepts an office that answered yes, once its six words were compared.

        Raises:
            AccessDenied: The words are another office's.
            Conflict: It has not answered.
        """
        with self._desk.acting(actor) as turn:
            row = self._row(turn, association)
            if row.known.state is not AssociationState.ASKED or not row.known.key:
                raise Conflict(f"{row.known.name} has not answered; expected its yes first")
            _check_words(row.known, words)
            return self._move(turn, row, AssociationEvent.ACCEPT, {"confirmed": True})

    def all(self, actor: Actor) -> tuple[Association, ...]:
        """Returns every office that is or was known."""
        with self._desk.looking(actor) as turn:
            turn.allow(Action.SEE_ASSOCIATIONS, Resource(kind=ResourceKind.ASSOCIATION))
            return tuple(row.known for row in ASSOCIATIONS.where(turn.connection))

    def dialled(self) -> tuple[Association, ...]:
        """Returns the offices that this one visits: asked or associated, with an address."""
        living = (AssociationState.ASKED, AssociationState.ACCEPTED)
        with self._desk.database.reading() as connection:
            rows = ASSOCIATIONS.where(connection)
        return tuple(row.known for row in rows if row.known.state in living and row.known.address)

    def introduction(self, association: str) -> bytes:
        """Returns the message that we asked with, to send it again."""
        with self._desk.database.reading() as connection:
            return ASSOCIATIONS.get(connection, association).introduction

    def known(self, name: str, key: bytes) -> Actor:
        """Returns the office as an actor.

        Raises:
            AccessDenied: It is not associated under this key.
        """
        with self._desk.database.reading() as connection:
            for row in ASSOCIATIONS.having(connection, "name", name):
                if row.known.state is AssociationState.ACCEPTED and row.known.key == key:
                    return Actor(
                        id=f"office:{name}",
                        name=name,
                        office=name,
                        kind=ActorKind.OFFICE,
                        key=key,
                    )
        raise AccessDenied(f"office {name!r} is not associated under this key; ask to be")

    def revoke(self, actor: Actor, association: str, reason: str) -> Association:
        """Disconnects: nothing of that office is taken any more, its projects end here."""
        with self._desk.acting(actor) as turn:
            row = ASSOCIATIONS.get(turn.connection, association)
            resource = Resource(kind=ResourceKind.ASSOCIATION, id=association)
            turn.allow(Action.REVOKE_ASSOCIATION, resource)
            ended = end_office(turn, row.known.name, reason)
            facts = {"office": row.known.name, "reason": reason, "projects": ended}
            return self._move(turn, row, AssociationEvent.REVOKE, facts)

    def _row(self, turn: Turn, association: str) -> AssociationRow:
        resource = Resource(kind=ResourceKind.ASSOCIATION, id=association)
        turn.allow(Action.DECIDE_ASSOCIATION, resource)
        return ASSOCIATIONS.get(turn.connection, association)

    def _move(
        self, turn: Turn, row: AssociationRow, event: AssociationEvent, facts: Mapping[str, object]
    ) -> Association:
        state = next_association_state(row.known.state, event)
        known = replace(row.known, state=state, since=turn.now)
        ASSOCIATIONS.put(turn.connection, known.id, replace(row, known=known))
        turn.note(facts)
        return known

    def _check_free(self, turn: Turn, name: str) -> None:
        rows = ASSOCIATIONS.having(turn.connection, "name", name)
        if any(row.known.state is AssociationState.ACCEPTED for row in rows):
            raise Conflict(f"{name} is associated; expected it revoked before a new key is taken")


_MOST_WAITING = 100


def _check_words(known: Association, words: str) -> None:
    if " ".join(words.split()) != known.words():
        raise AccessDenied(
            f"the six words are not those of the key that {known.name!r} sent; expected what its "
            "administrator reads to you by telephone"
        )
