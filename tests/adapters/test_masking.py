# SPDX-License-Identifier: Apache-2.0
"""Masks expanded ahead, on any number of threads, are those that the secure sum makes itself."""

import numpy as np
import pytest
from tests.secagg.conftest import Play, joined, make_job, make_vectors, secret

from consilium.adapters.masking import SHORTEST, MaskExpander
from consilium.keystream import BLOCK
from consilium.secagg.masks import MaskKeys, add_masks
from consilium.secagg.site import plan_masks

KEYS = MaskKeys(bytes(32), (secret("first"), secret("second")), (secret("third"),))


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("bits", [16, 32])
def test_any_number_of_threads_makes_one_mask(threads: int, bits: int) -> None:
    job = make_job(3, 3, 1, length=4 * BLOCK + 12_345, bits=bits)
    expected = np.zeros(job.length, job.word)
    add_masks(expected, add=KEYS.added, subtract=KEYS.subtracted)
    expander = MaskExpander(threads)

    expander.begin(KEYS, job)
    mask = expander.take()

    assert mask is not None
    assert mask.plan == KEYS.plan
    assert np.array_equal(mask.words, expected)


def test_an_upload_with_a_mask_made_ahead_is_the_same() -> None:
    job = make_job(3, 3, 1, length=SHORTEST)
    play, other = Play(job).join().prepare(), Play(job).join().prepare()
    plan, vector = play.plan(), make_vectors(job)[0]
    expander = MaskExpander(2)

    expander.begin(plan_masks(joined(play, 0), plan), job)
    ahead = play.upload(0, plan, vector, mask=expander.take())

    assert ahead == other.upload(0, plan, vector)


def test_a_mask_is_handed_out_once() -> None:
    expander = MaskExpander(1)
    expander.begin(KEYS, make_job(3, 3, 1, length=SHORTEST))

    assert expander.take() is not None
    assert expander.take() is None


def test_masks_of_an_earlier_plan_are_forgotten() -> None:
    expander, job = MaskExpander(2), make_job(3, 3, 1, length=SHORTEST)
    expander.begin(KEYS, job)

    expander.begin(MaskKeys(b"later".ljust(32), (), ()), job)
    mask = expander.take()

    assert mask is not None
    assert mask.plan == b"later".ljust(32)
    assert not mask.words.any()


def test_a_short_vector_is_left_to_the_secure_sum() -> None:
    expander = MaskExpander(2)

    expander.begin(KEYS, make_job(3, 3, 1, length=1000))

    assert expander.take() is None


def test_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="threads=0 must be >= 1"):
        MaskExpander(0)
