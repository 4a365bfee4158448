# SPDX-License-Identifier: Apache-2.0
"""Predicted sizes equal the real encodings, byte for byte."""

from dataclasses import replace

import pytest
from tests.secagg.conftest import MODEL, Play, make_job, make_vectors

from consilium import wire
from consilium.secagg import traffic
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Plan,
    Prekeys,
    Roster,
    Survivors,
    Upload,
)

NUMBERS = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32]
JOB = make_job(3, 3, 1)
HYBRID = replace(JOB, post_quantum=True)
COUNTS = [1, 2, 3, 7, 8, 15, 16, 100, 255, 256, 2_047, 2_048, 2_049]


def size(message: wire.Message) -> int:
    return len(wire.encode(message))


@pytest.mark.parametrize("site", NUMBERS)
def test_hello_has_its_predicted_size(site: int) -> None:
    assert size(Hello(site, bytes(32), bytes(64))) == traffic.hello_bytes(JOB, site)


@pytest.mark.parametrize("site", NUMBERS)
def test_hybrid_hello_has_its_predicted_size(site: int) -> None:
    assert size(Hello(site, bytes(32 + 1184), bytes(64))) == traffic.hello_bytes(HYBRID, site)


@pytest.mark.parametrize("count", COUNTS)
def test_ciphertexts_have_their_predicted_size(count: int) -> None:
    for site in {0, count // 2, count - 1}:
        said = Ciphertexts(site, bytes(1088 * (count - 1 - site)), bytes(64))
        assert size(said) == traffic.ciphertexts_bytes(site, range(count))


@pytest.mark.parametrize("count", [1, 3, 15, 16, 70, 130])
def test_a_table_has_its_predicted_size(count: int) -> None:
    roster = range(0, 2 * count, 2)  # the first site and the last stopped on the way
    said = [
        Ciphertexts(site, bytes(1088 * (count - 1 - k)), bytes(64)) for k, site in enumerate(roster)
    ][1:-1]

    assert size(CiphertextTable(tuple(said))) == traffic.table_bytes(roster[1:-1], roster)


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_played_setup_sends_what_is_predicted(*, hybrid: bool) -> None:
    play = Play(replace(make_job(5, 4, 1), post_quantum=hybrid))
    roster = play.introduce()
    up, down = [size(hello) for hello in play.hellos], size(roster)
    if hybrid:
        table = play.agree(roster)
        up = [both + size(said) for both, said in zip(up, table.entries, strict=True)]
        down += size(table)

    predicted = [traffic.setup_bytes(play.job, site, range(5)) for site in range(5)]

    assert predicted == [(one, down) for one in up]


@pytest.mark.parametrize("count", COUNTS)
def test_roster_has_its_predicted_size(count: int) -> None:
    roster = Roster(tuple(Hello(site, bytes(32), bytes(64)) for site in range(count)))

    assert size(roster) == traffic.roster_bytes(JOB, range(count))


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("count", COUNTS)
def test_prekeys_have_their_predicted_size(count: int, number: int) -> None:
    table, envelope = bytes(32 * count), bytes(32 * count - 16)

    prekeys = Prekeys(count - 1, number, table, table, table, table, envelope)

    assert size(prekeys) == traffic.prekeys_bytes(count - 1, number, count)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("count", COUNTS)
def test_lists_have_their_predicted_size(count: int, number: int) -> None:
    sites = tuple(range(count))

    assert size(Plan(number, sites, MODEL)) == traffic.plan_bytes(number, sites)
    assert size(Survivors(number, sites)) == traffic.survivors_bytes(number, sites)


@pytest.mark.parametrize("bits", [16, 17])
@pytest.mark.parametrize("length", [1, 63, 64, 127, 128, 16_383, 16_384, 32_767, 32_768])
def test_upload_has_its_predicted_size(length: int, bits: int) -> None:
    job = make_job(3, 3, 1, length=length, bits=bits)

    upload = Upload(2, 127, memoryview(bytes(job.vector_bytes)), None)

    assert size(upload) == traffic.upload_bytes(job, 2, 127, prekeys_of=None)


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("count", COUNTS)
def test_opening_has_its_predicted_size(count: int, number: int) -> None:
    table = bytes(32 * (count - 1))

    opening = Opening(count, number, bytes(32 * (count + 2) + 16), table, table, table)

    assert size(opening) == traffic.opening_bytes(count, number, members=count + 2, survivors=count)


@pytest.mark.parametrize("number", [1, 127, 255])
def test_a_played_round_sends_what_is_predicted(number: int) -> None:
    job = make_job(6, 5, 1, length=100, drops=1)
    play = Play(job, absent=[5]).join().prepare(number, absent=[5])
    plan, vectors = play.plan(number), make_vectors(job)
    uploads = [play.upload(site, plan, vectors[site], ahead=True) for site in plan.members]
    for upload in uploads:
        play.tell(upload)
    survivors = play.survivors()
    openings = [play.opening(site, survivors) for site in survivors.sites]

    predicted = traffic.round_traffic(job, number, plan.members, survivors.sites, roster=5)

    assert predicted.to_coordinator == sum(size(sent) for sent in [*uploads, *openings])
    assert predicted.to_sites == 5 * (size(plan) + size(survivors))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("length", [1, 400_000])
def test_no_message_exceeds_the_largest(length: int, *, hybrid: bool) -> None:
    job = replace(make_job(20, 12, 3, length=length), post_quantum=hybrid)
    last = 2**32 - 1

    sizes = [
        traffic.roster_bytes(job, range(20)),
        traffic.prekeys_bytes(19, last, 20),
        traffic.upload_bytes(job, 19, last, prekeys_of=20),
        traffic.plan_bytes(last, range(20)),
        traffic.opening_bytes(19, last, members=20, survivors=20),
        traffic.table_bytes(range(20), range(20)) * hybrid,
    ]

    assert max(sizes) <= traffic.largest_message(job) <= max(sizes) + 16
