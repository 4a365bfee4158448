# SPDX-License-Identifier: Apache-2.0
"""Signing in and out of one office: what pages, API and command line call.

    first_link   -> the link by which an office without persons gets its Owner
    join         -> a link of `office.people` (invitation, reset, first) becomes a password
    sign_in      -> e-mail and password become a session
    enter        -> a one-time link becomes a session
    sign_in_as   -> an e-mail that the hospital's provider vouches for becomes a session
    actor        -> a session becomes an actor, read anew for every request

Guarantees: no account has a password before its owner set one; a new password ends every session
and every link of that person in the same transaction; who is revoked is nobody at once; a wrong
password, an unknown account and a revoked one get the same answer in the same time.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, final

from sqlalchemy import Connection, delete, insert, select, update

from consilium.adapters.identity import links, sessions, tries
from consilium.adapters.identity.one_time import Randomness, new_word, word_digest
from consilium.adapters.identity.passwords import check_password, hash_password
from consilium.adapters.office.office import Office
from consilium.adapters.office.values import Invitation, Invited
from consilium.adapters.store.identity_tables import PASSWORDS, seconds
from consilium.errors import AccessDenied, Conflict
from consilium.governance.access import Actor
from consilium.governance.roles import Person, PersonState

LONGEST: Final = timedelta(hours=10)
_WRONG: Final = (
    "e-mail or password is wrong; expected those of an account here: try again, or ask an "
    "administrator for a reset link"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Founder:
    """Who sets an office up: needed by its first link alone."""

    name: str
    email: str


@final
class Accounts:
    """Everybody who can sign in at `office`."""

    def __init__(
        self,
        office: Office,
        *,
        randomness: Randomness = os.urandom,
    ) -> None:
        self._office = office
        self._database = office.desk.database
        self._clock = office.desk.clock
        self._randomness = randomness

    # -- Links ------------------------------------------------------------------------

    def first_link(self) -> str | None:
        """Returns the word of the link for the Owner, or None where the office has persons."""
        word = new_word(self._randomness)
        expires = self._clock() + links.FIRST_LASTS
        try:
            self._office.people.first_invitation(word_digest(links.INVITATION, word), expires)
        except Conflict:
            return None
        return word

    def invite(self, actor: Actor, whom: Invited) -> tuple[str, Invitation]:
        """Returns the word of a link for somebody new, shown once."""
        word = new_word(self._randomness)
        expires = self._clock() + links.INVITATION_LASTS
        kept = self._office.people.invite(actor, whom, word_digest(links.INVITATION, word), expires)
        return word, kept

    def reset(self, actor: Actor, person: str) -> tuple[str, Invitation]:
        """Returns the word of a link for a new password; sessions of that person end now."""
        word = new_word(self._randomness)
        expires = self._clock() + links.RESET_LASTS
        kept = self._office.people.reset(
            actor, person, word_digest(links.INVITATION, word), expires
        )
        with self._database.transaction() as connection:
            sessions.end_sessions_of(connection, person)
            links.end_links_of(connection, person)
        return word, kept

    def entry_link(self, person: str) -> str:
        """Returns the word of a link that lets `person` in once; only for the office's console."""
        with self._database.transaction() as connection:
            self._office.desk.note(connection, None, ("make-entry-link", f"person:{person}"))
            return links.make_link(
                connection, person, now=self._clock(), randomness=self._randomness
            )

    def invitation(self, word: str) -> Invitation:
        """Returns what the word of a link stands for, and leaves it usable.

        Raises:
            AccessDenied: It is unknown, used or too old.
        """
        return self._office.people.invitation(word_digest(links.INVITATION, word))

    def is_entry(self, word: str) -> bool:
        """Returns whether the word lets somebody in without a password."""
        with self._database.reading() as connection:
            return links.find_link(connection, word, now=self._clock()) is not None

    # -- In and out -------------------------------------------------------------------

    def join(self, word: str, password: str, founder: Founder | None = None) -> str:
        """Returns the word of a session, after a link has become a password.

        Raises:
            AccessDenied: The link is unknown, used or too old.
            ConfigError: The password is too weak; the link stays usable.
        """
        email = self.invitation(word).email or ("" if founder is None else founder.email)
        kept = hash_password(password, name=email.partition("@")[0])

        def also(connection: Connection, person: Person) -> None:
            self._set_password(connection, person.id, kept)
            tries.forget_tries(connection, person.email, "")

        named = None if founder is None else (founder.name, founder.email)
        person = self._office.people.redeem(word_digest(links.INVITATION, word), also, named=named)
        return self._open(person.id)

    def sign_in(self, email: str, password: str, address: str) -> str:
        """Returns the word of a session.

        Raises:
            AccessDenied: E-mail or password is wrong, or the account is revoked.
            TooManyTries: It was tried too often.
        """
        with self._database.transaction() as connection:
            tries.count_try(connection, email, address, now=self._clock())
        person = self._office.people.by_email(email)
        with self._database.reading() as connection:
            kept = None if person is None else _password_of(connection, person.id)
        checked = check_password(kept, password)
        if not checked.matches or person is None:
            self.note_refusal("" if person is None else person.id)
            raise AccessDenied(_WRONG)
        word = self._open(person.id)
        with self._database.transaction() as connection:
            tries.forget_tries(connection, email, address)
            if checked.newer is not None:
                _improve_password(connection, person.id, kept, checked.newer)
        return word

    def enter(self, word: str) -> str:
        """Returns the word of a session, for the word of an entry link.

        Raises:
            AccessDenied: It is unknown, used or too old.
        """
        with self._database.transaction() as connection:
            person = links.use_link(connection, word, now=self._clock())
        return self._open(person)

    def sign_in_as(self, email: str) -> str:
        """Returns the word of a session of somebody whom the configured provider vouches for.

        Raises:
            AccessDenied: Nobody active here has this e-mail.
        """
        person = self._office.people.by_email(email)
        if person is None or person.state is not PersonState.ACTIVE:
            self.note_refusal("" if person is None else person.id)
            raise AccessDenied(
                "no active account here has this e-mail; expected one that somebody invited: ask "
                "an administrator"
            )
        return self._open(person.id)

    def note_refusal(self, person: str) -> None:
        """Writes to the audit log that somebody was not let in; empty: nobody knows who."""
        with self._database.transaction() as connection:
            self._office.desk.note(connection, None, ("sign-in-refused", f"person:{person}"))

    def change_password(self, actor: Actor, old: str, new: str, address: str) -> str:
        """Returns the word of a new session, after every older one has ended.

        Raises:
            AccessDenied: The old password is wrong.
            ConfigError: The new one is too weak.
        """
        person = self._office.people.get(actor, actor.id)
        self.sign_in(person.email, old, address)
        kept = hash_password(new, name=person.email.partition("@")[0])
        with self._database.transaction() as connection:
            self._set_password(connection, actor.id, kept)
        return self._open(actor.id)

    def actor(self, word: str) -> Actor | None:
        """Returns whose session this is now, or None."""
        now = self._clock()
        with self._database.reading() as connection:
            found = sessions.find_session(connection, word, now=now)
            stale = found is not None and sessions.is_stale(connection, word, now=now)
        if found is None:
            return None
        if stale:
            with self._database.transaction() as connection:
                sessions.touch_session(connection, word, now=now)
        try:
            return self._office.people.actor(found.person)
        except AccessDenied:
            return None

    def session(self, word: str) -> sessions.Session | None:
        """Returns when a session began and ends, or None."""
        with self._database.reading() as connection:
            return sessions.find_session(connection, word, now=self._clock())

    def sign_out(self, word: str) -> None:
        """Ends a session."""
        with self._database.transaction() as connection:
            sessions.end_session(connection, word)

    def end_all(self, person: str) -> int:
        """Ends every session and link of a person; returns how many sessions there were."""
        with self._database.transaction() as connection:
            links.end_links_of(connection, person)
            return sessions.end_sessions_of(connection, person)

    def _open(self, person: str) -> str:
        actor = self._office.people.actor(person)
        idle = timedelta(minutes=self._office.settings.get(actor).idle_minutes)
        now = self._clock()
        with self._database.transaction() as connection:
            self._office.desk.note(connection, actor, ("sign-in", f"person:{person}"))
            sessions.forget_old_sessions(connection, now=now)
            return sessions.open_session(
                connection,
                person,
                sessions.Terms(idle, LONGEST),
                now=now,
                randomness=self._randomness,
            )

    def _set_password(self, connection: Connection, person: str, kept: str) -> None:
        connection.execute(delete(PASSWORDS).where(PASSWORDS.c.person == person))
        connection.execute(
            insert(PASSWORDS).values(person=person, hash=kept, set_at=seconds(self._clock()))
        )
        sessions.end_sessions_of(connection, person)
        links.end_links_of(connection, person)


def _password_of(connection: Connection, person: str) -> str | None:
    return connection.execute(
        select(PASSWORDS.c.hash).where(PASSWORDS.c.person == person)
    ).scalar_one_or_none()


def _improve_password(connection: Connection, person: str, old: str | None, new: str) -> None:
    """Replaces a hash by a stronger one of the same password, unless it was set anew meanwhile."""
    connection.execute(
        update(PASSWORDS)
        .where(PASSWORDS.c.person == person, PASSWORDS.c.hash == old)
        .values(hash=new)
    )
