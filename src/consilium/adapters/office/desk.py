# SPDX-License-Identifier: Apache-2.0
"""What every service of an office works with: database, clock, names, key; and how it acts.

    with desk.acting(actor) as turn:      one transaction
        turn.allow(action, resource)      decides, by the rights that stand in the database now
        ...
        turn.note(facts)                  the log's entry of it, in the same transaction

Guarantees: an actor's roles, groups and state are read again in the transaction of the act; what
the actor object says of them is not believed. What was allowed and not noted is not committed. A
refusal undoes everything and is logged by itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from consilium.adapters.office.moments import Clock, Names, new_name, system_clock
from consilium.adapters.store.audit_store import append_entry
from consilium.adapters.store.database import Database
from consilium.adapters.store.ledger_store import LedgerStore
from consilium.adapters.store.office_shelves import (
    ASSOCIATIONS,
    GROUPS,
    PEOPLE,
    ROLES,
    PersonRow,
)
from consilium.errors import AccessDenied
from consilium.governance.access import Action, Actor, ActorKind, Resource
from consilium.governance.association import AssociationState
from consilium.governance.audit_log import Fact, Outcome, facts_json
from consilium.governance.decisions import decide
from consilium.governance.roles import PersonState, permissions_of

OPERATOR: Final = "operator"  # who has the machine; named in the log where nobody else acts


class _Refused(AccessDenied):
    """A refusal that is still to be logged."""

    def __init__(self, reason: str, fact: Fact) -> None:
        super().__init__(reason)
        self.fact = fact


@final
class Turn:
    """One act of one actor, in one transaction."""

    def __init__(self, desk: "Desk", connection: Connection, actor: Actor) -> None:
        self.connection, self.actor, self.now = connection, actor, desk.clock()
        self.office = desk.name
        self.ledger = LedgerStore(desk.database, desk.clock)
        self._open: tuple[Action, Resource] | None = None

    def allow(self, action: Action, resource: Resource) -> None:
        """Refuses what the table denies to the actor.

        Raises:
            AccessDenied: With the reason.
        """
        decision = decide(self.actor, action, resource)
        if not decision.allowed:
            facts = {"reason": decision.reason}
            raise _Refused(decision.reason, self._fact(action, resource, Outcome.DENIED, facts))
        self._open = (action, resource)

    def may(self, action: Action, resource: Resource) -> bool:
        """Returns whether the table allows it; nothing is logged."""
        return decide(self.actor, action, resource).allowed

    def note(self, facts: Mapping[str, object] | None = None, *, about: str | None = None) -> None:
        """Appends what was allowed last to the log.

        Args:
            facts: What else is known of it; no patient's data.
            about: Id of what was made, where there was none before.
        """
        assert self._open is not None  # noqa: S101 - a programming mistake
        action, resource = self._open
        named = replace(resource, id=about or resource.id)
        append_entry(self.connection, self._fact(action, named, Outcome.DONE, facts or {}))
        self._open = None

    def dismiss(self) -> None:
        """Says that what was allowed last changed nothing, so that there is nothing to log."""
        self._open = None

    def settled(self) -> bool:
        """Returns whether everything that was allowed was noted."""
        return self._open is None

    def _fact(
        self, action: Action, resource: Resource, outcome: Outcome, facts: Mapping[str, object]
    ) -> Fact:
        return Fact(
            time=self.now,
            actor=self.actor.id,
            actor_name=self.actor.name,
            action=str(action),
            resource=f"{resource.kind}:{resource.id}",
            outcome=outcome,
            facts=facts_json(dict(facts)),
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What services share.

    Attributes:
        database: Of the office.
        name: Of the office.
        key: Its Ed25519 private key.
        clock: Tells the time, in UTC.
        names: Makes ids.
    """

    database: Database
    name: str
    key: bytes = field(repr=False)
    clock: Clock = system_clock
    names: Names = new_name

    @contextmanager
    def acting(self, actor: Actor) -> Iterator[Turn]:
        """Gives a turn that may write.

        Raises:
            AccessDenied: The actor is unknown or revoked, or the table denies it; logged.
        """
        try:
            with self.database.transaction() as connection:
                turn = Turn(self, connection, standing(connection, actor, self.name))
                yield turn
                assert turn.settled()  # noqa: S101 - a programming mistake
        except _Refused as refused:
            self._log(refused.fact)
            raise AccessDenied(str(refused)) from None

    @contextmanager
    def looking(self, actor: Actor) -> Iterator[Turn]:
        """Gives a turn that only reads; refusals are logged, looks are not.

        Raises:
            AccessDenied: The actor is unknown or revoked, or the table denies it.
        """
        try:
            with self.database.reading() as connection:
                yield Turn(self, connection, standing(connection, actor, self.name))
        except _Refused as refused:
            self._log(refused.fact)
            raise AccessDenied(str(refused)) from None

    def _log(self, fact: Fact) -> None:
        with self.database.transaction() as connection:
            append_entry(connection, fact)

    def note(
        self, connection: Connection, actor: Actor | None, what: tuple[str, str], **facts: str
    ) -> None:
        """Appends an entry that no decision of this table went before, as signing in.

        Args:
            connection: Of the caller's transaction.
            actor: Who; None: whoever has the machine, or has not said who they are.
            what: Action and resource, as ("sign-in", "person:ID").
            facts: What else is known; no secret.
        """
        append_entry(
            connection,
            Fact(
                time=self.clock(),
                actor=OPERATOR if actor is None else actor.id,
                actor_name=OPERATOR if actor is None else actor.name,
                action=what[0],
                resource=what[1],
                facts=facts_json(facts),
            ),
        )

    def public_key(self) -> bytes:
        """Returns the office's Ed25519 public key."""
        return Ed25519PrivateKey.from_private_bytes(self.key).public_key().public_bytes_raw()

    def new_id(self) -> str:
        """Returns a name for something new."""
        return self.names(self.clock())


