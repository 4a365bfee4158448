# SPDX-License-Identifier: Apache-2.0
"""Masks against a slow oracle: the whole stream at once."""

import numpy as np
import pytest
from tests.secagg.conftest import secret

from consilium.keystream import BLOCK, Keystream
from consilium.secagg.masks import add_masks

KEYS = [secret("mask", k) for k in range(3)]
LENGTHS = [1, 5, BLOCK // 4 - 1, BLOCK // 4, BLOCK // 2 + 1, BLOCK + 7]


@pytest.mark.parametrize("word", [np.dtype("<u2"), np.dtype("<u4")])
@pytest.mark.parametrize("length", LENGTHS)
def test_masks_are_the_keystreams_of_their_keys(
    length: int, word: np.dtype[np.uint16 | np.uint32]
) -> None:
    vector = np.arange(length).astype(word)
    whole = [np.frombuffer(stream(key, length * word.itemsize), word) for key in KEYS]
    expected = vector + whole[0] + whole[1] - whole[2]

    add_masks(vector, add=KEYS[:2], subtract=KEYS[2:])

    assert np.array_equal(vector, expected)


def stream(key: bytes, size: int) -> bytes:
    return Keystream(key).words(-(-size // 2), np.uint16).tobytes()


@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_added_can_be_subtracted(length: int) -> None:
    vector = np.arange(length, dtype=np.uint16)

    add_masks(vector, add=KEYS)
    add_masks(vector, subtract=KEYS)

    assert np.array_equal(vector, np.arange(length, dtype=np.uint16))


@pytest.mark.parametrize("length", LENGTHS)
def test_other_vectors_are_added_as_well(length: int) -> None:
    vector, others = np.ones(length, np.uint16), [np.full(length, k, np.uint16) for k in (5, 70)]

    add_masks(vector, add=KEYS[:1], others=others)
    add_masks(vector, subtract=KEYS[:1])

    assert np.array_equal(vector, np.full(length, 76))


def test_no_keys_change_nothing() -> None:
    vector = np.arange(3, dtype=np.uint16)

    add_masks(vector)

    assert vector.tolist() == [0, 1, 2]


def test_blocks_of_one_mask_differ() -> None:
    vector = np.zeros(BLOCK, np.uint16)

    add_masks(vector, add=KEYS[:1])

    assert not np.array_equal(vector[: BLOCK // 2], vector[BLOCK // 2 :])
