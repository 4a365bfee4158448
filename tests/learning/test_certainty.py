# SPDX-License-Identifier: Apache-2.0
"""What a confidence is worth: enough records, never falling, never rounded up."""

from hypothesis import given
from hypothesis import strategies as st

from consilium.learning.calibration import Bin
from consilium.learning.certainty import LEAST_RECORDS, certainties


def bin_of(number: int, records: int, right: int) -> Bin:
    low = number / 15
    return Bin(
        low=low,
        high=low + 1 / 15,
        records=records,
        confidence=low + 1 / 30,
        accuracy=right / records,
    )


def test_shares_are_rounded_down() -> None:
    (found,) = certainties((bin_of(14, 100, 99),))

    assert (found.right_of_ten, found.records) == (9, 100)


def test_few_records_are_joined_with_what_comes_next() -> None:
    found = certainties((bin_of(7, 10, 5), bin_of(8, 30, 27)))

    assert [(one.above, one.records, one.right_of_ten) for one in found] == [(7 / 15, 40, 8)]


def test_surer_is_never_less_right() -> None:
    found = certainties((bin_of(7, 50, 40), bin_of(8, 50, 20)))

    assert [(one.records, one.right_of_ten) for one in found] == [(100, 6)]


def test_few_at_the_top_are_joined_with_those_below() -> None:
    found = certainties((bin_of(7, 50, 40), bin_of(14, 3, 3)))

    assert [(one.records, one.right_of_ten) for one in found] == [(53, 8)]


def test_too_few_say_nothing() -> None:
    assert certainties((bin_of(14, LEAST_RECORDS - 1, 1),)) == ()
    assert certainties(()) == ()


@given(st.lists(st.tuples(st.integers(1, 90), st.floats(0, 1)), max_size=15))
def test_every_record_counts_once_and_order_holds(drawn: list[tuple[int, float]]) -> None:
    given_bins = tuple(
        bin_of(number, records, int(share * records))
        for number, (records, share) in enumerate(drawn)
    )

    found = certainties(given_bins)

    told = [one.right_of_ten for one in found]
    assert told == sorted(told)
    assert sum(one.records for one in found) in (0, sum(one.records for one in given_bins))
    assert all(one.records >= LEAST_RECORDS for one in found)
