# SPDX-License-Identifier: Apache-2.0
"""What crosses the wire in a secure sum: one frozen type for each message.

A table of 32-byte values is one field of bytes, its rows in the order of the sorted roster,
members or survivors; whoever uses it checks its exact size. Bytes never print.

    site -> coordinator   Hello, Ciphertexts, Prekeys, Upload, Opening    (union FromSite)
    coordinator -> site   Roster, CiphertextTable, Plan, Survivors        (union FromCoordinator)

Messages of a site carry its number, and no signature but in the set-up (Hello, Ciphertexts):
the caller checks that the channel is that site's.
"""

from typing import Final, TypeAlias, final

from msgspec.msgpack import Decoder

from consilium.wire import Message


class _Quiet(Message, frozen=True):
    """A message that shows its bytes by their size only."""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        """Returns every field as it may be shown."""
        values = [(name, getattr(self, name)) for name in self.__struct_fields__]
        return [
            (name, f"<{len(value)} bytes>" if isinstance(value, bytes | memoryview) else value)
            for name, value in values
        ]

    def __repr__(self) -> str:
        """Shows what `__rich_repr__` allows."""
        shown = ", ".join(f"{name}={value}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"


@final
class Hello(_Quiet, frozen=True):
    """First: a public key, signed by the site's identity for this job.

    `key` is an X25519 key; in a post-quantum job an ML-KEM-768 encapsulation key follows it.
    """

    site: int
    key: bytes
    signature: bytes


@final
class Roster(_Quiet, frozen=True):
    """Every hello of the session, by site."""

    hellos: tuple[Hello, ...]


@final
class Ciphertexts(_Quiet, frozen=True):
    """In a post-quantum job: ML-KEM secrets for the higher sites, signed for this roster.

    `ciphertexts` holds one of 1088 bytes for each site of the roster above the sender.
    """

    site: int
    ciphertexts: bytes
    signature: bytes


@final
class CiphertextTable(_Quiet, frozen=True):
    """The ciphertexts of every site that goes on, by site; these are the session's sites."""

    entries: tuple[Ciphertexts, ...]


@final
class Prekeys(_Quiet, frozen=True):
    """A site's shared-out secrets for one coming round; 160 bytes for each site on the roster.

    `self_shares` and `pair_shares` hold, for each site on the roster, its share of one of the
    two secrets less a pad that only that site (and the sender) can make. The commitments are
    of the shares. `envelope` holds the sender's roots with each other site of the roster, under
    the pair secret.
    """

    site: int
    round: int
    self_shares: bytes
    self_commitments: bytes
    pair_shares: bytes
    pair_commitments: bytes
    envelope: bytes


@final
class Plan(_Quiet, frozen=True):
    """A round begins: its members, and the digest of the model their vectors are made with."""

    round: int
    members: tuple[int, ...]
    model: bytes


@final
class Upload(_Quiet, frozen=True):
    """A masked vector, little-endian words; the prekeys of the next round may ride on it.

    `vector` is a view of bytes, as a copy of it would cost as much as half of its masks.
    """

    site: int
    round: int
    vector: memoryview
    prekeys: Prekeys | None


@final
class Survivors(_Quiet, frozen=True):
    """The members whose vectors came in: the sum will be over these."""

    round: int
    sites: tuple[int, ...]


@final
class Opening(_Quiet, frozen=True):
    """A site's pads for one list of survivors, sealed until enough sites answer for that list.

    `sealed` holds one pad for each member. The key of the seal is shared among the other
    survivors: `gate_shares` under pads, `commitments` of them, and in `tokens` the sender's own
    pads for the others' seals.
    """

    site: int
    round: int
    sealed: bytes
    gate_shares: bytes
    commitments: bytes
    tokens: bytes


FromSite: TypeAlias = Hello | Ciphertexts | Prekeys | Upload | Opening
FromCoordinator: TypeAlias = Roster | CiphertextTable | Plan | Survivors

FROM_SITE: Final[Decoder[FromSite]] = Decoder(FromSite)
FROM_COORDINATOR: Final[Decoder[FromCoordinator]] = Decoder(FromCoordinator)
