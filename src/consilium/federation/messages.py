# SPDX-License-Identifier: Apache-2.0
"""What coordinator and sites say to each other in a training run, beside the secure sum.

A `RoundStart` carries the secure sum's plan with the weights it is bound to. `Ready` and
`PlainUpdate` stand for the secure sum where a project turned it off by its long name, or
where one party holds all data.
"""

from typing import Final, TypeAlias, final

import numpy as np
from msgspec.msgpack import Decoder

from consilium.errors import RemoteProtocolError
from consilium.learning.parameters import Vector
from consilium.secagg import messages as sums
from consilium.wire import Message, digest


@final
class Ready(Message, frozen=True):
    """Site -> coordinator, first, without a secure sum."""

    site: int


@final
class PlainUpdate(Message, frozen=True):
    """Site -> coordinator, without a secure sum: a vector that the coordinator sees."""

    site: int
    round: int
    vector: bytes

    def __repr__(self) -> str:
        """Shows sizes only."""
        return f"PlainUpdate(site={self.site}, round={self.round}, <{len(self.vector)} bytes>)"


@final
class PrekeysWanted(Message, frozen=True):
    """Coordinator -> site: send the prekeys of this round, or be left out of it."""

    round: int


@final
class RoundStart(Message, frozen=True):
    """Coordinator -> every member: the round, its members and the model to compute at."""

    plan: sums.Plan
    weights: bytes
    learning_rate: float

    def __repr__(self) -> str:
        """Shows sizes only."""
        return f"RoundStart({self.plan}, <{len(self.weights)} bytes of weights>)"


FromSite: TypeAlias = sums.FromSite | Ready | PlainUpdate
FromCoordinator: TypeAlias = (
    sums.Roster | sums.CiphertextTable | PrekeysWanted | RoundStart | sums.Survivors
)

FROM_SITE: Final[Decoder[FromSite]] = Decoder(FromSite)
FROM_COORDINATOR: Final[Decoder[FromCoordinator]] = Decoder(FromCoordinator)


def weights_to_bytes(weights: Vector) -> bytes:
    """Returns `weights`, shape (dimension,), as little-endian float32."""
    return weights.astype("<f4").tobytes()


def weights_from_bytes(data: bytes, dimension: int) -> Vector:
    """Returns the weights in `data`, shape (dimension,), float32.

    Raises:
        RemoteProtocolError: Not `dimension` finite numbers.
    """
    if len(data) != 4 * dimension:
        raise RemoteProtocolError(f"weights of {len(data)} bytes; expected {4 * dimension}")
    weights = np.frombuffer(data, "<f4").astype(np.float32)
    if not np.isfinite(weights).all():
        raise RemoteProtocolError("weights are not finite; expected a model that has not diverged")
    return weights


def model_digest(weights: bytes) -> bytes:
    """Returns what binds a model into the keys of its round, 32 bytes."""
    return digest("model", weights)
