# SPDX-License-Identifier: Apache-2.0
"""What parties ask of a computing operator over a link, and what it answers.

Not here: the public card of a model (`public_card`).
"""

from typing import Final, TypeAlias, final

from msgspec.msgpack import Decoder

from consilium.inference.messages import Exchange, MaskSeed, Material, ModelShare, WeightOpening
from consilium.inference.program import Program
from consilium.wire import Message


@final
class PutModel(Message, frozen=True):
    """The owner: hold this share; `card` is the public description, as JSON."""

    share: ModelShare
    card: bytes


@final
class Revoke(Message, frozen=True):
    """The owner: answer for this publication no more."""

    publication: bytes


@final
class AskStatus(Message, frozen=True):
    """The dealer: what is missing?"""


@final
class Held(Message, frozen=True):
    """A publication, and how much unused material there is."""

    publication: bytes
    program: Program
    seeded: bool
    numbers: tuple[int, ...]


@final
class Status(Message, frozen=True):
    """What an operator holds."""

    held: tuple[Held, ...]


@final
class Meet(Message, frozen=True):
    """Operator 0 to operator 1: compute this session with this material."""

    publication: bytes
    session: bytes
    numbers: tuple[int, ...]


@final
class Done(Message, frozen=True):
    """It is done, and on disk."""


@final
class Refused(Message, frozen=True):
    """It is not done."""

    reason: str


Request: TypeAlias = (
    PutModel | Revoke | AskStatus | MaskSeed | Material | WeightOpening | Meet | Exchange
)
Reply: TypeAlias = Done | Refused | Status
REQUEST: Final[Decoder[Request]] = Decoder(Request)
REPLY: Final[Decoder[Reply]] = Decoder(Reply)
Heard: TypeAlias = Exchange | Refused
HEARD: Final[Decoder[Heard]] = Decoder(Heard)
