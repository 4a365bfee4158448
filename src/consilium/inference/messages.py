# SPDX-License-Identifier: Apache-2.0
"""What crosses a wire in encrypted inference: one frozen type a message, bytes never printed.

owner -> operators    ModelShare           dealer -> operators   MaskSeed, Material
operator <-> operator WeightOpening, Exchange
patient -> operators  InputShare           operators -> patient  AnswerShare
"""

from typing import Final, TypeAlias, final

from msgspec.msgpack import Decoder

from consilium.inference.program import Program
from consilium.wire import Message

SESSION_BYTES: Final = 16


class _Quiet(Message, frozen=True):
    """A message that shows its bytes by their size only."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Returns every field as it may be shown."""
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [
            (name, f"<{len(value)} bytes>" if isinstance(value, bytes) else value)
            for name, value in values
        ]

    def __repr__(self) -> str:
        """Shows what `__rich_repr__` allows."""
        shown = ", ".join(f"{name}={value}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


@final
class ModelShare(_Quiet, frozen=True):
    """One operator's share of the weights and biases of a published model."""

    publication: bytes
    program: Program
    words: bytes


@final
class MaskSeed(_Quiet, frozen=True):
    """The seed of one operator's share of the masks of the weights; one for each publication."""

    publication: bytes
    seed: bytes


@final
class WeightOpening(_Quiet, frozen=True):
    """The sender's share of the weights minus its share of their masks; said once."""

    publication: bytes
    words: bytes


@final
class Material(_Quiet, frozen=True):
    """Correlated randomness for one image; `corrections` are empty for operator 0."""

    publication: bytes
    number: int
    seed: bytes
    corrections: bytes


@final
class InputShare(_Quiet, frozen=True):
    """One operator's share of `count` images."""

    publication: bytes
    session: bytes
    count: int
    words: bytes


@final
class Exchange(_Quiet, frozen=True):
    """The sender's share of what opening `number` of a session opens."""

    session: bytes
    number: int
    words: bytes


@final
class AnswerShare(_Quiet, frozen=True):
    """One operator's share of the answers of a session."""

    session: bytes
    words: bytes


Spoken: TypeAlias = (
    ModelShare | MaskSeed | WeightOpening | Material | InputShare | Exchange | AnswerShare
)
SPOKEN: Final[Decoder[Spoken]] = Decoder(Spoken)
