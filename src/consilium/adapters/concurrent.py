# SPDX-License-Identifier: Apache-2.0
"""Drives a run whose sites answer at different times, or never: engines between machines use it.

Each site is spoken to on a thread of its own, one message at a time, in order; answers are
taken as they come. A phase ends without those who are missing when nobody else has anything
more to say, or when nothing has moved it on for `quorum_seconds`. A site that was waited for in
vain is late: nobody waits for it again until it has answered. A site whose new process knows
no session (`NotJoined`) makes the coordinator begin a new one. Which answers still count is the
coordinator's rule, not this module's.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeAlias, final

from consilium.adapters.coordinator_runner import CoordinatorRunner, logger
from consilium.adapters.embedded import Site
from consilium.errors import ConsiliumError, NotJoined, RoundAborted
from consilium.federation.coordinator import Finished

_TICK: Final = 0.5  # seconds between two looks at `stopped`

Answers: TypeAlias = list[bytes] | NotJoined | None  # of a site; None: it refused or is lost
Said: TypeAlias = tuple[int, Answers]
Ask: TypeAlias = Callable[[Site], list[bytes]]


def run_concurrent(
    coordinator: CoordinatorRunner,
    sites: Sequence[Site],
    *,
    quorum_seconds: float,
    stopped: Callable[[], bool],
) -> Finished:
    """Returns how the run ended.

    Args:
        coordinator: At its first state.
        sites: May block, each on its own thread; their own time-outs end a wait for good.
        quorum_seconds: How long a phase waits for sites that are missing.
        stopped: Says whether somebody ended the run from outside.

    Raises:
        RoundAborted: Too many sites are lost to go on, or the run was stopped.
    """
    post = _Post(sites)
    try:
        begun, in_vain = 0, False
        while coordinator.finished is None:
            if coordinator.sessions > begun:
                begun, in_vain = coordinator.sessions, False
                post.start_all()
                due = time.monotonic() + quorum_seconds
            said = post.receive(due, stopped) if in_vain or post.waits() else None
            outbox = _closed(coordinator, post) if said is None else _handled(coordinator, said)
            in_vain = said is None and not outbox
            if said is None or outbox:
                post.send(outbox)
                due = time.monotonic() + quorum_seconds
    finally:
        post.close()
    return coordinator.finished


def _handled(coordinator: CoordinatorRunner, said: Said) -> list[tuple[int, bytes]]:
    site, answers = said
    if isinstance(answers, NotJoined):
        coordinator.renew()
        return []
    return [out for one in answers or () for out in coordinator.handle(site, one)]


def _closed(coordinator: CoordinatorRunner, post: "_Post") -> list[tuple[int, bytes]]:
    """Ends the phase without the sites that are missing."""
    post.go_on_without_the_busy()
    sessions, outbox = coordinator.sessions, coordinator.deadline()
    moved = outbox or coordinator.finished is not None or coordinator.sessions > sessions
    if not moved and not post.is_any_busy():
        raise RoundAborted(
            "too few sites still answer; expected enough for a sum: see the log for those "
            "that are lost, then resume"
        )
    return outbox


@final
class _Post:
    """A thread and a queue for each site; all calls come from the coordinator's thread."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._said: SimpleQueue[Said] = SimpleQueue()
        self._inboxes: list[SimpleQueue[Ask | None]] = [SimpleQueue() for _ in sites]
        self._unanswered = [0] * len(sites)
        self._started = [0] * len(sites)  # how many answers until that of its last start
        self._late: set[int] = set()
        for number, site in enumerate(sites):
            threading.Thread(target=self._speak, args=(number, site), daemon=True).start()

    def start_all(self) -> None:
        """Begins a session; what was not yet said in the one before need not be said any more."""
        for site, inbox in enumerate(self._inboxes):
            with suppress(Empty):
                while True:
                    inbox.get_nowait()
                    self._unanswered[site] -= 1
            self._ask(site, lambda one: one.start())
            self._started[site] = self._unanswered[site]

    def send(self, outbox: Sequence[tuple[int, bytes]]) -> None:
        for site, data in outbox:
            self._ask(site, partial(_handle, data))

    def receive(self, due: float, stopped: Callable[[], bool]) -> Said | None:
        """Returns the next answers, or None when `due` has passed."""
        while True:
            if stopped():
                raise RoundAborted("the run was stopped; whole rounds are kept: resume")
            left = due - time.monotonic()
            try:
                site, answers = self._said.get(timeout=max(0.0, min(left, _TICK)))
            except Empty:
                if left <= 0:
                    return None
                continue
            return site, self._noted(site, answers)

    def waits(self) -> bool:
        """Whether there is somebody to wait for: a site that is not late, or all are late."""
        all_late = len(self._late) == len(self._unanswered)
        return any(n and (all_late or k not in self._late) for k, n in enumerate(self._unanswered))

    def is_any_busy(self) -> bool:
        return any(self._unanswered)

    def go_on_without_the_busy(self) -> None:
        self._late |= {k for k, unanswered in enumerate(self._unanswered) if unanswered}

    def close(self) -> None:
        for inbox in self._inboxes:
            inbox.put(None)

    def _ask(self, site: int, ask: Ask) -> None:
        self._unanswered[site] += 1
        self._inboxes[site].put(ask)

    def _noted(self, site: int, answers: Answers) -> Answers:
        """Returns the answers; a refusal that belongs to the session before is none."""
        starting = self._started[site] > 0
        self._unanswered[site] -= 1
        self._started[site] -= starting
        self._late = self._late | {site} if answers is None else self._late - {site}
        return [] if starting and isinstance(answers, NotJoined) else answers

    def _speak(self, number: int, site: Site) -> None:
        while (ask := self._inboxes[number].get()) is not None:
            self._said.put((number, _asked(number, site, ask)))


def _handle(data: bytes, site: Site) -> list[bytes]:
    return site.handle(data)


def _asked(number: int, site: Site, ask: Ask) -> Answers:
    """A site that refuses or is lost says nothing; the others go on without it."""
    try:
        return ask(site)
    except NotJoined as error:
        logger.warning("site came back as a new process", extra={"site": number})
        return error
    except ConsiliumError as error:
        logger.warning("site lost: %s", error, extra={"site": number})
    except Exception:  # noqa: BLE001 - a thread's edge: who dies in silence would be waited for
        logger.exception("site lost", extra={"site": number})
    return None
