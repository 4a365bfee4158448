# SPDX-License-Identifier: Apache-2.0
"""How many bytes one site sends and receives in a round, predicted from the protocol alone.

A report puts these beside what was measured; they must be equal to the byte. What a transport
adds (TLS, framing) is not here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from consilium.secagg.job import SumJob
from consilium.secagg.traffic import (
    largest_message,
    opening_bytes,
    plan_bytes,
    prekeys_bytes,
    setup_bytes,
    survivors_bytes,
    upload_bytes,
)
from consilium.wire import binary_size, integer_size, message_size

_VERSION: Final = 1
_LEARNING_RATE: Final = 9  # MessagePack: a marker and 64 bits


@final
@dataclass(frozen=True, slots=True)
class SiteTraffic:
    """Bytes of the protocol at one site."""

    up: int
    down: int

    def __add__(self, other: "SiteTraffic") -> "SiteTraffic":
        return SiteTraffic(self.up + other.up, self.down + other.down)


def secure_round(job: SumJob, site: int, number: int, dimension: int) -> SiteTraffic:
    """Returns the traffic of a round in which every site of the job takes part and survives.

    Up: an upload with the prekeys of the next round, and an opening. Down: the round's start
    with the weights, and the survivors.
    """
    sites = len(job.identities)
    up = upload_bytes(job, site, number, prekeys_of=sites)
    up += opening_bytes(site, number, members=sites, survivors=sites)
    down = round_start_bytes(number, range(sites), dimension)
    return SiteTraffic(up, down + survivors_bytes(number, range(sites)))


def plain_round(
    site: int, sites: int, number: int, *, dimension: int, vector_bytes: int
) -> SiteTraffic:
    """Returns the traffic of a round without a secure sum."""
    up = message_size(
        "PlainUpdate", integer_size(site), integer_size(number), binary_size(vector_bytes)
    )
    return SiteTraffic(up, round_start_bytes(number, range(sites), dimension))


def session_start(job: SumJob | None, site: int, sites: int, first: int) -> SiteTraffic:
    """Returns the traffic before round `first`: set-up of the sum, and the first prekeys."""
    if job is None:
        return SiteTraffic(message_size("Ready", integer_size(site)), 0)
    wanted = message_size("PrekeysWanted", integer_size(first))
    up, down = setup_bytes(job, site, range(sites))
    return SiteTraffic(up + prekeys_bytes(site, first, sites), down + wanted)


def round_start_bytes(number: int, members: Sequence[int], dimension: int) -> int:
    """Returns the size of the message that starts a round."""
    plan = plan_bytes(number, members) - _VERSION
    return message_size("RoundStart", plan, binary_size(4 * dimension), _LEARNING_RATE)


def largest_to_coordinator(job: SumJob | None, vector_bytes: int) -> int:
    """Returns a size that no message of a site exceeds."""
    return (0 if job is None else largest_message(job)) + vector_bytes + 64


def largest_to_site(job: SumJob | None, sites: int, dimension: int) -> int:
    """Returns a size that no message of the coordinator exceeds."""
    return (0 if job is None else largest_message(job)) + 4 * dimension + 9 * sites + 128
