# SPDX-License-Identifier: Apache-2.0
"""The rules that a job's numbers obey, and the digest that binds them."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.secagg.conftest import make_job

from consilium.errors import ConfigError
from consilium.secagg.job import smallest_threshold


@pytest.mark.parametrize(
    ("sites", "threshold", "colluders"),
    [(3, 3, 1), (5, 4, 1), (10, 6, 1), (10, 7, 3), (30, 18, 5), (100, 56, 11)],
)
def test_suggested_numbers_are_accepted(sites: int, threshold: int, colluders: int) -> None:
    assert make_job(sites, threshold, colluders).least(sites) == threshold


@pytest.mark.parametrize(
    ("sites", "threshold", "colluders"),
    [(4, 2, 0), (10, 6, 2), (10, 5, 0), (5, 3, 2), (3, 2, 1), (3, 4, 1), (3, 3, -1)],
)
def test_unsafe_thresholds_are_refused(sites: int, threshold: int, colluders: int) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        make_job(sites, threshold, colluders, drops=0)


@pytest.mark.parametrize("sites", [0, 1, 2])
def test_fewer_than_three_sites_are_refused(sites: int) -> None:
    with pytest.raises(ConfigError, match=f"{sites} sites; expected at least 3"):
        make_job(sites, sites, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 11}, "bits=11; expected 12 to 32"),
        ({"bits": 33}, "bits=33; expected 12 to 32"),
        ({"length": 0}, "length=0; expected at least 1"),
        ({"tolerated_drops": 2}, "tolerated_drops=2; expected 0 to 1"),
        ({"tolerated_drops": -1}, "tolerated_drops=-1; expected 0 to 1"),
        ({"terms": b"short"}, "terms of 5 bytes; expected 32"),
        ({"identities": (b"k" * 32,) * 5}, "an identity is listed twice"),
        ({"identities": (b"k",) * 5}, "an identity is not 32 bytes"),
    ],
)
def test_values_that_cannot_be_meant_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(make_job(5, 4, 1), **change)


@pytest.mark.parametrize(
    ("bits", "word", "size"), [(12, "<u2", 14), (16, "<u2", 14), (17, "<u4", 28), (32, "<u4", 28)]
)
def test_words_are_as_wide_as_the_bits_need(bits: int, word: str, size: int) -> None:
    job = make_job(3, 3, 1, bits=bits)

    assert (job.word.str, job.vector_bytes) == (word, size)


def test_the_fewest_survivors_count_drops_but_never_fall_below_the_threshold() -> None:
    job = make_job(10, 6, 1, drops=2)

    assert [job.least(members) for members in (10, 9, 8, 7, 6)] == [8, 7, 6, 6, 6]
    assert [job.honest(members) for members in (10, 9, 8, 7, 6)] == [7, 6, 5, 5, 5]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"identities": tuple(bytes([k]) * 32 for k in range(5))},
        {"threshold": 5, "tolerated_drops": 0},
        {"colluders": 2},
        {"tolerated_drops": 0},
        {"length": 8},
        {"bits": 15},
        {"post_quantum": True},
        {"terms": bytes(32)},
    ],
)
def test_every_field_is_in_the_digest(change: dict[str, Any]) -> None:
    job = make_job(5, 4, 1)

    assert replace(job, **change).digest() != job.digest()


@given(sites=st.integers(3, 200), colluders=st.integers(0, 100))
def test_the_smallest_threshold_is_safe_and_one_less_is_not(sites: int, colluders: int) -> None:
    safe = [
        threshold
        for threshold in range(2, sites + 1)
        if 2 * threshold > sites + colluders and colluders <= threshold - 2
    ]

    if safe:
        assert smallest_threshold(sites, colluders) == safe[0]
    else:
        with pytest.raises(ConfigError):
            smallest_threshold(sites, colluders)
