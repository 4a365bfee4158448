# SPDX-License-Identifier: Apache-2.0
"""Predicted traffic equals the encoded messages to the byte."""

from dataclasses import replace
from functools import reduce

import pytest
from tests.federation.conftest import DIMENSION, Play, make

from consilium import wire
from consilium.federation.messages import PlainUpdate, PrekeysWanted, Ready, RoundStart
from consilium.federation.setup import Setup
from consilium.federation.traffic import (
    SiteTraffic,
    largest_to_coordinator,
    largest_to_site,
    plain_round,
    round_start_bytes,
    secure_round,
    session_start,
)
from consilium.secagg.job import SumJob
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

NUMBERS = [1, 126, 127, 128, 254, 255, 256, 65_534, 65_535, 65_536, 2**32 - 2, 2**32 - 1]
COUNTS = [3, 7, 15, 16, 127, 128, 129, 255, 256, 257]
OFF = "off-and-the-coordinator-sees-every-update"


def size(message: wire.Message) -> int:
    return len(wire.encode(message))


def round_start(number: int, sites: int, dimension: int) -> RoundStart:
    return RoundStart(Plan(number, tuple(range(sites)), bytes(32)), bytes(4 * dimension), 0.1)


def job_of(sites: int, bits: int) -> SumJob:
    job = make(sites__count="4").job
    assert job is not None
    identities = tuple(k.to_bytes(32, "big") for k in range(sites))
    threshold = sites // 2 + 2
    return replace(job, identities=identities, threshold=threshold, tolerated_drops=0, bits=bits)


def prekeys(site: int, number: int, sites: int) -> Prekeys:
    table, envelope = bytes(32 * sites), bytes(32 * (sites - 1) + 16)
    return Prekeys(site, number, table, table, table, table, envelope)


def opening(site: int, number: int, sites: int) -> Opening:
    others = bytes(32 * (sites - 1))
    return Opening(site, number, bytes(32 * sites + 16), others, others, others)


# -- Messages -------------------------------------------------------------------------


@pytest.mark.parametrize("sites", [1, *COUNTS])
def test_a_round_start_has_its_predicted_size(sites: int) -> None:
    predicted = [round_start_bytes(number, range(sites), 10) for number in NUMBERS]

    assert predicted == [size(round_start(number, sites, 10)) for number in NUMBERS]


@pytest.mark.parametrize("dimension", [1, 63, 64, 65, 16_383, 16_384, 16_385])
def test_weights_of_any_dimension_have_their_predicted_size(dimension: int) -> None:
    assert round_start_bytes(1, range(3), dimension) == size(round_start(1, 3, dimension))


@pytest.mark.parametrize("rate", [0.0, 0.1, 1e-300, 5.0])
def test_the_learning_rate_always_takes_the_same_room(rate: float) -> None:
    start = RoundStart(Plan(1, (0, 1, 2), bytes(32)), bytes(40), rate)

    assert size(start) == round_start_bytes(1, range(3), 10)


# -- Rounds ---------------------------------------------------------------------------


def sizes_of_secure_round(job: SumJob, site: int, number: int) -> SiteTraffic:
    sites = len(job.identities)
    riding = prekeys(site, number + 1, sites)
    upload = Upload(site, number, memoryview(bytes(job.vector_bytes)), riding)
    survivors = Survivors(number, tuple(range(sites)))
    return SiteTraffic(
        size(upload) + size(opening(site, number, sites)),
        size(round_start(number, sites, DIMENSION)) + size(survivors),
    )


@pytest.mark.parametrize("bits", [16, 17])
@pytest.mark.parametrize("sites", COUNTS)
def test_a_round_of_the_secure_sum_has_its_predicted_size(sites: int, bits: int) -> None:
    job, site = job_of(sites, bits), sites - 1

    found = [secure_round(job, site, number, DIMENSION) for number in NUMBERS]

    assert found == [sizes_of_secure_round(job, site, number) for number in NUMBERS]


@pytest.mark.parametrize("sites", [1, *COUNTS])
@pytest.mark.parametrize("width", [20, 254, 256, 65_534, 65_536])
def test_a_round_without_it_has_its_predicted_size(sites: int, width: int) -> None:
    site = sites - 1

    found = [plain_round(site, sites, n, dimension=10, vector_bytes=width) for n in NUMBERS]

    assert [one.up for one in found] == [size(PlainUpdate(site, n, bytes(width))) for n in NUMBERS]
    assert [one.down for one in found] == [size(round_start(n, sites, 10)) for n in NUMBERS]


