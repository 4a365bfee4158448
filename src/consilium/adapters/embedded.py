# SPDX-License-Identifier: Apache-2.0
"""The engine of one machine: coordinator and sites in one process, the same bytes as between many.

Every message is encoded and decoded as on a network. Sites compute side by side on a few
threads; their answers are taken in the order of their numbers, so a run is repeatable for
given randomness. When nobody has anything more to say, the deadline has passed.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from consilium.adapters.coordinator_runner import CoordinatorRunner, logger
from consilium.errors import BudgetExceeded, ProtocolError, RoundAborted
from consilium.federation.coordinator import Finished


class Site(Protocol):
    """A site that answers at once: in this process, or behind a pipe."""

    def start(self) -> list[bytes]:
        """Returns its first messages."""
        ...

    def handle(self, data: bytes) -> list[bytes]:
        """Returns its answers to one message."""
        ...


def run_embedded(
    coordinator: CoordinatorRunner, sites: Sequence[Site], *, threads: int
) -> Finished:
    """Returns how the run ended.

    Raises:
        RoundAborted: Too many sites are lost to go on.
        ConsiliumError: What a site raises when it starts.
    """
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        said = list(enumerate(pool.map(lambda site: site.start(), sites)))
        while coordinator.finished is None:
            outbox = [
                out for k, answers in said for one in answers for out in coordinator.handle(k, one)
            ]
            if not outbox and coordinator.finished is None:
                outbox = coordinator.deadline()
            if not outbox and coordinator.finished is None:
                raise RoundAborted(
                    "too few sites still answer; expected enough for a sum: see the log for those "
                    "that are lost, then resume"
                )
            inboxes = _by_site(outbox)
            replies = pool.map(_answers, inboxes, [sites[k] for k in inboxes], inboxes.values())
            said = list(zip(inboxes, replies, strict=True))
    return coordinator.finished


def _by_site(outbox: Sequence[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    """Returns each site's messages in the order they were sent, sites ascending."""
    return {k: [data for to, data in outbox if to == k] for k in sorted({to for to, _ in outbox})}


def _answers(number: int, site: Site, inbox: Sequence[bytes]) -> list[bytes]:
    """A site that refuses or is lost says nothing; the others go on without it."""
    try:
        return [answer for data in inbox for answer in site.handle(data)]
    except (ProtocolError, BudgetExceeded) as error:
        logger.warning("site lost", extra={"site": number, "why": str(error)})
        return []
