# SPDX-License-Identifier: Apache-2.0
"""No two arrays of material are alike: not of two steps, two names, two seeds or two numbers."""

from itertools import combinations

import pytest
from tests.inference.programs import every_step

from consilium.errors import RemoteProtocolError
from consilium.inference.material import Expander, corrections_size, held, layout, mask_weights
from consilium.inference.ring import Words

PROGRAM = every_step()


def starts(arrays: list[Words]) -> list[bytes]:
    """Returns the first bytes of arrays that are long enough to be told apart."""
    return [one.tobytes()[:16] for one in arrays if one.nbytes >= 16]


def test_every_step_and_name_has_a_stream_of_its_own() -> None:
    drawn = [
        Expander(bytes(32)).words(step, name, (8,), 64)
        for step in range(4)
        for name in ("mask", "cover", "weights", "beta", "product")
    ]

    assert len(set(starts(drawn))) == 20


def test_no_two_arrays_of_one_material_share_a_stream() -> None:
    arrays = held(PROGRAM, bytes(32), None)

    for (one, first), (other, second) in combinations(arrays.items(), 2):
        size = min(first.nbytes, second.nbytes)
        if size >= 16:
            assert first.tobytes()[:size] != second.tobytes()[:size], (one, other)


def test_masks_of_weights_are_other_than_those_of_values() -> None:
    weights = mask_weights(PROGRAM, bytes(32))
    arrays = held(PROGRAM, bytes(32), None)

    assert not set(starts(list(weights))) & set(starts(list(arrays.values())))


def test_another_seed_is_another_material() -> None:
    one, other = (held(PROGRAM, seed, None) for seed in (bytes(32), bytes(31) + b"1"))

    for part in layout(PROGRAM):
        key = (part.step, part.name)
        assert one[key].size < 8 or (one[key] != other[key]).any()


@pytest.mark.parametrize("wrong", [-1, 1])
def test_corrections_of_another_size_are_refused(wrong: int) -> None:
    with pytest.raises(RemoteProtocolError, match="bytes for"):
        held(PROGRAM, bytes(32), bytes(corrections_size(PROGRAM) + wrong))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="expected 32"):
        Expander(bytes(size))
