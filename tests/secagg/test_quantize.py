# SPDX-License-Identifier: Apache-2.0
"""Tests of fixed point: no sum wraps, and the error is within what is promised."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from consilium.errors import ConfigError
from consilium.secagg.quantize import FixedPoint

BOUNDS = [1e-3, 1.0, 16.0, 1e6]


def total(ring: FixedPoint, rows: NDArray[np.float32]) -> NDArray[np.uint32]:
    parts = np.stack([ring.encode(row) for row in rows])
    summed: NDArray[np.uint32] = parts.sum(axis=0, dtype=np.uint32)
    return summed


@given(
    bound=st.sampled_from(BOUNDS),
    rows=st.lists(
        st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3), min_size=1, max_size=40
    ),
)
def test_a_sum_is_that_of_the_clamped_values_within_the_error(
    bound: float, rows: list[list[float]]
) -> None:
    ring = FixedPoint(members=len(rows), bound=bound)
    values = (np.array(rows) * bound).astype(np.float32)

    found = ring.decode(total(ring, values))

    expected = np.clip(values.astype(np.float64), -bound, bound).sum(axis=0)
    assert np.abs(found - expected).max() <= ring.error * (1 + 1e-6)


@pytest.mark.parametrize("members", [1, 2, 3, 7, 100, 1_000, 65_537])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sum_does_not_wrap(members: int, bound: float, sign: int) -> None:
    ring = FixedPoint(members=members, bound=bound)
    one = ring.encode(np.array([sign * np.inf], np.float32))

    found = ring.decode((one * np.uint32(members)).astype(np.uint32))

    assert abs(found[0] - sign * members * bound) <= ring.error * (1 + 1e-6)


@pytest.mark.parametrize("members", [1, 10])
def test_fewer_members_than_planned_sum_as_well(members: int) -> None:
    ring = FixedPoint(members=10, bound=1.0)
    values = np.full((members, 4), 0.25, np.float32)

    assert ring.decode(total(ring, values)).tolist() == pytest.approx([0.25 * members] * 4)


def test_zero_is_exact() -> None:
    assert FixedPoint(members=3, bound=1.0).encode(np.zeros(2, np.float32)).tolist() == [0, 0]


def test_the_error_grows_with_the_square_of_the_members() -> None:
    assert FixedPoint(members=100, bound=16.0).error == pytest.approx(100**2 * 8 / 2**31, rel=1e-3)


@pytest.mark.parametrize(
    ("members", "bound"), [(0, 1.0), (-1, 1.0), (3, 0.0), (3, -1.0), (3, math.nan), (3, math.inf)]
)
def test_a_ring_without_members_or_bound_is_refused(members: int, bound: float) -> None:
    with pytest.raises(ConfigError, match="expected > 0"):
        FixedPoint(members=members, bound=bound)
