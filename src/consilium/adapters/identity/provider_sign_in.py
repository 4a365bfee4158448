# SPDX-License-Identifier: Apache-2.0
"""Signing in by the hospital's identity provider: there, back, and only then a session.

    begin    -> where the browser goes, and the word that it keeps meanwhile
    finish   -> what it brings back becomes a session

Guarantees: state, nonce and PKCE verifier are this office's own, kept here for `LASTS` and used
once, also where two come at the same time; whoever finishes is the browser that began; no account
is made and no role is given by what a provider says. Each refusal of `finish` is in the audit log.
"""

import os
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, final

import httpx
from sqlalchemy import Connection, delete, insert, select

from consilium.adapters.identity import tries
from consilium.adapters.identity.accounts import Accounts
from consilium.adapters.identity.one_time import Randomness, new_word, word_digest
from consilium.adapters.identity.provider import (
    SECONDS,
    ProviderRule,
    Round,
    ask_provider,
    discover,
    leave_for,
    require_authlib,
)
from consilium.adapters.office.office import Office
from consilium.adapters.store.identity_tables import DEPARTURES, seconds
from consilium.errors import AccessDenied, TooManyTries

LASTS: Final = timedelta(minutes=10)
_STATE: Final = "provider-state"
_BROWSER: Final = "provider-browser"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A browser on its way to the provider.

    Attributes:
        address: Where it goes.
        word: What it keeps, in a cookie that no script reads.
    """

    address: str
    word: str = field(repr=False)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a browser brings back.

    Attributes:
        code: Of the provider.
        state: Of ours.
        issuer: Who the answer says it is from (RFC 9207); empty if it does not say.
        word: What the browser kept.
        back: Where it was sent to.
        client: Its network address.
    """

    code: str = field(repr=False)
    state: str = field(repr=False)
    issuer: str
    word: str = field(repr=False)
    back: str
    client: str


@final
class ProviderSignIn:
    """The way in through one identity provider."""

    def __init__(
        self,
        office: Office,
        accounts: Accounts,
        rule: ProviderRule,
        *,
        randomness: Randomness = os.urandom,
    ) -> None:
        require_authlib()
        self._database = office.desk.database
        self._clock = office.desk.clock
        self._accounts = accounts
        self._rule = rule
        self._randomness = randomness

    @property
    def label(self) -> str:
        """What people call the provider."""
        return self._rule.label

    def begin(self, back: str, client: str) -> Departure:
        """Returns where a browser goes to say who it is, and what it keeps.

        Raises:
            AccessDenied: The provider does not answer.
            TooManyTries: It was begun too often from this address.
        """
        state, word, nonce, verifier = (new_word(self._randomness) for _ in range(4))
        going = Round(nonce=nonce, verifier=verifier, back=back)
        now = self._clock()
        with self._database.transaction() as connection:
            tries.count_try(connection, state, client, now=now)
        with _requests() as requests:
            address = leave_for(self._rule, discover(self._rule, requests), state, going)
        with self._database.transaction() as connection:
            connection.execute(delete(DEPARTURES).where(DEPARTURES.c.expires_at <= seconds(now)))
            connection.execute(
                insert(DEPARTURES).values(
                    state=word_digest(_STATE, state),
                    browser=word_digest(_BROWSER, word),
                    nonce=nonce,
                    verifier=verifier,
                    expires_at=seconds(now + LASTS),
                )
            )
        return Departure(address=address, word=word)

    def finish(self, arrival: Arrival) -> str:
        """Returns the word of a session.

        Raises:
            AccessDenied: It was not begun here, by this browser, just now; the provider does not
                vouch for a verified e-mail; or that is of nobody active here.
            TooManyTries: It was tried too often from this address.
        """
        try:
            email = self._email(arrival)
        except TooManyTries:  # who goes on trying does not fill the log
            raise
        except AccessDenied:
            self._accounts.note_refusal("")
            raise
        word = self._accounts.sign_in_as(email)
        with self._database.transaction() as connection:
            tries.forget_tries(connection, arrival.state, arrival.client)
        return word

    def _email(self, arrival: Arrival) -> str:
        now = self._clock()
        with self._database.transaction() as connection:
            going = _take(connection, arrival, now=now)
        if going is None:
            with self._database.transaction() as connection:
                tries.count_try(connection, arrival.state, arrival.client, now=now)
            raise AccessDenied(
                "this sign-in was not begun in this browser, was used, or took longer than "
                f"{LASTS}; expected a fresh one: start again"
            )
        if arrival.issuer not in ("", self._rule.issuer):
            raise AccessDenied("another identity provider answered; expected the configured one")
        with _requests() as requests:
            return ask_provider(self._rule, requests, arrival.code, going, now=now)


def _take(connection: Connection, arrival: Arrival, *, now: datetime) -> Round | None:
    """Returns the sign-in that this browser began, and ends it; None if there is none."""
    mine = (DEPARTURES.c.state == word_digest(_STATE, arrival.state)) & (
        DEPARTURES.c.browser == word_digest(_BROWSER, arrival.word)
    )
    row = connection.execute(
        select(DEPARTURES).where(mine, DEPARTURES.c.expires_at > seconds(now))
    ).one_or_none()
    taken = connection.execute(delete(DEPARTURES).where(mine)).rowcount
    if row is None or taken != 1:
        return None
    return Round(nonce=row.nonce, verifier=row.verifier, back=arrival.back)


def _requests() -> httpx.Client:
    return httpx.Client(timeout=SECONDS, follow_redirects=False)
