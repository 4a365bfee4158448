# SPDX-License-Identifier: Apache-2.0
"""The gate against an integer oracle: exact for every value of the window, at all randomness."""

import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.inference import comparison, kernels
from consilium.inference.dealer import Adopt, Deal, Dealing, Idle, dealer_step
from consilium.inference.material import Arrays, held, packed
from consilium.inference.messages import Material
from consilium.inference.program import Larger, Open, Positive, Program, Slice, Truncate
from consilium.inference.ring import NARROW_BITS, Words, ring, signed, unpack, word

LIMIT = 2**20
EDGES = [0, 1, 2, 31, 32, 33, 1023, 1024, 2**15, 2**19, LIMIT - 1, -1, -2, -32, -(2**19), -LIMIT]


def gates(count: int, *, wide: int | None) -> tuple[comparison.Gate, comparison.Gate]:
    """Returns both operators' material for one comparison of `count` values."""
    last = Positive(3) if wide else Larger(3, 3)
    steps = (Open(0), Slice(0, 0, 0, 1, 1), Truncate(2, 1), last)
    whole = (*steps, Slice(0, 0, 0, 1, 1))
    program = Program(
        ring_bits=wide or 40,
        image=(1, 1, count),
        image_fraction=0,
        weights=(),
        steps=whole,
        unit=1.0,
    )
    dealer, _ = dealer_step(
        Idle(), Adopt(publication=b"p", program=program, seeds=(os.urandom(32), os.urandom(32)))
    )
    _, both = dealer_step(dealer, Deal((os.urandom(32), os.urandom(32), os.urandom(32))))
    first, second = both
    assert isinstance(first, Material)
    assert isinstance(second, Material)
    return (
        comparison.gate(held(program, first.seed, None), 3, first=True),
        comparison.gate(held(program, second.seed, second.corrections), 3, first=False),
    )


def positive_part(
    values: list[int], both: tuple[comparison.Gate, comparison.Gate], bits: int
) -> tuple[list[int], list[Words]]:
    """Returns what the gate makes of `values`, and what was opened."""
    secret = ring(np.array(values), NARROW_BITS)
    drawn = np.frombuffer(os.urandom(4 * len(values)), np.uint32) & np.uint32(2**21 - 1)
    shares = (drawn, (secret - drawn) & np.uint32(2**21 - 1))
    masked = [comparison.mask(one, part) for one, part in zip(both, shares, strict=True)]
    opened = (masked[0] + masked[1]) & np.uint32(2**21 - 1)
    said = [comparison.leaves(one, opened) for one in both]
    public = said[0] ^ said[1]
    chosen = [comparison.choice(one, opened, public) for one in both]
    packed_bits = chosen[0] ^ chosen[1]
    made = [comparison.select(one, opened, packed_bits, bits) for one in both]
    total = ring(signed(made[0], bits) + signed(made[1], bits), bits)
    return signed(total, bits).tolist(), [opened, public, packed_bits]


@pytest.mark.parametrize("wide", [None, 32, 40, 48, 56, 64])
def test_the_gate_is_exact_at_the_edges(wide: int | None) -> None:
    for _ in range(20):
        made, _ = positive_part(EDGES, gates(len(EDGES), wide=wide), wide or NARROW_BITS)
        assert made == [max(0, value) for value in EDGES]


@given(st.lists(st.integers(-LIMIT, LIMIT - 1), min_size=1, max_size=40))
def test_the_gate_is_exact_everywhere(values: list[int]) -> None:
    made, _ = positive_part(values, gates(len(values), wide=40), 40)

    assert made == [max(0, value) for value in values]


@pytest.mark.slow
def test_the_gate_is_exact_for_every_value_of_the_window() -> None:
    values = list(range(-LIMIT, LIMIT))

    made, _ = positive_part(values, gates(len(values), wide=40), 40)

    assert made == [max(0, value) for value in values]


@pytest.mark.parametrize("value", [-LIMIT, -1, 0, 1, LIMIT - 1])
def test_what_is_opened_is_uniform_whatever_the_value(value: int) -> None:
    count = 1 << 15
    opened, public, bits = positive_part([value] * count, gates(count, wide=40), 40)[1]

    assert flat(opened & np.uint32(127), 128)
    assert flat(opened >> np.uint32(14), 128)
    assert flat(public, 128)
    assert flat(bits, 256)


def test_opened_values_are_jointly_uniform() -> None:
    """The leaves, beside the top of the masked value: no pair of them is preferred."""
    count = 1 << 17
    opened, public, _ = positive_part([12345] * count, gates(count, wide=40), 40)[1]

    assert flat((opened >> np.uint32(18)).astype(np.uint16) * 128 + public, 1024)


def flat(values: Words, kinds: int) -> bool:
    """Returns whether chi-square stays within six standard deviations of what chance gives."""
    expected = len(values) / kinds
    counts = np.bincount(values.astype(np.int64), minlength=kinds)
    chi = float(((counts - expected) ** 2 / expected).sum())
    return bool(abs(chi - (kinds - 1)) < 6 * math.sqrt(2 * (kinds - 1)))


def test_the_statistic_notices_a_bias() -> None:
    draw = np.random.default_rng(0)
    uniform = draw.integers(0, 128, 1 << 15)

    assert flat(uniform.astype(np.uint8), 128)
    assert not flat(np.where(uniform < 12, 0, uniform).astype(np.uint8), 128)


@given(st.sampled_from([32, 64]), st.integers(1, 9), st.integers(1, 9))
def test_products_of_matrices_wrap_as_integers_do(bits: int, rows: int, inner: int) -> None:
    draw, top = np.random.default_rng(rows * 10 + inner), 2**bits
    left: Words = draw.integers(0, top, (rows, inner), np.uint64).astype(word(bits))
    right: Words = draw.integers(0, top, (inner, 3), np.uint64).astype(word(bits))
    out: Words = np.empty((rows, 3), word(bits))

    kernels.matmul(left, right, out)

    whole = left.astype(object) @ right.astype(object)
    assert out.tolist() == [[value % top for value in row] for row in whole]


def test_corrections_round_trip() -> None:
    program = Program(
        ring_bits=40,
        image=(1, 1, 3),
        image_fraction=0,
        weights=(),
        steps=(Truncate(0, 1), Positive(1)),
        unit=1.0,
    )
    arrays: Arrays = held(program, bytes(32), None)

    data = packed(program, arrays)
    again = held(program, bytes(32), data)

    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)
    assert len(unpack(data, 8, (len(data),))) == len(data)


def test_a_dealer_deals_numbers_in_order() -> None:
    program = Program(
        ring_bits=40,
        image=(1, 1, 3),
        image_fraction=0,
        weights=(),
        steps=(Truncate(0, 1), Positive(1)),
        unit=1.0,
    )
    adopt = Adopt(publication=b"p", program=program, seeds=(bytes(32), bytes(31) + b"1"), number=7)
    state, _ = dealer_step(Idle(), adopt)
    assert isinstance(state, Dealing)

    state, both = dealer_step(state, Deal((bytes(32), b"1" * 32, b"2" * 32)))

    assert [one.number for one in both if isinstance(one, Material)] == [7, 7]
    assert isinstance(state, Dealing)
    assert state.number == 8
