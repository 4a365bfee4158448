# SPDX-License-Identifier: Apache-2.0
"""The sum itself: for any vectors, any order and any drop-outs that the job tolerates."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.secagg.conftest import Play, few, make_identities, make_job, make_vectors, plain_sum

from consilium.errors import ConfigError, RoundAborted
from consilium.keystream import BLOCK
from consilium.secagg.job import smallest_threshold
from consilium.secagg.protocol import Randomness, run_secure_sum

LOSSES = [
    (lost, silent)
    for count in range(2)
    for lost in combinations(range(5), count)
    for quiet in range(2 - count)
    for silent in combinations(sorted(set(range(5)) - set(lost)), quiet)
]


@few
@given(data=st.data(), sites=st.integers(3, 6), bits=st.sampled_from([12, 16, 17, 32]))
def test_the_total_is_the_sum_of_the_survivors(data: st.DataObject, sites: int, bits: int) -> None:
    threshold = data.draw(st.integers(smallest_threshold(sites, 0), sites))
    colluders = data.draw(st.integers(0, min(threshold - 2, 2 * threshold - sites - 1)))
    job = make_job(sites, threshold, colluders, bits=bits)
    vectors = make_vectors(job, data.draw(st.integers(0, 99)))
    lost = data.draw(st.sets(st.integers(0, sites - 1), max_size=sites - threshold))

    total = run_secure_sum(job, make_identities(sites), vectors, Randomness(b"s" * 32), lost=lost)

    assert total.sites == tuple(sorted(set(range(sites)) - lost))
    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)


@few
@given(uploads=st.permutations(range(5)), openings=st.permutations(range(5)))
def test_order_of_arrival_does_not_matter(uploads: list[int], openings: list[int]) -> None:
    job = make_job(5, 4, 1)
    play, vectors = Play(job).join().prepare(), make_vectors(job)
    plan = play.plan()

    for site in uploads:
        play.tell(play.upload(site, plan, vectors[site]))
    survivors = play.survivors()
    for site in openings:
        play.tell(play.opening(site, survivors))

    assert play.finish().vector.tolist() == plain_sum(job, vectors, range(5))


@few
@given(data=st.data(), sites=st.integers(3, 6))
def test_any_order_and_any_losses_sum_or_open_nothing(data: st.DataObject, sites: int) -> None:
    threshold = data.draw(st.integers(smallest_threshold(sites, 0), sites))
    drops = data.draw(st.integers(0, sites - threshold))
    job = make_job(sites, threshold, 0, drops=drops)
    play, vectors = Play(job).join().prepare(), make_vectors(job)
    plan = play.plan()
    uploading = data.draw(st.permutations(range(sites)))[: data.draw(st.integers(0, sites))]
    for site in uploading:
        play.tell(play.upload(site, plan, vectors[site]))

    if len(uploading) < job.least(sites):
        with pytest.raises(RoundAborted, match="uploads; expected at least"):
            play.survivors()
        return
    survivors = play.survivors()
    opening = data.draw(st.permutations(uploading))[: data.draw(st.integers(0, len(uploading)))]
    for site in opening:
        play.tell(play.opening(site, survivors))
    if len(opening) < threshold:
        with pytest.raises(RoundAborted, match="openings; expected at least"):
            play.finish()
        return

    assert play.finish().vector.tolist() == plain_sum(job, vectors, uploading)


@given(st.integers(0, 40), st.integers(-3, 40), st.integers(-3, 40))
def test_a_job_is_built_by_the_rules_and_by_nothing_else(
    sites: int, threshold: int, colluders: int
) -> None:
    allowed = (
        sites >= 3
        and 0 <= colluders <= threshold - 2
        and threshold <= sites
        and 2 * threshold > sites + colluders
    )

    if allowed:
        assert make_job(sites, threshold, colluders).least(sites) == threshold
    else:
        with pytest.raises(ConfigError):
            make_job(sites, threshold, colluders, drops=0)


@pytest.mark.parametrize(("lost", "silent"), LOSSES)
def test_every_tolerated_pattern_of_losses_sums(lost: tuple[int], silent: tuple[int]) -> None:
    job = make_job(5, 4, 1)
    vectors = make_vectors(job)

    total = Play(job).join().prepare().round(vectors, lost=lost, silent=silent)

    assert total.sites == tuple(sorted(set(range(5)) - set(lost)))
    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)


def test_many_rounds_sum_with_prekeys_riding_on_the_uploads() -> None:
    job = make_job(4, 3, 1)
    play = Play(job).join().prepare()

    for number in range(1, 6):
        plan, vectors = play.plan(number), make_vectors(job, number)
        for site in plan.members:
            play.tell(play.upload(site, plan, vectors[site], ahead=True))
        play.open(play.survivors())
        assert play.finish().vector.tolist() == plain_sum(job, vectors, range(4))


def test_an_absent_site_comes_back_with_prekeys_of_a_later_round() -> None:
    job = make_job(5, 4, 1)
    play, vectors = Play(job).join(), make_vectors(job)
    play.prepare(1, absent=[3]).prepare(2, absent=[3]).prepare(3)

    members = [play.round(vectors, number).sites for number in (1, 2, 3)]

    assert members == [(0, 1, 2, 4), (0, 1, 2, 4), (0, 1, 2, 3, 4)]


def test_a_site_that_said_no_hello_is_left_out() -> None:
    job = make_job(5, 4, 1)
    vectors = make_vectors(job)
    play = Play(job, absent=(2,)).join().prepare(absent=[2])

    total = play.round(vectors)

    assert total.sites == (0, 1, 3, 4)
    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)


def test_round_numbers_may_leave_gaps() -> None:
    job = make_job(3, 3, 1)
    play, vectors = Play(job).join().prepare(4).prepare(9), make_vectors(job)

    assert play.round(vectors, 4).vector.tolist() == plain_sum(job, vectors, range(3))
    assert play.round(vectors, 9).vector.tolist() == plain_sum(job, vectors, range(3))


def test_a_vector_longer_than_a_block_sums() -> None:
    job = make_job(3, 3, 1, length=BLOCK + 12_345)
    vectors = make_vectors(job)

    total = run_secure_sum(job, make_identities(3), vectors, Randomness(b"s" * 32))

    assert np.array_equal(total.vector, np.sum(vectors, axis=0, dtype=job.word))


def test_too_many_losses_abort() -> None:
    job = make_job(5, 4, 1)

    with pytest.raises(RoundAborted, match=r"3 uploads; expected at least 4; sites \[0, 2\]"):
        run_secure_sum(
            job, make_identities(5), make_vectors(job), Randomness(b"s" * 32), lost=(0, 2)
        )


def test_thirty_sites_sum() -> None:
    job = make_job(30, 18, 5, drops=2)
    vectors = make_vectors(job)

    total = run_secure_sum(job, make_identities(30), vectors, Randomness(b"s" * 32), lost=(3, 29))

    assert total.vector.tolist() == plain_sum(job, vectors, total.sites)
