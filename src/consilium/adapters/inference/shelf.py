# SPDX-License-Identifier: Apache-2.0
"""What a computing operator keeps on disk: published models, their shares, seeds and material.

A folder for each publication: share, card, seed, the other operator's opening, `revoked`. After a
restart the operator holds what it held; sessions that were under way are gone. Of a revoked model
the card is kept, to say so; shares, seed, opening and material are deleted (by the file system's
means: what a disk or a backup keeps of them is not overwritten).
"""

import threading
from pathlib import Path
from typing import Final, final

from msgspec.msgpack import Decoder
from msgspec.structs import replace

from consilium import wire
from consilium.adapters.inference.links import LARGEST
from consilium.adapters.inference.material_store import MaterialStore
from consilium.adapters.inference.public_card import read_card
from consilium.adapters.inference.talk import Held, PutModel
from consilium.adapters.whole_files import sync_folder, write_whole
from consilium.errors import AccessDenied, DataError, LocalProtocolError, ProtocolError
from consilium.inference.messages import MaskSeed, Material, WeightOpening
from consilium.inference.operator import (
    Appointed,
    Holding,
    Prepare,
    Prepared,
    Publish,
    Unmasking,
    operator_step,
    together,
)
from consilium.inference.program import check_program
from consilium.inference.weights import unpack_weights

_MODEL: Final[Decoder[PutModel]] = Decoder(PutModel)
_SEED: Final[Decoder[MaskSeed]] = Decoder(MaskSeed)
_OPENING: Final[Decoder[WeightOpening]] = Decoder(WeightOpening)
READY: Final = 4  # images that are prepared in memory, for each model


@final
class Published:
    """One publication at one operator."""

    def __init__(self, folder: Path, put: PutModel, *, first: bool) -> None:
        self.put, self.first = put, first
        self.card = read_card(put.card)
        self.materials = MaterialStore(folder / "material", put.share.publication)
        self._folder = folder
        self._state: Appointed | Unmasking | Holding = Appointed(first=first)
        self._ready: dict[int, Prepared] = {}
        self._lock = threading.Lock()
        self.opening: WeightOpening | None = None
        if self.revoked:
            self._forget()  # a crash may have come before
            return
        if (folder / "seed").exists():
            seed = wire.decode((folder / "seed").read_bytes(), _SEED, limit=LARGEST)
            self._state, self.opening = self._seeded(seed)
        if (folder / "opening").exists():
            data = (folder / "opening").read_bytes()
            self.hear_opening(wire.decode(data, _OPENING, limit=LARGEST))

    @property
    def held(self) -> Held:
        """What the dealer may know."""
        share = self.put.share
        numbers = self.materials.numbers()
        return Held(share.publication, share.program, self.opening is not None, numbers)

    def take_seed(self, seed: MaskSeed) -> None:
        """Keeps the seed of the masks, and makes the opening of the weights."""
        with self._lock:
            if self.opening is not None:
                raise DataError("this publication has its seed; publish the model anew for another")
            state, opening = self._seeded(seed)
            write_whole(self._folder / "seed", wire.encode(seed))
            self._state, self.opening = state, opening

    def keep(self, material: Material) -> None:
        """Keeps what the dealer brought.

        Raises:
            AccessDenied: The model was revoked.
            DataError: Of another publication, or dealt before.
        """
        with self._lock:
            if self.revoked:
                raise AccessDenied("the model was revoked by its owner; deal no more for it")
            self.materials.keep(material)

    def hear_opening(self, other: WeightOpening) -> None:
        """Takes the other operator's opening; the same one may come again."""
        if isinstance(self._state, Unmasking):
            after, _ = _held(self._state, other)
            write_whole(self._folder / "opening", wire.encode(other))
            self._state = after

    @property
    def ready(self) -> bool:
        """Whether images can be computed."""
        return isinstance(self._state, Holding)

    @property
    def revoked(self) -> bool:
        """Whether the owner took it back."""
        return (self._folder / "revoked").exists()

    def revoke(self) -> None:
        """Answers no more, and keeps nothing of the model; a session that has begun ends."""
        write_whole(self._folder / "revoked", b"")
        sync_folder(self._folder)
        with self._lock:
            self._forget()

    def _forget(self) -> None:
        self._state, self.opening, self._ready = Appointed(first=self.first), None, {}
        self.put = replace(self.put, share=replace(self.put.share, words=b""))
        write_whole(self._folder / "model", wire.encode(self.put))
        for name in ("seed", "opening"):
            (self._folder / name).unlink(missing_ok=True)
        self.materials.discard(self.materials.numbers())
        sync_folder(self._folder)

    def prepare_ahead(self) -> bool:
        """Prepares one more image in memory; returns whether there was one to prepare."""
        with self._lock:
            if not isinstance(self._state, Holding) or self.revoked:
                return False
            waiting = self.materials.numbers()[:READY]
            self._ready = {k: one for k, one in self._ready.items() if k in waiting}
            missing = [number for number in waiting if number not in self._ready]
            if not missing:
                return False
            self._ready[missing[0]] = self._prepared(self._state, missing[0])
            return True

    def prepared(self, numbers: tuple[int, ...]) -> Prepared:
        """Returns the preparation of a session; the material is not marked yet.

        Raises:
            AccessDenied: The model was revoked.
            LocalProtocolError: The model is not ready.
            DataError: Material that is not here, or was used.
        """
        if self.revoked:
            raise AccessDenied(f"model {self.card.name} was revoked by its owner; ask for another")
        if not numbers:
            raise DataError("a session without material; ask for one image or more")
        with self._lock:
            if not isinstance(self._state, Holding):
                raise LocalProtocolError("the model is not ready: the dealer has not come by yet")
            state = self._state
            parts = [
                self._ready.pop(number) if number in self._ready else self._prepared(state, number)
                for number in numbers
            ]
        return together(parts)

    def _prepared(self, state: Holding, number: int) -> Prepared:
        try:
            made, _ = operator_step(state, Prepare((self.materials.look(number),)))
        except (FileNotFoundError, ProtocolError, ValueError):
            self.materials.discard((number,))
            raise DataError(f"material {number} is damaged and was put away; ask again") from None
        if not isinstance(made, Prepared):
            raise TypeError(type(made).__name__)
        return made

    def _seeded(self, seed: MaskSeed) -> tuple[Unmasking, WeightOpening]:
        """Returns the state that has its seed, and what is opened of the weights."""
        try:
            state, said = operator_step(Appointed(first=self.first), Publish(self.put.share, seed))
        except ValueError as error:
            raise DataError(f"{error}; deal another seed") from None
        if not isinstance(state, Unmasking) or not isinstance(said[0], WeightOpening):
            raise TypeError(type(state).__name__)
        return state, said[0]


