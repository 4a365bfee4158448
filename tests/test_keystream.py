# SPDX-License-Identifier: Apache-2.0
"""Tests of the keystream: a second spelling of AES in counter mode, and order of reading."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from hypothesis import given, settings
from hypothesis import strategies as st

from consilium.keystream import BLOCK, TAG_BYTES, Keystream, Word

KEY = bytes(range(32))
KINDS = [np.uint16, np.uint32, np.uint64]


def counter_mode(key: bytes, block: int, length: int) -> bytes:
    """AES-CTR from where AES-GCM starts to encrypt: nonce || 2 (NIST SP 800-38D, 7.1)."""
    start = block.to_bytes(12, "big") + (2).to_bytes(4, "big")
    return Cipher(AES(key), CTR(start)).encryptor().update(bytes(length))


def block(stream: Keystream, index: int) -> bytes:
    out = np.zeros(BLOCK + TAG_BYTES, np.uint8)
    stream.block_into(index, out)
    return out[:BLOCK].tobytes()


def test_the_first_bytes_are_those_of_the_standard() -> None:
    # GCM specification (McGrew and Viega 2005), test case 14: zero key, nonce and plaintext
    words = Keystream(bytes(32)).words(4, np.uint32)

    assert words.tobytes().hex() == "cea7403d4d606b6e074ec5d3baf39d18"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 2**64), st.integers(0, BLOCK))
@settings(max_examples=25)
def test_a_block_is_aes_in_counter_mode(key: bytes, index: int, length: int) -> None:
    assert block(Keystream(key), index)[:length] == counter_mode(key, index, length)


@given(st.integers(0, BLOCK))
@settings(max_examples=25)
def test_the_start_of_a_block_is_that_of_the_whole_one(length: int) -> None:
    out = np.zeros(length + TAG_BYTES, np.uint8)

    Keystream(KEY).block_into(3, out)

    assert out[:length].tobytes() == counter_mode(KEY, 3, length)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_words_are_the_blocks_in_order(kind: type[Word], blocks: int) -> None:
    count = blocks * BLOCK // np.dtype(kind).itemsize

    words = Keystream(KEY).words(count, kind)

    assert words.dtype == kind
    assert words.tobytes() == b"".join(block(Keystream(KEY), k) for k in range(blocks))


@given(st.lists(st.integers(0, BLOCK // 2), max_size=4), st.sampled_from(KINDS))
@settings(max_examples=25)
def test_each_call_starts_at_a_fresh_block(counts: list[int], kind: type[np.uint64]) -> None:
    stream, index = Keystream(KEY), 0

    for count in counts:
        found = stream.words(count, kind).tobytes()

        used = max(1, -(-len(found) // BLOCK))
        expected = b"".join(counter_mode(KEY, index + k, BLOCK) for k in range(used))
        assert found == expected[: len(found)]
        index += used


def test_words_of_an_earlier_call_stay_as_they_are() -> None:
    stream = Keystream(KEY)
    first = stream.words(8, np.uint32)
    copy = first.tolist()

    stream.words(8, np.uint32)

    assert first.tolist() == copy


def test_reading_a_block_does_not_move_the_stream() -> None:
    stream, other = Keystream(KEY), Keystream(KEY)

    block(stream, 7)

    assert stream.words(8, np.uint32).tolist() == other.words(8, np.uint32).tolist()


def test_another_key_is_another_stream() -> None:
    first, second = (Keystream(bytes([k]) * 32).words(8, np.uint64) for k in (1, 2))

    assert not set(first.tolist()) & set(second.tolist())


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"key of {length} bytes; expected 32"):
        Keystream(bytes(length))


def test_neither_the_key_nor_the_stream_is_shown() -> None:
    stream = Keystream(KEY)
    stream.words(8, np.uint32)

    assert repr(stream) == str(stream) == "Keystream(at block 1)"
