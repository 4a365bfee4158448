# SPDX-License-Identifier: Apache-2.0
"""The lines between parties: late, lost, doubled, spoilt and replayed as the script says.

A request goes to the process that a site has in this job, if it has one; its answer comes back
sealed as in the engine between machines, or a time-out stands for it.
"""

import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeAlias, final

from msgspec.structs import replace as with_fields
from tests.simulation.kernel import Process, SimQueue
from tests.simulation.parties import Job, Request, SiteProcess, type_of
from tests.simulation.script import CUT, DELAY, DROP, FLIP, REPLAY, SWAP, TWICE

from consilium.adapters.nvflare.envelope import Reply, seal, unseal
from consilium.errors import ConsiliumError, NotJoined, RemoteProtocolError
from consilium.federation.messages import FROM_SITE

if TYPE_CHECKING:
    from tests.simulation.world import World

Box: TypeAlias = SimQueue[bytes | None]
Answers: TypeAlias = tuple[bytes, ...]


@final
class Unanswered(RemoteProtocolError):
    """Nobody listened at the other end, or not in time."""


@final
@dataclass
class Line:
    """The way from one coordinator to one site."""

    world: "World"
    job: Job
    name: str

    def enrol(self) -> list[bytes]:
        kernel, patience = self.world.kernel, 20.0
        until = kernel.now + patience
        while True:
            try:
                return self._ask("enrol", b"", patience)
            except Unanswered:
                if kernel.now > until:
                    raise
                kernel.sleep(0.2)

    def standing(self) -> list[bytes]:
        return self._ask("standing", b"", self.world.script.quorum_seconds)

    def join(self, roll: bytes) -> list[bytes]:
        return self._ask("join", roll, self.world.script.lost_seconds)

    def handle(self, data: bytes) -> list[bytes]:
        return self._ask("handle", data, self.world.script.lost_seconds)

    def _ask(self, kind: str, data: bytes, seconds: float) -> list[bytes]:
        return self.world.network.ask(Request(self.job, self.name, kind, data), seconds)


@final
class Network:
    """All lines of one history."""

    def __init__(self, world: "World", random: Random) -> None:
        self._world, self._kernel, self._random = world, world.kernel, random
        self.process = Process("network", "network")
        self._told: dict[str, list[bytes]] = {}  # to each site, for replays
        self._said: dict[str, list[Answers]] = {}  # by each site

    # -- There ------------------------------------------------------------------------

    def ask(self, request: Request, seconds: float) -> list[bytes]:
        """Sends a request and waits for its answer."""
        world, kernel = self._world, self._kernel
        world.at(f"tells {request.what}")
        world.watch.tells(request.kind, request.data)
        world.note(request.job.process.name, f"-> {request.site}: {request.what}")
        box: Box = SimQueue(kernel)
        for delay, data in self._ways(request):
            changed = replace(request, data=data)
            self._soon(partial(self._deliver, delay, changed, box))
        try:
            reply = box.get(timeout=seconds)
        except queue.Empty:
            raise Unanswered(f"site {request.site} does not answer in time") from None
        if reply is None:
            raise Unanswered(f"site {request.site} is not there")
        return unseal(request.site, reply)

    def _soon(self, act: Callable[..., None]) -> None:
        self._kernel.spawn(self.process, act)

    def _ways(self, request: Request) -> list[tuple[float, bytes]]:
        """Returns when what arrives of one request."""
        fault = self._world.come_to(f"to:{request.what}", request.site)
        data, near, far = request.data, self._latency(), self._long()
        old = self._told.setdefault(request.site, [])
        before = self._random.choice(old) if old else data
        if request.kind == "handle":
            old.append(data)
        ways = {
            DROP: [],
            DELAY: [(far, data)],
            TWICE: [(near, data), (self._random.choice((2 * near, far)), data)],
            CUT: [(near, self._cut(data))],
            FLIP: [(near, self._flipped(data))],
            REPLAY: [(self._latency(), before), (near, data)],
            SWAP: [(near, before)],
        }
        return [(near, data)] if fault is None else ways[fault.what]

    def _deliver(self, delay: float, request: Request, box: Box) -> None:
        self._kernel.sleep(delay)
        site = request.job.sites.get(request.site)
        if site is None or not site.process.alive:
            if request.kind == "enrol" or self._random.random() < 0.5:
                box.put(None)
            return
        self._kernel.spawn(site.process, partial(self._answer, site, request, box))

    # -- At the site ------------------------------------------------------------------

    def _answer(self, site: SiteProcess, request: Request, box: Box) -> None:
        world = self._world
        world.at(f"got {request.what}")
        reply = self._guarded(site, request)
        said = _said(request, reply)
        world.at(f"said {said}")
        if request.kind == "handle":
            ledger = world.ledger(site.name)
            world.watch.leaves(request.data, reply.answers, ledger, site.computed)
        world.note(site.process.name, f"says {said}")
        self._soon(partial(self._carry_back, site.name, said, reply, box))
        world.at(f"sent {said}")

    def _guarded(self, site: SiteProcess, request: Request) -> Reply:
        """What the engine's end at a site does."""
        world = self._world
        try:
            return Reply(tuple(site.call(request.kind, request.data)))
        except NotJoined as error:
            world.note(site.process.name, f"is new and cannot answer {request.what}")
            return Reply(refusal=str(error), new=True)
        except ConsiliumError as error:
            world.watch.says(str(error))
            world.note(site.process.name, f"refuses {request.what}: {error}")
            return Reply(refusal=str(error))
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            world.watch.complain(f"{type(error).__name__}: {error} leaves site {site.name}")
            return Reply(refusal=type(error).__name__)

    # -- And back ---------------------------------------------------------------------

    def _carry_back(self, name: str, said: str, reply: Reply, box: Box) -> None:
        fault = self._world.come_to(f"from:{said}", name)
        answers, old = reply.answers, self._said.setdefault(name, [])
        before = self._random.choice(old) if old else answers
        old.append(answers)
        changed: dict[str, Answers] = {
            TWICE: (*answers, *answers),
            CUT: self._one_spoilt(answers, self._cut),
            FLIP: self._one_spoilt(answers, self._flipped),
            REPLAY: self._random.choice(((*before, *answers), (*answers, *before))),
            SWAP: before,
        }
        what = None if fault is None else fault.what
        if what == DROP:
            return
        self._kernel.sleep(self._long() if what == DELAY else self._latency())
        box.put(seal(with_fields(reply, answers=changed.get(what or "", answers))))

    # -- Harm -------------------------------------------------------------------------

    def _one_spoilt(self, answers: Sequence[bytes], spoil: Callable[[bytes], bytes]) -> Answers:
        spoilt = self._random.randrange(len(answers)) if answers else 0
        return tuple(spoil(one) if k == spoilt else one for k, one in enumerate(answers))

    def _cut(self, data: bytes) -> bytes:
        return data[: self._random.randrange(len(data))] if data else data

    def _flipped(self, data: bytes) -> bytes:
        if not data:
            return data
        place, spoilt = self._random.randrange(8 * len(data)), bytearray(data)
        spoilt[place // 8] ^= 1 << place % 8
        return bytes(spoilt)

    def _latency(self) -> float:
        return self._random.uniform(0.0005, 0.05)

    def _long(self) -> float:
        return self._random.choice((1.0, 12.0, 35.0, 100.0))


def _said(request: Request, reply: Reply) -> str:
    if reply.refusal is not None:
        return "refusal"
    if not reply.answers:
        return "nothing"
    names = {"enrol": "Enrolment", "standing": "Standing"}
    return names.get(request.kind) or type_of(reply.answers[0], FROM_SITE)
