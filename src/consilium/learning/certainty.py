# SPDX-License-Identifier: Apache-2.0
"""From a probability to words that were right as often as they sound, for people.

Test records of like confidence were right at some share; bins with few records are joined, and a
surer bin is never less right than one below it (pooled until so). What is told is that share,
rounded down to tenths, never the model's own opinion of itself. Where no bin is known, nothing is
told but that it was not measured.

Source: isotonic calibration by pooling adjacent violators, Zadrozny and Elkan 2002.
"""

from typing import Final

import msgspec

from consilium.learning.calibration import Bin

LEAST_RECORDS: Final = 30  # that a share is told of


class Certainty(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer of such confidence is worth.

    Attributes:
        above: Confidences from here on, up to the next one.
        right_of_ten: How many of ten test records were right, rounded down.
        records: How many there were.
    """

    above: float
    right_of_ten: int
    records: int


def certainties(found: tuple[Bin, ...]) -> tuple[Certainty, ...]:
    """Returns what confidences are worth, lowest first; () where too little was measured.

    >>> one = Bin(low=0.9, high=1.0, records=40, confidence=0.97, accuracy=0.875)
    >>> certainties((one,))
    (Certainty(above=0.9, right_of_ten=8, records=40),)
    """
    pools: list[tuple[float, float, int]] = []  # low, right, records
    for one in found:
        pools.append((one.low, one.accuracy * one.records, one.records))
        while len(pools) > 1 and _to_join(pools[-2], pools[-1]):
            low, right, records = pools[-2]
            pools[-2:] = [(low, right + pools[-1][1], records + pools[-1][2])]
    if len(pools) > 1 and pools[-1][2] < LEAST_RECORDS:
        low, right, records = pools[-2]
        pools[-2:] = [(low, right + pools[-1][1], records + pools[-1][2])]
    return tuple(
        Certainty(above=low, right_of_ten=int(10 * right / records + 1e-9), records=records)
        for low, right, records in pools
        if records >= LEAST_RECORDS
    )


def _to_join(below: tuple[float, float, int], above: tuple[float, float, int]) -> bool:
    few = below[2] < LEAST_RECORDS
    return few or below[1] * above[2] > above[1] * below[2]