@pytest.mark.parametrize("sites", COUNTS)
def test_the_start_of_a_session_has_its_predicted_size(sites: int) -> None:
    site, hellos = sites - 1, tuple(Hello(k, bytes(32), bytes(64)) for k in range(sites))

    found = [session_start(job_of(sites, 16), site, sites, first) for first in NUMBERS]

    up = [size(hellos[site]) + size(prekeys(site, first, sites)) for first in NUMBERS]
    down = [size(Roster(hellos)) + size(PrekeysWanted(first)) for first in NUMBERS]
    assert found == [SiteTraffic(*both) for both in zip(up, down, strict=True)]


@pytest.mark.parametrize("sites", [3, 16, 129])
def test_the_start_of_a_hybrid_session_has_its_predicted_size(sites: int) -> None:
    site, job = 1, replace(job_of(sites, 16), post_quantum=True)
    hellos = tuple(Hello(k, bytes(32 + 1184), bytes(64)) for k in range(sites))
    said = tuple(Ciphertexts(k, bytes(1088 * (sites - 1 - k)), bytes(64)) for k in range(sites))

    found = session_start(job, site, sites, 1)

    up = size(hellos[site]) + size(said[site]) + size(prekeys(site, 1, sites))
    down = size(Roster(hellos)) + size(CiphertextTable(said)) + size(PrekeysWanted(1))
    assert found == SiteTraffic(up, down)
    assert size(CiphertextTable(said)) <= largest_to_site(job, sites, DIMENSION)
    assert size(said[0]) <= largest_to_coordinator(job, job.vector_bytes)


@pytest.mark.parametrize("site", [0, 127, 128, 255, 256])
def test_without_a_secure_sum_a_session_starts_with_one_word(site: int) -> None:
    assert session_start(None, site, 300, 1) == SiteTraffic(size(Ready(site)), 0)


# -- Trainings ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setup",
    [
        make("federated-dp", sites__count="3"),
        make("federated-dp", sites__count="6", dp__bits="20"),
        make("federated-dp", sites__count="5", sites__post_quantum="true"),
        make("federated"),
        make("federated-local-dp", sites__secure_sum=OFF),
        make("central"),
        make("central-dp"),
    ],
    ids=lambda setup: f"{setup.arm.name}-{setup.sites}",
)
def test_a_whole_training_has_its_predicted_size_at_every_site(setup: Setup) -> None:
    play = Play(setup)

    play.run()

    said = [sum(map(len, play.heard[k])) for k in range(setup.sites)]
    told = [sum(map(len, play.told.get(k, []))) for k in range(setup.sites)]
    predicted = [predict(setup, k) for k in range(setup.sites)]
    assert said == [traffic.up for traffic in predicted]
    assert told == [traffic.down for traffic in predicted]


def predict(setup: Setup, site: int) -> SiteTraffic:
    rounds = [predict_round(setup, site, number) for number in range(1, setup.agenda.rounds + 1)]
    return reduce(SiteTraffic.__add__, rounds, session_start(setup.job, site, setup.sites, 1))


def predict_round(setup: Setup, site: int, number: int) -> SiteTraffic:
    if setup.job is not None:
        return secure_round(setup.job, site, number, setup.dimension)
    width = setup.work.width() * setup.work.word()(0).nbytes
    return plain_round(site, setup.sites, number, dimension=setup.dimension, vector_bytes=width)


# -- Limits ---------------------------------------------------------------------------


@pytest.mark.parametrize("sites", COUNTS)
def test_no_message_exceeds_the_limits(sites: int) -> None:
    job, last = job_of(sites, 16), 2**32

    limit = largest_to_coordinator(job, job.vector_bytes)

    vector = memoryview(bytes(job.vector_bytes))
    upload = Upload(sites - 1, last, vector, prekeys(sites - 1, last, sites))
    assert max(size(upload), size(opening(sites - 1, last, sites))) <= limit
    assert size(round_start(last, sites, DIMENSION)) <= largest_to_site(job, sites, DIMENSION)


@pytest.mark.parametrize("sites", [1, *COUNTS])
def test_no_message_without_a_secure_sum_exceeds_the_limits(sites: int) -> None:
    update = PlainUpdate(sites - 1, 2**32, bytes(70_000))

    assert size(update) <= largest_to_coordinator(None, 70_000)
    assert size(round_start(2**32, sites, 10)) <= largest_to_site(None, sites, 10)
