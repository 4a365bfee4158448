# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import DataError, RemoteProtocolError
from consilium.inference.ring import pack, packed_size, reduce, ring, signed, unpack, word
from consilium.inference.sharing import random_size, share, to_reals, to_ring, unshare

BITS = st.sampled_from([1, 7, 11, 19, 21, 32, 40, 48, 56, 64])


@given(BITS, st.lists(st.integers(-(2**62), 2**62), max_size=20))
def test_words_are_the_integers_modulo_the_ring(bits: int, values: list[int]) -> None:
    words = ring(np.array(values, np.int64), bits)

    assert [int(one) for one in words] == [value % 2**bits for value in values]


@given(BITS, st.data())
def test_signed_is_the_inverse_within_the_ring(bits: int, data: st.DataObject) -> None:
    half = 2 ** (bits - 1)
    values = data.draw(st.lists(st.integers(-half, half - 1), max_size=20))

    assert signed(ring(np.array(values, np.int64), bits), bits).tolist() == values


@given(BITS, st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_packing_round_trips(bits: int, values: list[int]) -> None:
    words = reduce(np.array(values, np.uint64), bits).astype(word(bits))
    data = pack(words, bits)

    assert len(data) == packed_size(len(values), bits)
    assert unpack(data, bits, words.shape).tolist() == words.tolist()


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="expected 10"):
        unpack(bytes(11), 40, (2,))


def test_a_word_beyond_its_ring_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="above 21 bits"):
        unpack(b"\xff\xff\xff", 21, (1,))


@given(st.sampled_from([32, 40, 64]), st.binary(min_size=80, max_size=80))
def test_shares_sum_to_the_secret(bits: int, randomness: bytes) -> None:
    secret = ring(np.arange(-5, 5), bits)
    drawn = randomness[: random_size(10, bits)]

    first, second = share(secret, drawn, bits)

    assert unshare(first, second, bits).tolist() == secret.tolist()
    assert first.tolist() == reduce(np.frombuffer(drawn, word(bits)), bits).tolist()


def test_reals_round_to_the_nearest() -> None:
    words = to_ring(np.array([0.5, -0.25, 1.03]), 4, 40)

    assert to_reals(words, 2**-4, 40).tolist() == [0.5, -0.25, 1.0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 2.0**30])
def test_a_value_that_does_not_fit_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="expected finite"):
        to_ring(np.array([value]), 4, 32)
