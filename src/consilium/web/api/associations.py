# SPDX-License-Identifier: Apache-2.0
"""Other offices: asked, compared word by word, accepted, disconnected."""

import base64
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter
from pydantic import Field

from consilium.errors import ConfigError
from consilium.governance.association import Association
from consilium.web.access import CurrentActor, TheOffice
from consilium.web.api.people import Why
from consilium.web.api.shapes import (
    Answer,
    Asked,
    Blob,
    Cursor,
    Hex,
    Id,
    Line,
    Listed,
    Reason,
    listed,
)

router = APIRouter(tags=["associations"])
Address = Annotated[str, Field(max_length=400, pattern=r"^(https?://[^\s]+)?$")]

LARGEST_MESSAGE: Final = 6_000_000  # characters


class AssociationAnswer(Answer):
    """Another office as this one knows it; `words` are read aloud by two people."""

    id: str
    name: str
    kind: str
    address: str
    key: Hex
    reason: str
    state: str
    since: datetime
    words: str


class AssociationAsked(Asked):
    """Whom to ask, where they are, where we are, and why."""

    to: Line
    address: Address
    own_address: Address = ""
    reason: Reason


class MessageAnswer(Answer):
    """A signed message, base64: send it to the other office, by the courier or as a file."""

    message: Blob


class MessageAsked(Asked):
    """A signed message of another office, base64."""

    message: Annotated[str, Field(max_length=LARGEST_MESSAGE, pattern="^[A-Za-z0-9+/]*={0,2}$")]

    def data(self) -> bytes:
        """Returns its bytes.

        Raises:
            ConfigError: It is no base64.
        """
        try:
            return base64.b64decode(self.message, validate=True)
        except ValueError:
            raise ConfigError("the message is no base64; expected it as it was given") from None


class AnswerAsked(Asked):
    """Yes with the six words as the other office read them aloud, or no."""

    accept: bool
    words: Annotated[str, Field(max_length=200)] = ""


class WordsAsked(Asked):
    """The six words as the other office read them aloud."""

    words: Line


@router.get("/associations")
def find_associations(
    actor: CurrentActor, office: TheOffice, part: Cursor
) -> Listed[AssociationAnswer]:
    """Returns every office that is or was known."""
    return listed(office.associations.all(actor), part, _answer, lambda one: one.id)


@router.post("/associations", status_code=201)
def ask_association(
    asked: AssociationAsked, actor: CurrentActor, office: TheOffice
) -> MessageAnswer:
    """Makes a signed introduction to another office."""
    message = office.associations.ask(
        actor,
        asked.to,
        address=asked.address,
        own_address=asked.own_address,
        reason=asked.reason,
    )
    return MessageAnswer(message=message)


@router.post("/associations/{association}/answer")
def answer_association(
    association: Id, asked: AnswerAsked, actor: CurrentActor, office: TheOffice
) -> MessageAnswer:
    """Accepts, if the six words are those of its key, or refuses; returns the signed answer."""
    message = office.associations.answer(actor, association, accept=asked.accept, words=asked.words)
    return MessageAnswer(message=message)


@router.post("/associations/{association}/confirmation")
def confirm_association(
    association: Id, asked: WordsAsked, actor: CurrentActor, office: TheOffice
) -> AssociationAnswer:
    """Accepts an office that answered yes, once its six words were compared."""
    return _answer(office.associations.confirm(actor, association, words=asked.words))


@router.post("/associations/{association}/revocation")
def revoke_association(
    association: Id, asked: Why, actor: CurrentActor, office: TheOffice
) -> AssociationAnswer:
    """Disconnects: nothing of that office is taken any more."""
    return _answer(office.associations.revoke(actor, association, asked.reason))


def _answer(one: Association) -> AssociationAnswer:
    fields = {
        name: getattr(one, name) for name in AssociationAnswer.model_fields if name != "words"
    }
    return AssociationAnswer.model_validate(fields | {"words": one.words()})
