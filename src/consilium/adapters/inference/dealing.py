# SPDX-License-Identifier: Apache-2.0
"""The dealer as a process: it goes round the two that compute and deals what they lack.

Material goes to operator 1 first and to operator 0 when that is done, so that whatever operator 0
picks is at both. Guarantees: seeds come from the operating system, one call each; a publication
is adopted once (its file is on disk before a seed leaves); numbers only grow, also after a crash.
The dealer listens to nobody and hears only what is missing.
"""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, final

from msgspec.msgpack import Decoder

from consilium import wire
from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.links import Link, LinkBroken, dial
from consilium.adapters.inference.talk import REPLY, AskStatus, Held, Refused, Status
from consilium.adapters.randomness import operating_system
from consilium.adapters.whole_files import write_whole
from consilium.errors import ConfigError, ConsiliumError, DataError
from consilium.inference.dealer import Adopt, Deal, Dealing, Idle, dealer_step
from consilium.inference.messages import MaskSeed, Material
from consilium.wire import Message

_LOG: Final = logging.getLogger("consilium.adapters.inference")
_NOT_ADOPTED: Final = (
    "this dealer did not adopt this publication; restore its folder, or publish anew"
)
PAUSE: Final = 1.0  # seconds between rounds in which nothing was missing


@final
class _Adopted(Message, frozen=True):
    """What the dealer writes of a publication; its seeds are as secret as the weights' masks."""

    publication: bytes
    seeds: tuple[bytes, bytes]
    number: int


_ADOPTED: Final[Decoder[_Adopted]] = Decoder(_Adopted)


@final
class Dealer:
    """Operator 2: keeps `stock` images ahead at both others."""

    def __init__(self, kit: Path, folder: Path, *, stock: int) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._kit, self._folder, self._stock = kit, folder, stock
        self._addresses = read_operators(kit).computing
        self._dealing: dict[bytes, Dealing] = {}
        self._links: list[Link] = []

    def serve(self) -> None:
        """Deals for ever."""
        while True:
            try:
                busy = self.go_round()
            except (ConsiliumError, OSError) as error:
                _LOG.warning("cannot deal now", extra={"reason": str(error)})
                self.close()
                busy = False
            if not busy:
                time.sleep(PAUSE)

    def go_round(self) -> bool:
        """Deals at most one image of each publication; returns whether anything was missing."""
        if not self._links:
            for k, address in enumerate(self._addresses):  # one that fails leaves those to `close`
                self._links.append(dial(self._kit, address, f"operator-{k}"))
        first, second = (_status(link) for link in self._links)
        busy = False
        for name in first.keys() & second.keys():
            try:
                busy |= self._serve_one(first[name], second[name])
            except (ConfigError, DataError) as error:  # the others are dealt for
                _LOG.warning("cannot deal for a model", extra={"reason": str(error)})
        return busy

    def close(self) -> None:
        """Ends the links."""
        for link in self._links:
            link.close()
        self._links = []

    def _serve_one(self, first: Held, second: Held) -> bool:
        if not (first.seeded and second.seeded):
            self._seed(first, second)
            return True
        if len(first.numbers) >= self._stock:
            return False
        state = self._state(first)
        self._write(first, self._seeds(first), state.number + 1)
        fresh = (operating_system(), operating_system(), operating_system())
        after, (one, other) = dealer_step(state, Deal(fresh))
        if isinstance(after, Dealing):
            self._dealing[first.publication] = after
        self._put(1, other)
        self._put(0, one)
        return True

    def _seed(self, first: Held, second: Held) -> None:
        if first.program != second.program:
            raise DataError("the operators hold two programs under one name; publish anew")
        seeds = self._known_seeds(first)
        if seeds is None and (first.seeded or second.seeded):
            raise DataError(_NOT_ADOPTED)
        if seeds is None:
            seeds = (operating_system(), operating_system())
            self._write(first, seeds, 0)
        for k, held in enumerate((first, second)):
            if not held.seeded:
                self._put(k, MaskSeed(held.publication, seeds[k]))

    def _state(self, held: Held) -> Dealing:
        known = self._dealing.get(held.publication)
        if known is not None:
            return known
        read = self._read(held)
        adopt = Adopt(
            publication=held.publication,
            program=held.program,
            seeds=read.seeds,
            number=read.number,
        )
        state, _ = dealer_step(Idle(), adopt)
        if not isinstance(state, Dealing):
            raise TypeError(type(state).__name__)
        return state

    # -- Disk and links ---------------------------------------------------------------

    def _path(self, held: Held) -> Path:
        return self._folder / f"{held.publication.hex()}.dealer"

    def _read(self, held: Held) -> _Adopted:
        try:
            return wire.decode(self._path(held).read_bytes(), _ADOPTED, limit=4096)
        except FileNotFoundError:
            raise DataError(_NOT_ADOPTED) from None

    def _known_seeds(self, held: Held) -> tuple[bytes, bytes] | None:
        return self._read(held).seeds if self._path(held).exists() else None

    def _seeds(self, held: Held) -> tuple[bytes, bytes]:
        return self._read(held).seeds

    def _write(self, held: Held, seeds: tuple[bytes, bytes], number: int) -> None:
        write_whole(self._path(held), wire.encode(_Adopted(held.publication, seeds, number)))

    def _put(self, operator: int, message: MaskSeed | Material) -> None:
        link = self._links[operator]
        link.say(message)
        reply = link.hear(REPLY)
        if isinstance(reply, Refused):
            raise DataError(f"operator {operator}: {reply.reason}")


def _status(link: Link) -> Mapping[bytes, Held]:
    link.say(AskStatus())
    reply = link.hear(REPLY)
    if not isinstance(reply, Status):
        raise LinkBroken(f"{link.peer} does not say what it holds; restart it")
    return {held.publication: held for held in reply.held}
