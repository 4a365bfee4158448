# SPDX-License-Identifier: Apache-2.0
"""Sessions of patients at one operator: a share comes, waits for its turn, and an answer goes.

A session is 16 random bytes of the patient, the same at both operators; a token of 32 bytes is
another one at each, so that no operator can fetch the other's share of the answer. Guarantees:
a session ends, with an answer or with a reason, and is forgotten after `KEPT` seconds.
"""

import hmac
import threading
import time
from dataclasses import dataclass, field
from typing import Final, final

from consilium.errors import AccessDenied, ConsiliumError, DataError
from consilium.inference.messages import SESSION_BYTES, AnswerShare, InputShare

KEPT: Final = 300.0  # seconds
MOST: Final = 64  # sessions under way at once


class Busy(ConsiliumError):
    """Too many sessions; try again later."""


@final
@dataclass(slots=True)
class Session:
    """One of them."""

    share: InputShare | None = field(repr=False)
    token: bytes = field(repr=False)
    began: float
    answer: AnswerShare | None = field(default=None, repr=False)
    failure: str | None = None
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def under_way(self) -> bool:
        """Whether it has not ended."""
        return self.answer is None and self.failure is None


@final
class Sessions:
    """Those of one operator."""

    def __init__(self) -> None:
        self._sessions: dict[bytes, Session] = {}
        self._changed = threading.Condition()
        self._closed = False

    def close(self) -> None:
        """Lets nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def add(self, share: InputShare, token: bytes) -> None:
        """Takes up a session.

        Raises:
            DataError: Its name is not 16 bytes, its token not 32, or it is here.
            Busy: There are too many.
        """
        with self._changed:
            self._forget()
            if len(share.session) != SESSION_BYTES or len(token) != 32:
                raise DataError("a session of 16 bytes and a token of 32 were expected; send anew")
            if share.session in self._sessions:
                raise DataError("this session is here already; a retry is a new session")
            if sum(one.under_way for one in self._sessions.values()) >= MOST:
                raise Busy(f"{MOST} sessions are under way; try again in a minute")
            self._sessions[share.session] = Session(share, token, time.monotonic())
            self._changed.notify_all()

    def take(self, session: bytes, patience: float) -> InputShare:
        """Returns the share of a session once, waiting for it to come.

        Raises:
            DataError: It did not come in time, or was taken before.
        """
        end = time.monotonic() + patience
        with self._changed:
            while (found := self._sessions.get(session)) is None:
                if self._closed or not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise DataError("the image's share did not come to both operators; send anew")
            share, found.share = found.share, None
            if share is None:
                raise DataError("this session was begun before; a retry is a new session")
            return share

    def end(
        self, session: bytes, answer: AnswerShare | str, facts: dict[str, float] | None = None
    ) -> None:
        """Notes the answer, or why there is none."""
        with self._changed:
            found = self._sessions.get(session)
            if found is None:
                return
            found.share, found.facts = None, facts or {}
            if isinstance(answer, AnswerShare):
                found.answer = answer
            else:
                found.failure = answer
            self._changed.notify_all()

    def wait(self, session: bytes, token: bytes, patience: float) -> Session:
        """Returns the session once it has ended, or as it is after `patience` seconds.

        Raises:
            AccessDenied: No such session, or not this token.
        """
        end = time.monotonic() + patience
        with self._changed:
            self._forget()
            while True:
                found = self._sessions.get(session)
                if found is None or not hmac.compare_digest(found.token, token):
                    raise AccessDenied(
                        "no such session here: it ended, its operator was started again, or its "
                        "token is another; ask again"
                    )
                if not found.under_way:
                    return found
                if self._closed or not self._changed.wait(max(0.0, end - time.monotonic())):
                    return found

    def forget(self) -> None:
        """Forgets what is older than `KEPT`."""
        with self._changed:
            self._forget()

    def _forget(self) -> None:
        now = time.monotonic()
        old = [name for name, one in self._sessions.items() if now - one.began > KEPT]
        for name in old:
            del self._sessions[name]
