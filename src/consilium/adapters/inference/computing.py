# SPDX-License-Identifier: Apache-2.0
"""Operators 0 and 1 as processes: links to the others, and a thread that computes.

Operator 0 leads: it takes the next session and the lowest material that both have, tells
operator 1, and both compute over one link. Each marks the material as used, durably, before its
first word. If anything fails the session ends with a reason, the material stays used, and the
link is made anew. A crash, or a disk set back, leaves material at one of them only: operator 1 then
answers with what it holds, and each puts away what the other lacks.
"""

import logging
import queue
import threading
import time
from pathlib import Path
from typing import Final, final

from msgspec.msgpack import Decoder

from consilium.adapters.inference.kit import read_operators
from consilium.adapters.inference.links import ENDING, Link, LinkBroken, Listener, dial
from consilium.adapters.inference.sessions import Sessions
from consilium.adapters.inference.shelf import Published, Shelf
from consilium.adapters.inference.talk import (
    HEARD,
    REPLY,
    REQUEST,
    AskStatus,
    Done,
    Held,
    Meet,
    PutModel,
    Refused,
    Reply,
    Request,
    Revoke,
    Status,
)
from consilium.errors import AccessDenied, ConsiliumError, DataError
from consilium.inference.messages import AnswerShare, Exchange, InputShare, MaskSeed, Material
from consilium.inference.messages import WeightOpening as Opening
from consilium.inference.operator import Begin, Prepared, operator_step

_OPENING: Final[Decoder[Opening]] = Decoder(Opening)
_LOG: Final = logging.getLogger("consilium.adapters.inference")
_SHARE_PATIENCE: Final = 20.0  # seconds that one operator waits for the other's share
_IDLE: Final = 3600.0  # seconds that a link may be silent between requests
_ASK: Final = 1.0  # seconds between looks for work


