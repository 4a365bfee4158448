# SPDX-License-Identifier: Apache-2.0
"""How many bytes a secure sum sends, in closed form: measured traffic must equal it exactly.

Each function returns the length of `wire.encode` of one message: a version byte, the message as
a MessagePack array with its name in front, and its fields. What a transport adds is not here.
Source: the MessagePack specification, formats int, bin, str and array.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from consilium.secagg.job import DIGEST_BYTES, KEY_BYTES, SumJob

_VERSION: Final = 1
_SIGNATURE: Final = 64
_ROW: Final = 32  # of every table: a share, a commitment, a root, a pad
_TAG: Final = 16
_NIL: Final = 1
_LAST_ROUND: Final = 2**32  # as large as any integer in MessagePack gets


# -- Messages -------------------------------------------------------------------------


def hello_bytes(site: int) -> int:
    """Returns the size of a Hello."""
    return _VERSION + _hello(site)


def roster_bytes(sites: Sequence[int]) -> int:
    """Returns the size of the Roster of these sites."""
    return _message("Roster", _array(len(sites)) + sum(_hello(site) for site in sites))


def prekeys_bytes(site: int, round_number: int, roster: int) -> int:
    """Returns the size of a site's Prekeys, `roster` being the number of sites on the roster."""
    return _VERSION + _prekeys(site, round_number, roster)


def plan_bytes(round_number: int, members: Sequence[int]) -> int:
    """Returns the size of a Plan."""
    return _message("Plan", _integer(round_number), _sites(members), _binary(DIGEST_BYTES))


def upload_bytes(job: SumJob, site: int, round_number: int, *, prekeys_of: int | None) -> int:
    """Returns the size of an Upload; prekeys of a roster of `prekeys_of` sites ride on it."""
    riding = _NIL if prekeys_of is None else _prekeys(site, round_number + 1, prekeys_of)
    numbers = _integer(site), _integer(round_number)
    return _message("Upload", *numbers, _binary(job.vector_bytes), riding)


def survivors_bytes(round_number: int, sites: Sequence[int]) -> int:
    """Returns the size of Survivors."""
    return _message("Survivors", _integer(round_number), _sites(sites))


def opening_bytes(site: int, round_number: int, *, members: int, survivors: int) -> int:
    """Returns the size of an Opening."""
    sealed = _binary(_ROW * members + _TAG)
    table = _binary(_ROW * (survivors - 1))
    return _message("Opening", _integer(site), _integer(round_number), sealed, 3 * table)


# -- A round --------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of the protocol in one round, over all sites."""

    to_coordinator: int
    to_sites: int


def round_traffic(
    job: SumJob, round_number: int, members: Sequence[int], survivors: Sequence[int], *, roster: int
) -> Traffic:
    """Returns the bytes of a round in which every survivor opens and prepares the next round.

    Args:
        job: Of the sum.
        round_number: Of the round.
        members: Each is sent the plan.
        survivors: Each uploads with prekeys of the next round, is sent the survivors, and opens.
        roster: Sites in the session.
    """
    numbers = {"members": len(members), "survivors": len(survivors)}
    up = sum(
        upload_bytes(job, site, round_number, prekeys_of=roster)
        + opening_bytes(site, round_number, **numbers)
        for site in survivors
    )
    plans = len(members) * plan_bytes(round_number, members)
    return Traffic(up, plans + len(survivors) * survivors_bytes(round_number, survivors))


def largest_message(job: SumJob) -> int:
    """Returns a size that no message of this job exceeds: the limit for `wire.decode`."""
    sites, last = len(job.identities), len(job.identities) - 1
    return max(
        roster_bytes(range(sites)),
        upload_bytes(job, last, _LAST_ROUND, prekeys_of=sites),
        opening_bytes(last, _LAST_ROUND, members=sites, survivors=sites),
    )


# -- MessagePack ----------------------------------------------------------------------


def _hello(site: int) -> int:
    return _fields("Hello", _integer(site), _binary(KEY_BYTES), _binary(_SIGNATURE))


def _prekeys(site: int, round_number: int, roster: int) -> int:
    table = _binary(_ROW * roster)
    envelope = _binary(_ROW * (roster - 1) + _TAG)
    numbers = _integer(site), _integer(round_number)
    return _fields("Prekeys", *numbers, table, table, table, table, envelope)


def _message(name: str, *fields: int) -> int:
    return _VERSION + _fields(name, *fields)


def _fields(name: str, *fields: int) -> int:
    return 1 + 1 + len(name) + sum(fields)  # array of at most 15, name of at most 31 letters


def _sites(sites: Sequence[int]) -> int:
    return _array(len(sites)) + sum(_integer(site) for site in sites)


def _array(count: int) -> int:
    return 1 if count < 16 else 3 if count < 2**16 else 5


def _binary(size: int) -> int:
    return size + (2 if size < 2**8 else 3 if size < 2**16 else 5)


def _integer(value: int) -> int:
    for size, limit in ((1, 2**7), (2, 2**8), (3, 2**16), (5, 2**32)):
        if value < limit:
            return size
    return 9