# -- Who somebody is now --------------------------------------------------------------


def standing(connection: Connection, claimed: Actor, office: str) -> Actor:
    """Returns the actor as the database knows it now; of what is claimed only the id counts.

    Raises:
        AccessDenied: Unknown, revoked, or no longer associated.
    """
    match claimed.kind:
        case ActorKind.PERSON:
            found = PEOPLE.peek(connection, claimed.id)
            if found is None or found.state is not PersonState.ACTIVE:
                raise AccessDenied("this account is not here, or was ended: ask an administrator")
            return actor_of(connection, found, office)
        case ActorKind.OFFICE:
            return _associated(connection, claimed)
        case ActorKind.SERVICE:
            return replace(claimed, roles=frozenset(), groups=frozenset(), permissions=frozenset())


def actor_of(connection: Connection, person: PersonRow, office: str) -> Actor:
    """Returns the actor that `person` is."""
    roles = [ROLES.peek(connection, name) for name in person.roles]
    known = frozenset(role for role in roles if role is not None)
    groups = [group.id for group in GROUPS.where(connection) if person.id in group.members]
    return Actor(
        id=person.id,
        name=person.name,
        office=office,
        roles=person.roles,
        groups=frozenset(groups),
        permissions=permissions_of(known),
        key=person.key,
    )


def _associated(connection: Connection, claimed: Actor) -> Actor:
    for row in ASSOCIATIONS.having(connection, "name", claimed.office):
        if row.known.state is AssociationState.ACCEPTED and row.known.key == claimed.key:
            return Actor(
                id=f"office:{row.known.name}",
                name=row.known.name,
                office=row.known.name,
                kind=ActorKind.OFFICE,
                key=row.known.key,
            )
    raise AccessDenied(
        f"office {claimed.office!r} is not associated under this key; expected an association "
        "that an administrator here accepted"
    )