@final
class Shelf:
    """All publications of one operator."""

    def __init__(self, folder: Path, *, first: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._first = folder, first
        self._lock = threading.Lock()
        self._published: dict[bytes, Published] = {}
        for place in sorted(folder.glob("*/model")):
            put = wire.decode(place.read_bytes(), _MODEL, limit=LARGEST)
            one = Published(place.parent, put, first=first)
            self._published[put.share.publication] = one

    def put(self, put: PutModel) -> None:
        """Keeps a new publication.

        Raises:
            ConsiliumError: There is one of this name, or it cannot be carried out.
        """
        with self._lock:
            name = put.share.publication
            if name in self._published or len(name) != 32:
                raise DataError("this publication is here already; publish the model anew")
            check_program(put.share.program)
            unpack_weights(put.share.program, put.share.words)
            read_card(put.card)
            place = self._folder / name.hex()
            place.mkdir(mode=0o700, exist_ok=True)
            made = Published(place, put, first=self._first)
            write_whole(place / "model", wire.encode(put))
            self._published[name] = made

    def get(self, name: bytes) -> Published:
        """Returns a publication.

        Raises:
            DataError: There is none.
        """
        with self._lock:
            if name not in self._published:
                raise DataError("no such model here; ask for the list of models")
            return self._published[name]

    def all(self) -> tuple[Published, ...]:
        """Returns all of them."""
        with self._lock:
            return tuple(self._published.values())


def _held(state: Unmasking, other: WeightOpening) -> tuple[Holding, tuple[object, ...]]:
    after, said = operator_step(state, other)
    if not isinstance(after, Holding):
        raise TypeError(type(after).__name__)
    return after, said
