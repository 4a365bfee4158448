# SPDX-License-Identifier: Apache-2.0
"""Threshold sharing: enough shares recover, fewer do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.secagg.conftest import few, secret

from consilium import wire
from consilium.secagg import shamir

elements = st.integers(0, shamir.PRIME - 1)


@few
@given(value=elements, sites=st.integers(1, 12), data=st.data())
def test_any_threshold_of_shares_recovers(value: int, sites: int, data: st.DataObject) -> None:
    threshold = data.draw(st.integers(1, sites))
    points = range(1, sites + 1)
    shares = dict(zip(points, shamir.split(value, points, threshold, secret()), strict=True))
    kept = data.draw(st.permutations(points))[:threshold]

    assert shamir.combine({point: shares[point] for point in kept}) == value


@few
@given(value=elements, other=elements)
def test_fewer_shares_fit_every_secret(value: int, other: int) -> None:
    """For any secret there is a polynomial through the shares that a coalition holds."""
    shares = shamir.split(value, [1, 2, 3], 3, secret())[:2]

    third = (other - shamir.combine({1: shares[0], 2: shares[1], 3: 0})) % shamir.PRIME
    third = third * pow(shamir.weights((1, 2, 3))[2], -1, shamir.PRIME) % shamir.PRIME

    assert shamir.combine({1: shares[0], 2: shares[1], 3: third}) == other


def test_too_few_shares_recover_another_value() -> None:
    shares = shamir.split(7, range(1, 11), 7, secret())

    assert shamir.combine(dict(zip(range(1, 7), shares, strict=False))) != 7


def test_shares_of_a_hundred_sites_recover() -> None:
    shares = shamir.split(7, range(1, 101), 67, secret())

    assert shamir.combine(dict(zip(range(34, 101), shares[33:], strict=True))) == 7


def test_other_randomness_makes_other_shares() -> None:
    first, second = (shamir.split(7, [1, 2, 3], 2, secret(use)) for use in ("a", "b"))

    assert not set(first) & set(second)


def test_every_coefficient_is_used() -> None:
    """A plain evaluation of the polynomial, term by term."""
    coefficients = [
        shamir.to_element(wire.derive(secret(), "secagg polynomial", power)) for power in (1, 2)
    ]

    slope, square = coefficients
    expected = [(7 + slope * x + square * x * x) % shamir.PRIME for x in (1, 2, 3)]

    assert shamir.split(7, [1, 2, 3], 3, secret()) == expected


@pytest.mark.parametrize(
    ("points", "threshold"), [([1, 1], 1), ([0, 1], 1), ([1, 2], 3), ([1], 0), ([], 1)]
)
def test_points_that_cannot_work_are_refused(points: list[int], threshold: int) -> None:
    with pytest.raises(ValueError, match="expected distinct"):
        shamir.split(7, points, threshold, secret())


@given(st.lists(elements, max_size=5))
def test_tables_round_trip(values: list[int]) -> None:
    assert shamir.unpack(shamir.pack(values)) == values


def test_a_row_beyond_the_field_is_reduced() -> None:
    assert shamir.unpack(b"\xff" * 32) == [(2**256 - 1) % shamir.PRIME]


def test_no_site_has_the_point_of_the_secret() -> None:
    assert [shamir.point(site) for site in range(3)] == [1, 2, 3]
