# SPDX-License-Identifier: Apache-2.0
"""Tests of whole trainings over real messages: any losses, against a plain sum in floats."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.federation.conftest import Lost, Play, few, losing, make

from consilium.federation.contribution import GradientWork, TrainingWork
from consilium.federation.messages import RoundStart
from consilium.federation.setup import Setup
from consilium.federation.site import noise_shares
from consilium.secagg.job import smallest_threshold
from consilium.secagg.messages import (
    Ciphertexts,
    CiphertextTable,
    Hello,
    Opening,
    Roster,
    Upload,
)
from consilium.wire import Message

Floats = NDArray[np.float64]
OFF = "off-and-the-coordinator-sees-every-update"

# -- The oracle -----------------------------------------------------------------------


def slow_model(play: Play) -> Floats:
    """Returns the model that plain float arithmetic makes of what the sites contributed."""
    work = play.setup.work
    weights = velocity = np.zeros(play.setup.dimension)
    for number, survivors in play.opened:
        if isinstance(work, TrainingWork):
            weights = weights + slow_change(play, number, survivors)
        else:
            velocity = 0.5 * velocity + slow_gradient(play, work, number, survivors)
            weights = weights - 0.5 * velocity
    return weights


def slow_gradient(
    play: Play, work: GradientWork, number: int, survivors: tuple[int, ...]
) -> Floats:
    total = np.zeros(play.setup.dimension)
    for site in survivors:
        said = play.contributed[number, site]
        members, terms = len(said.start.plan.members), play.setup
        shares = noise_shares(terms.job, members=members, noise_alone=terms.noise_alone)
        total += signed(said.vector, 16) / work.plan.lattice(shares).scale
    return total / (work.plan.sampling_probability * work.plan.patients)


def slow_change(play: Play, number: int, survivors: tuple[int, ...]) -> Floats:
    total = np.zeros(play.setup.dimension + 1)
    for site in survivors:
        total += signed(play.contributed[number, site].vector, 32)
    change: Floats = total[:-1] / total[-1]
    return change


def signed(vector: NDArray[np.uint16 | np.uint32], bits: int) -> Floats:
    values = vector.astype(np.float64)
    return np.where(values < 2 ** (bits - 1), values, values - 2**bits)


def check_model(play: Play) -> None:
    found, expected = play.state.progress.weights, slow_model(play)
    assert np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())


# -- Without losses -------------------------------------------------------------------


@pytest.mark.parametrize(
    "setup",
    [
        make("central"),
        make("central-dp"),
        make("federated"),
        make("federated", sites__secure_sum=OFF),
        make("federated-local-dp"),
        make("federated-local-dp", sites__secure_sum=OFF),
        make("federated-dp"),
        make("federated-dp", sites__post_quantum="true"),
    ],
    ids=lambda setup: f"{setup.arm.name} {'plain' if setup.job is None else 'secure'}",
)
def test_every_arm_ends_with_the_model_of_the_plain_sum(setup: Setup) -> None:
    play = Play(setup)

    finished = play.run()

    assert finished.reason == "all rounds are done"
    assert play.refused == []
    check_model(play)


def test_the_secure_sum_and_the_plain_sum_train_one_model() -> None:
    secure, plain = (Play(make("federated", sites__secure_sum=kind)).run() for kind in ("on", OFF))

    assert np.array_equal(secure.progress.weights, plain.progress.weights)


def test_local_training_learns() -> None:
    play = Play(make("federated", training__rounds="20", training__local_epochs="3"))

    weights = play.run().progress.weights

    trainee = play.trainees[0]
    scores = trainee.inputs.numpy() @ (weights[3:6] - weights[:3]) + weights[7] - weights[6]
    assert ((scores > 0) == trainee.labels.numpy().astype(bool)).mean() >= 6 / 7


def test_fewer_members_each_add_more_noise() -> None:
    play = Play(replace(make(sites__count="5"), steps_allowed=9), lost=losing((Upload, 1, 4)))

    play.run()

    assert [len(play.contributed[n, 0].start.plan.members) for n in (1, 2, 3)] == [5, 4, 5]
    check_model(play)


# -- With losses ----------------------------------------------------------------------


@st.composite
def losses(draw: st.DrawFn, *, tolerated: bool) -> tuple[int, Lost]:
    """Draws how many sites there are, and which of them miss what in the first three rounds.

    A lost start or opening is as good as a site that is away. A site whose upload is lost has
    given its prekeys, cannot give them twice, and is back one round later: at most as many of
    these at a time as the threshold leaves.
    """
    sites = draw(st.integers(3, 6))
    spare = {3: 0, 4: 1, 5: 1, 6: 2}[sites]
    kinds: list[type[Message]] = (
        [RoundStart, Opening] if tolerated else [RoundStart, Opening, Upload]
    )
    rules: list[tuple[type[Message], int, int]] = []
    for number in (1, 2, 3):
        order = draw(st.permutations(range(sites)))
        absent = order[: draw(st.integers(0, spare if tolerated else sites))]
        for place, site in enumerate(absent):
            kind = draw(st.sampled_from(kinds if place < spare else kinds[:2]))
            rules.append((kind, number, site))
    return sites, losing(*rules)


def setup_of(sites: int, *, post_quantum: str = "false") -> Setup:
    changes = {
        "sites__count": str(sites),
        "sites__tolerated_drops": str(min(2, sites - smallest_threshold(sites, 1))),
        "sites__post_quantum": post_quantum,
    }
    return replace(make(**changes), steps_allowed=None)


@few
@given(losses(tolerated=False))
def test_whatever_is_lost_the_model_is_that_of_the_sums_that_opened(
    drawn: tuple[int, Lost],
) -> None:
    sites, lost = drawn
    play = Play(setup_of(sites), lost=lost)

    finished = play.run()

    assert finished.progress.round == len(play.opened) == 3
    check_model(play)


@few
@given(
    sites=st.integers(4, 6),
    kind=st.sampled_from([Hello, Roster, Ciphertexts, CiphertextTable]),
    away=st.integers(0, 3),
    late=st.integers(0, 3),
    number=st.integers(1, 3),
)
def test_a_hybrid_session_goes_on_without_a_site_and_through_a_lost_start(
    sites: int, kind: type[Message], away: int, late: int, number: int
) -> None:
    lost = losing((kind, 0, away), (RoundStart, number, late))
    play = Play(setup_of(sites, post_quantum="true"), lost=lost)

    finished = play.run()

    assert finished.progress.round == len(play.opened) == 3
    assert all(away not in survivors for _, survivors in play.opened)
    check_model(play)


@few
@given(losses(tolerated=True))
def test_losses_within_the_tolerance_cost_no_round(drawn: tuple[int, Lost]) -> None:
    sites, lost = drawn
    play = Play(setup_of(sites), lost=lost)

    finished = play.run()

    assert finished.progress.attempts == finished.progress.round == 3
    check_model(play)


@few
@given(losses(tolerated=False))
def test_whatever_is_lost_each_site_paid_for_every_upload(drawn: tuple[int, Lost]) -> None:
    sites, lost = drawn
    play = Play(setup_of(sites), lost=lost)

    play.run()

    paid = [[charge.round for charge in ledger.charges] for ledger in play.ledgers]
    sent = [sorted(n for n, k in play.contributed if k == site) for site in range(sites)]
    assert paid == sent
