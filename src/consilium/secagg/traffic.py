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
from consilium.secagg.kem import CIPHERTEXT_BYTES, ENCAPSULATION_KEY_BYTES
from consilium.wire import array_size, binary_size, integer_size, message_size, struct_size

_VERSION: Final = 1
_SIGNATURE: Final = 64
_ROW: Final = 32  # of every table: a share, a commitment, a root, a pad
_TAG: Final = 16
_NIL: Final = 1
_LAST_ROUND: Final = 2**32  # as large as any integer in MessagePack gets


# -- Messages -------------------------------------------------------------------------


def hello_bytes(job: SumJob, site: int) -> int:
    """Returns the size of a Hello."""
    return _VERSION + _hello(job, site)


def roster_bytes(job: SumJob, sites: Sequence[int]) -> int:
    """Returns the size of the Roster of these sites."""
    return message_size("Roster", array_size(len(sites)) + sum(_hello(job, site) for site in sites))


def ciphertexts_bytes(site: int, roster: Sequence[int]) -> int:
    """Returns the size of a site's Ciphertexts for this roster."""
    return _VERSION + _ciphertexts(site, roster)


def table_bytes(sites: Sequence[int], roster: Sequence[int]) -> int:
    """Returns the size of the CiphertextTable of these sites of the roster."""
    entries = sum(_ciphertexts(site, roster) for site in sites)
    return message_size("CiphertextTable", array_size(len(sites)) + entries)


def prekeys_bytes(site: int, round_number: int, roster: int) -> int:
    """Returns the size of a site's Prekeys, `roster` being the number of sites on the roster."""
    return _VERSION + _prekeys(site, round_number, roster)


def plan_bytes(round_number: int, members: Sequence[int]) -> int:
    """Returns the size of a Plan."""
    return message_size(
        "Plan", integer_size(round_number), _sites(members), binary_size(DIGEST_BYTES)
    )


def upload_bytes(job: SumJob, site: int, round_number: int, *, prekeys_of: int | None) -> int:
    """Returns the size of an Upload; prekeys of a roster of `prekeys_of` sites ride on it."""
    riding = _NIL if prekeys_of is None else _prekeys(site, round_number + 1, prekeys_of)
    numbers = integer_size(site), integer_size(round_number)
    return message_size("Upload", *numbers, binary_size(job.vector_bytes), riding)


def survivors_bytes(round_number: int, sites: Sequence[int]) -> int:
    """Returns the size of Survivors."""
    return message_size("Survivors", integer_size(round_number), _sites(sites))


def opening_bytes(site: int, round_number: int, *, members: int, survivors: int) -> int:
    """Returns the size of an Opening."""
    sealed = binary_size(_ROW * members + _TAG)
    table = binary_size(_ROW * (survivors - 1))
    return message_size(
        "Opening", integer_size(site), integer_size(round_number), sealed, 3 * table
    )


# -- A session and a round -------------------------------------------------------------


def setup_bytes(job: SumJob, site: int, sites: Sequence[int]) -> tuple[int, int]:
    """Returns the bytes up and down at a site before its prekeys, where all these sites join."""
    up, down = hello_bytes(job, site), roster_bytes(job, sites)
    if not job.post_quantum:
        return up, down
    return up + ciphertexts_bytes(site, sites), down + table_bytes(sites, sites)


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
        roster_bytes(job, range(sites)),
        table_bytes(range(sites), range(sites)) if job.post_quantum else 0,
        upload_bytes(job, last, _LAST_ROUND, prekeys_of=sites),
        opening_bytes(last, _LAST_ROUND, members=sites, survivors=sites),
    )


# -- Parts ----------------------------------------------------------------------------


def _hello(job: SumJob, site: int) -> int:
    key = KEY_BYTES + ENCAPSULATION_KEY_BYTES * job.post_quantum
    return struct_size("Hello", integer_size(site), binary_size(key), binary_size(_SIGNATURE))


def _ciphertexts(site: int, roster: Sequence[int]) -> int:
    table = CIPHERTEXT_BYTES * sum(site < peer for peer in roster)
    signature = binary_size(_SIGNATURE)
    return struct_size("Ciphertexts", integer_size(site), binary_size(table), signature)


def _prekeys(site: int, round_number: int, roster: int) -> int:
    table = binary_size(_ROW * roster)
    envelope = binary_size(_ROW * (roster - 1) + _TAG)
    numbers = integer_size(site), integer_size(round_number)
    return struct_size("Prekeys", *numbers, table, table, table, table, envelope)


def _sites(sites: Sequence[int]) -> int:
    return array_size(len(sites)) + sum(integer_size(site) for site in sites)
