# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, told to programs (RFC 9457) and to people.

What happened, why, what to do, who can.
One table, `KINDS`, from our errors to answers. Guarantees: an error that is not in the table is
answered with nothing of its text, and logged by its kind alone; no traceback leaves.
"""

from dataclasses import dataclass
from typing import Final, final

from consilium.errors import (
    AccessDenied,
    BudgetExceeded,
    ConfigError,
    Conflict,
    ConsiliumError,
    DataError,
    NotFound,
    NotSignedIn,
    PrivacyError,
    Stale,
    TooLarge,
    TooManyTries,
)

MEDIA_TYPE: Final = "application/problem+json"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An answer to what cannot be done.

    Attributes:
        status: Of HTTP.
        code: Stable word for programs; docs/api.md has a section of its name.
        title: What happened.
        why: The reason, with what was found and expected.
        do: What the caller can do.
        who: Who can put it right.
        retry_after: Seconds after which trying again makes sense, or None.
    """

    status: int
    code: str
    title: str
    why: str
    do: str
    who: str
    retry_after: int | None = None

    def as_json(self) -> dict[str, object]:
        """Returns the members of RFC 9457, and ours."""
        return {
            "type": f"/problems/{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.why,
            "code": self.code,
            "do": self.do,
            "who": self.who,
        }


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """What every problem of one code has in common."""

    status: int
    code: str
    title: str
    do: str
    who: str


_YOU: Final = "you"
_ADMIN: Final = "an administrator of this office"
KINDS: Final[tuple[tuple[type[ConsiliumError], Kind], ...]] = (  # the first that fits
    (
        NotSignedIn,
        Kind(401, "not-signed-in", "You are not signed in", "Sign in and try again.", _YOU),
    ),
    (
        TooManyTries,
        Kind(
            429,
            "too-many-tries",
            "Too many tries",
            "Wait, or ask for a reset link.",
            f"you, by waiting; or {_ADMIN}",
        ),
    ),
    (
        AccessDenied,
        Kind(
            403,
            "access-denied",
            "You may not do this",
            "Ask somebody who may, or for the right to.",
            f"{_ADMIN}, or the person who owns it",
        ),
    ),
    (
        BudgetExceeded,
        Kind(
            409,
            "budget-exceeded",
            "The privacy budget does not allow this",
            "Ask for less: fewer rounds, more noise, or another dataset.",
            "two data stewards together can raise a cap",
        ),
    ),
    (
        Stale,
        Kind(
            412,
            "stale",
            "Somebody changed this since you read it",
            "Read it again, look at the change, and send yours with the new ETag.",
            _YOU,
        ),
    ),
    (
        Conflict,
        Kind(
            409,
            "conflict",
            "This cannot be done now",
            "Look at its state and at whose turn it is.",
            "whoever's turn it is",
        ),
    ),
    (
        NotFound,
        Kind(
            404,
            "not-found",
            "There is nothing here",
            "Look for it in the list it should be in.",
            _YOU,
        ),
    ),
    (TooLarge, Kind(413, "too-large", "The request is too large", "Send less.", _YOU)),
    (
        DataError,
        Kind(422, "not-usable", "These data cannot be used", "Send them as expected.", _YOU),
    ),
    (
        ConfigError,
        Kind(422, "not-allowed", "This value cannot be used", "Send one as expected.", _YOU),
    ),
    (
        PrivacyError,
        Kind(
            409,
            "not-private",
            "This would break the privacy guarantee",
            "Choose settings whose price is known.",
            "the author of the project",
        ),
    ),
    (
        ConsiliumError,
        Kind(409, "refused", "This was refused", "Read the reason.", _YOU),
    ),
)
_BROKEN: Final = Kind(
    500,
    "broken",
    "Something is broken on this side",
    "Try again; if it stays, tell the operator the time.",
    "the operator of this office: its log has the kind of error",
)
_BY_STATUS: Final = {
    400: Kind(400, "malformed", "The request cannot be read", "Send it as the docs say.", _YOU),
    405: Kind(405, "wrong-method", "This cannot be done here", "See the docs.", _YOU),
    413: Kind(413, "too-large", "The request is too large", "Send less.", _YOU),
    428: Kind(
        428,
        "unconditional",
        "The edit does not say what it is an edit of",
        "Read it first, and send its ETag as If-Match.",
        _YOU,
    ),
    415: Kind(415, "wrong-type", "The body is of another type", "Send JSON.", _YOU),
}
CODES: Final = tuple(
    kind.code for kind in (*(kind for _, kind in KINDS), *_BY_STATUS.values(), _BROKEN)
)


def problem_of(error: ConsiliumError) -> Problem:
    """Returns what a caller is told of a refusal."""
    kind = next(kind for type_, kind in KINDS if isinstance(error, type_))
    wait = error.seconds if isinstance(error, TooManyTries) else None
    return _problem(kind, str(error), wait)


def problem_of_status(status: int, why: str) -> Problem:
    """Returns what a caller is told where the framework itself refused."""
    known = {kind.status: kind for _, kind in reversed(KINDS)} | _BY_STATUS
    kind = known.get(status, _BROKEN if status >= 500 else _BY_STATUS[400])
    return _problem(Kind(status, kind.code, kind.title, kind.do, kind.who), why)


def broken() -> Problem:
    """Returns what a caller is told of an error that nobody meant."""
    return _problem(_BROKEN, "an error that this release does not expect")


def _problem(kind: Kind, why: str, wait: int | None = None) -> Problem:
    return Problem(
        status=kind.status,
        code=kind.code,
        title=kind.title,
        why=why,
        do=kind.do,
        who=kind.who,
        retry_after=wait,
    )