@final
class Operator:
    """One of the two that compute."""

    def __init__(self, kit: Path, folder: Path, party: int) -> None:
        self.party = party
        self.shelf = Shelf(folder, first=party == 0)
        self.sessions = Sessions()
        self._kit, self._addresses = kit, read_operators(kit).computing
        self._work: queue.SimpleQueue[InputShare] = queue.SimpleQueue()
        self._peer: Link | None = None
        self._ended = threading.Event()
        self._listener = Listener(kit, self._addresses[party].link, self._answer_all)
        jobs = [self._prepare_ahead, *((self._lead,) if party == 0 else ())]
        self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stops to listen, and ends every link and thread."""
        self._ended.set()
        self.sessions.close()
        peer = self._peer
        if peer is not None:
            peer.abort()
        self._listener.close()
        for thread in self._threads:
            thread.join(ENDING)

    def accept(self, share: InputShare, token: bytes) -> None:
        """Takes up a patient's share.

        Raises:
            ConsiliumError: The model cannot be asked, or the session is not right.
        """
        published = self.shelf.get(share.publication)
        if published.revoked:
            raise AccessDenied(
                f"model {published.card.name} was revoked by its owner; ask for another"
            )
        if not published.ready:
            raise DataError("the model is not ready: the dealer has not come by; try again later")
        if len(published.materials.numbers()) < share.count:
            raise DataError(
                f"material for {len(published.materials.numbers())} images is left and "
                f"{share.count} are asked for; wait for the dealer, or send fewer"
            )
        self.sessions.add(share, token)
        if self.party == 0:
            self._work.put(share)

    # -- Links ------------------------------------------------------------------------

    def _answer_all(self, link: Link) -> None:
        while True:
            try:
                request = link.hear(REQUEST, _IDLE)
            except ConsiliumError:
                return
            try:
                reply = self._answer(link, request)
            except (ConsiliumError, OSError) as error:
                _LOG.warning("refused", extra={"peer": link.peer, "kind": type(request).__name__})
                reply = Refused(str(error))
            except Exception:  # noqa: BLE001 - the edge of a process
                _LOG.exception("failed", extra={"peer": link.peer, "kind": type(request).__name__})
                reply = Refused(f"operator {self.party} failed; ask again")
            try:
                if reply is not None:
                    link.say(reply)
            except ConsiliumError:
                return

    def _answer(self, link: Link, request: Request) -> Reply | None:
        match link.peer, request:
            case "owner", PutModel():
                self.shelf.put(request)
            case "owner", Revoke():
                self.shelf.get(request.publication).revoke()
            case "dealer", AskStatus():
                return Status(tuple(one.held for one in self.shelf.all() if not one.revoked))
            case "dealer", MaskSeed():
                self.shelf.get(request.publication).take_seed(request)
            case "dealer", Material():
                self.shelf.get(request.publication).keep(request)
            case "operator-0", Opening() if self.party == 1:
                self._meet_opening(link, request)
                return None
            case "operator-0", Meet() if self.party == 1:
                return self._follow(link, request)
            case _:
                return Refused(f"{link.peer} may not ask for {type(request).__name__}")
        return Done()

    def _meet_opening(self, link: Link, request: Opening) -> None:
        published = self.shelf.get(request.publication)
        if published.opening is None:
            link.say(Refused("no seed here yet"))
            return
        link.say(published.opening)
        published.hear_opening(request)

    # -- Computing --------------------------------------------------------------------

    def _lead(self) -> None:
        while not self._ended.is_set():
            try:
                share = self._work.get(timeout=_ASK)
            except queue.Empty:
                self._open_weights()
                continue
            try:
                self._compute_first(share)
            except (ConsiliumError, OSError) as error:
                self._drop_peer()
                self.sessions.end(share.session, str(error))
                _LOG.warning("session failed", extra={"reason": type(error).__name__})
            except Exception:  # noqa: BLE001 - the edge of a process
                self._drop_peer()
                self.sessions.end(share.session, "operator 0 failed; ask again")
                _LOG.exception("session failed")
        self._drop_peer()

    def _compute_first(self, share: InputShare) -> None:
        published = self.shelf.get(share.publication)
        self.sessions.take(share.session, 0.0)
        link = self._link()
        prepared, offline = self._met(link, published, share)
        self._compute(link, published, prepared, share, offline)

    def _met(self, link: Link, published: Published, share: InputShare) -> tuple[Prepared, float]:
        """Returns a preparation that operator 1 has too, and the seconds that it took here.

        Raises:
            ConsiliumError: It refuses, or there is too little material at both.
        """
        for _ in range(2):
            mine = published.materials.numbers()
            if len(mine) < share.count:
                break
            start = time.perf_counter()
            prepared = published.prepared(mine[: share.count])
            offline = time.perf_counter() - start
            link.say(Meet(share.publication, share.session, prepared.numbers))
            reply = link.hear(REPLY, 2 * _SHARE_PATIENCE)
            if isinstance(reply, Done):
                return prepared, offline
            if isinstance(reply, Refused):
                raise DataError(f"operator 1: {reply.reason}")
            theirs = {n for one in reply.held if _is(one, share) for n in one.numbers}
            published.materials.discard(set(mine) - theirs)
        raise DataError("too little material is at both operators; wait for the dealer, ask again")

    def _follow(self, link: Link, meet: Meet) -> Status | None:
        """Operator 1's part; what it holds, where that is not what operator 0 wants to use."""
        published = self.shelf.get(meet.publication)
        here = published.materials.numbers()
        if not set(meet.numbers) <= set(here):
            return Status((published.held,))
        try:
            share, start = self.sessions.take(meet.session, _SHARE_PATIENCE), time.perf_counter()
            prepared = published.prepared(meet.numbers)
            # Operator 0 takes its lowest: what is lower still came to this operator only.
            top = max(meet.numbers)
            published.materials.discard({n for n in here if n < top} - set(meet.numbers))
            link.say(Done())
            self._compute(link, published, prepared, share, time.perf_counter() - start)
        except (ConsiliumError, OSError) as error:
            self.sessions.end(meet.session, str(error))
            raise
        except Exception:
            self.sessions.end(meet.session, "operator 1 failed; ask again")
            raise
        return None

    def _compute(
        self,
        link: Link,
        published: Published,
        prepared: Prepared,
        share: InputShare,
        offline: float,
    ) -> None:
        """Marks the material, then opens with the other operator until there is an answer."""
        sent, spoken, start = link.sent, link.messages, time.perf_counter()
        receipts = published.materials.mark(prepared.numbers)
        state, (said,) = operator_step(prepared, Begin(share, receipts))
        while isinstance(said, Exchange):
            link.say(said)
            heard = link.hear(HEARD)
            if isinstance(heard, Refused):
                raise LinkBroken(f"{link.peer}: {heard.reason}")
            state, (said,) = operator_step(state, heard)
        link.flush()
        if not isinstance(said, AnswerShare):
            raise TypeError(type(said).__name__)
        facts = {
            "online_seconds": time.perf_counter() - start,
            "offline_seconds": offline,
            "bytes": float(link.sent - sent),
            "rounds": float(link.messages - spoken),
        }
        self.sessions.end(share.session, said, facts)

    def _open_weights(self) -> None:
        """Opens the weights of publications that have their seeds."""
        for published in self.shelf.all():
            if published.opening is None or published.ready:
                continue
            try:
                link = self._link()
                link.say(published.opening)
                published.hear_opening(link.hear(_OPENING))
            except ConsiliumError:
                self._drop_peer()

    def _prepare_ahead(self) -> None:
        while not self._ended.is_set():
            self.sessions.forget()
            if not any(self._prepare_one(one) for one in self.shelf.all()):
                self._ended.wait(_ASK / 4)

    def _prepare_one(self, published: Published) -> bool:
        try:
            return published.prepare_ahead()
        except (ConsiliumError, OSError) as error:
            _LOG.warning("cannot prepare", extra={"reason": type(error).__name__})
            return False

    def _link(self) -> Link:
        if self._peer is not None and self._peer.ended():  # operator 1 was started again
            self._drop_peer()
        if self._peer is None:
            self._peer = dial(self._kit, self._addresses[1], "operator-1")
        if self._ended.is_set():
            raise LinkBroken("operator 0 is being stopped; ask again later")
        return self._peer

    def _drop_peer(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None


def _is(held: Held, share: InputShare) -> bool:
    return held.publication == share.publication
