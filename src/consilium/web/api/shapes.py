# SPDX-License-Identifier: Apache-2.0
"""What the API says and hears, common to all resources: base models, lists, ETags, cursors.

Guarantees: a field that is not declared never leaves, and one that is not known is refused. An
ETag is the digest of what was answered, so it changes exactly when an answer does.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeAlias, TypeVar, final

from fastapi import Depends, Header, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from starlette.exceptions import HTTPException
from starlette.responses import Response

from consilium.adapters.office.office import Office
from consilium.errors import ConfigError, Stale
from consilium.governance.access import Actor
from consilium.web.access import CurrentActor, TheOffice

MOST: Final = 200
Hex: TypeAlias = Annotated[bytes, PlainSerializer(bytes.hex, return_type=str)]
Words: TypeAlias = Annotated[list[str], BeforeValidator(lambda value: sorted(map(str, value)))]
Blob: TypeAlias = Annotated[
    bytes, PlainSerializer(lambda data: base64.b64encode(data).decode(), return_type=str)
]
Id: TypeAlias = Annotated[str, Field(pattern=r"^[0-9A-Za-z._-]{1,64}$")]
Line: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Prose: TypeAlias = Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")]
Reason: TypeAlias = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
Epsilon: TypeAlias = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]


class Answer(BaseModel):
    """Base of what leaves."""

    model_config = ConfigDict(from_attributes=True, frozen=True)


class Asked(BaseModel):
    """Base of what comes in."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemAnswer(Answer):
    """RFC 9457, with what to do and who can. docs/api.md lists the codes."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    do: str
    who: str


ItemT = TypeVar("ItemT", bound=Answer)
SourceT = TypeVar("SourceT")


class Listed(Answer, Generic[ItemT]):
    """A part of a list; `next` is the cursor of the part after it, or null at the end."""

    items: list[ItemT]
    next: str | None = None


# -- Cursors --------------------------------------------------------------------------


class Slice(BaseModel):
    """Which part of a list is asked for."""

    model_config = ConfigDict(extra="forbid")

    cursor: Annotated[str | None, Field(max_length=200, description="`next` of a list.")] = None
    limit: Annotated[int, Field(ge=1, le=MOST)] = 50


Cursor: TypeAlias = Annotated[Slice, Query()]


def listed(
    items: Iterable[SourceT],
    part: Slice,
    make: Callable[[SourceT], ItemT],
    key: Callable[[SourceT], str],
) -> Listed[ItemT]:
    """Returns the part of `items` after the cursor, in ascending order of `key`."""
    beyond = "" if part.cursor is None else read_cursor(part.cursor)
    found = sorted((one for one in items if key(one) > beyond), key=key)
    return listed_part(found[: part.limit + 1], part, make, key)


def listed_part(
    found: Sequence[SourceT],
    part: Slice,
    make: Callable[[SourceT], ItemT],
    key: Callable[[SourceT], str],
) -> Listed[ItemT]:
    """Returns at most `part.limit` of `found`, with the cursor of what follows."""
    shown = found[: part.limit]
    more = len(found) > part.limit
    return Listed(
        items=[make(one) for one in shown], next=write_cursor(key(shown[-1])) if more else None
    )


def write_cursor(key: str) -> str:
    """Returns a cursor that stands behind `key`."""
    return base64.urlsafe_b64encode(key.encode()).rstrip(b"=").decode()


def read_cursor(cursor: str) -> str:
    """Returns the key that a cursor stands behind.

    Raises:
        ConfigError: No list made it.
    """
    try:
        data = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        return data.decode()
    except ValueError:
        raise ConfigError("the cursor is not one of this list; expected `next` of it") from None


# -- Versions -------------------------------------------------------------------------


def etag(answer: BaseModel) -> str:
    """Returns the ETag of what is answered."""
    return f'"{hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:32]}"'


def tagged(response: Response, answer: ItemT) -> ItemT:
    """Returns `answer`, and puts its ETag into the response."""
    response.headers["ETag"] = etag(answer)
    return answer


@final
@dataclass(frozen=True, slots=True)
class Edit:
    """A change of something that the caller has read.

    Attributes:
        actor: Who changes it.
        office: Whose it is.
        response: That gets the new ETag.
        named: The ETag that the caller named.
    """

    actor: Actor
    office: Office
    response: Response
    named: str | None

    def check(self, now: BaseModel) -> None:
        """Refuses an edit of something that the caller has not read as it is now.

        Raises:
            HTTPException: 428, the caller named no ETag.
            Stale: It is not the ETag of `now`.
        """
        if self.named is None:
            raise HTTPException(428, "the edit has no If-Match; expected the ETag of what you read")
        if self.named != etag(now):
            raise Stale("it was changed since you read it; expected the newest ETag in If-Match")

    def tagged(self, answer: ItemT) -> ItemT:
        """Returns `answer`, and puts its ETag into the response."""
        return tagged(self.response, answer)


def _edit(
    actor: CurrentActor,
    office: TheOffice,
    response: Response,
    if_match: Annotated[
        str | None,
        Header(max_length=100, description="The ETag under which it was read; needed (428)."),
    ] = None,
) -> Edit:
    return Edit(actor, office, response, if_match)


Editing: TypeAlias = Annotated[Edit, Depends(_edit)]

# -- What every route may answer ------------------------------------------------------

REFUSALS: Final[dict[int | str, dict[str, object]]] = {
    status: {"model": ProblemAnswer, "description": says}
    for status, says in (
        (400, "It cannot be read."),
        (401, "Nobody is signed in."),
        (403, "The actor may not, or the request comes from another site."),
        (404, "There is none, or none that the actor may know of."),
        (409, "Its state or the budget does not allow it; nothing changed."),
        (412, "It was changed since it was read."),
        (413, "It is too large."),
        (422, "A value cannot be used."),
        (428, "If-Match is missing."),
        (429, "Too many tries."),
    )
}
