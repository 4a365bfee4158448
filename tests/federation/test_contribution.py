# SPDX-License-Identifier: Apache-2.0
"""Tests of what a site computes, against slow oracles, and of its noise, by its distribution."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from tests.federation.conftest import DIMENSION, RECORDS, make, make_trainee, secret

from consilium.dp.noise import Ring
from consilium.dp.plan import NoiseShares, Plan, alone
from consilium.dp.sampling import poisson_sample
from consilium.errors import DataError
from consilium.federation.contribution import (
    Assignment,
    GradientWork,
    Trainee,
    TrainingWork,
    contribute,
    order_seed,
)
from consilium.federation.site import noise_shares
from consilium.keystream import Keystream
from consilium.learning.models.logistic import Logistic
from consilium.learning.parameters import Vector, assign, flatten
from consilium.learning.tasks import Classification
from consilium.learning.training import train_locally
from consilium.wire import derive

WEIGHTS = np.linspace(-1, 1, DIMENSION, dtype=np.float32)
SHARES = NoiseShares(members=4, least=3, colluders=1)
FINE = Plan(
    sampling_probability=0.5,
    patients=20,
    l2_clip_norm=0.7,
    noise_multiplier=1.0,
    steps=1,
    delta=1e-3,
    dimension=DIMENSION,
    shares=SHARES,
    bits=24,
    accountant="rdp",
)


def assignment(shares: NoiseShares = SHARES, weights: Vector = WEIGHTS) -> Assignment:
    return Assignment(round=3, weights=weights, learning_rate=0.3, shares=shares)


def training(**changes: str) -> TrainingWork:
    work = make("federated", training__local_epochs="2", training__local_batch="3", **changes).work
    assert isinstance(work, TrainingWork)
    return work


# -- One step of DP-SGD ---------------------------------------------------------------


def clipped_gradient(trainee: Trainee, rows: NDArray[np.intp], clip: float) -> Vector:
    """Returns one patient's clipped gradient by a single backward pass."""
    assign(trainee.model, WEIGHTS)
    trainee.model.zero_grad()
    loss = trainee.task.loss(trainee.model(trainee.inputs[rows]), trainee.labels[rows]).mean()
    torch.autograd.backward(loss)
    parts = [p.grad.flatten() for p in trainee.model.parameters() if p.grad is not None]
    gradient: Vector = torch.cat(parts).numpy()
    return gradient * np.float32(min(1.0, clip / float(np.linalg.norm(gradient))))


def slow_sum(trainee: Trainee, plan: Plan, key: bytes) -> Vector:
    coins = Keystream(derive(key, "sampling")[:32])
    drawn = poisson_sample(len(trainee.rows), plan.sampling_probability, coins)
    clip = plan.l2_clip_norm * (1 - 1e-4)
    parts = [clipped_gradient(trainee, trainee.rows[patient], clip) for patient in drawn]
    total: Vector = np.sum([np.zeros(plan.dimension, np.float32), *parts], axis=0)
    return total


def noise_of(plan: Plan, shares: NoiseShares, key: bytes) -> Vector:
    """Returns the noise that this secret adds to nothing, to half a lattice unit."""
    lattice = plan.lattice(shares)
    stream = Keystream(derive(key, "noise")[:32])
    return lattice.decode(lattice.encode(np.zeros(plan.dimension, np.float32), stream))


@pytest.mark.parametrize("site", range(3))
@pytest.mark.parametrize("draw", range(4))
@pytest.mark.parametrize("shares", [SHARES, NoiseShares(members=3, least=2, colluders=1)], ids=str)
def test_a_contribution_is_the_drawn_patients_clipped_gradients_and_noise(
    site: int, draw: int, shares: NoiseShares
) -> None:
    trainee, lattice, key = make_trainee(site), FINE.lattice(shares), secret("oracle", draw)

    found = lattice.decode(contribute(trainee, GradientWork(FINE), assignment(shares), key))

    expected = slow_sum(trainee, FINE, key) + noise_of(FINE, shares, key)
    assert np.abs(found - expected).max() < 1 / lattice.scale + 1e-5


def test_some_gradients_of_these_tests_are_clipped_and_some_are_not() -> None:
    trainee = make_trainee(0)

    norms = [np.linalg.norm(clipped_gradient(trainee, rows, 1e9)) for rows in trainee.rows]

    assert min(norms) < FINE.l2_clip_norm < max(norms)


@pytest.mark.parametrize("patient", range(5))
def test_one_patient_more_or_less_moves_the_sum_by_at_most_the_clip_norm(patient: int) -> None:
    plan, trainee = replace(FINE, sampling_probability=1.0), make_trainee(0)
    without = replace(trainee, rows=trainee.rows[:patient] + trainee.rows[patient + 1 :])
    lattice, key = plan.lattice(SHARES), secret("neighbours")

    both = [
        lattice.decode(contribute(one, GradientWork(plan), assignment(), key))
        for one in (trainee, without)
    ]

    rounding = np.sqrt(DIMENSION) / lattice.scale
    assert 0 < np.linalg.norm(both[0] - both[1]) <= plan.l2_clip_norm + rounding


def test_an_empty_draw_still_sends_noise() -> None:
    plan = replace(FINE, sampling_probability=1e-9)
    key = secret("empty")

    vector = contribute(make_trainee(), GradientWork(plan), assignment(), key)

    assert np.array_equal(plan.lattice(SHARES).decode(vector), noise_of(plan, SHARES, key))
    assert len(np.unique(vector)) == DIMENSION


def test_one_secret_gives_one_contribution() -> None:
    first, second = (
        contribute(make_trainee(), GradientWork(FINE), assignment(), secret("same"))
        for _ in range(2)
    )

    assert np.array_equal(first, second)


def test_two_secrets_give_two_contributions() -> None:
    first, second = (
        contribute(make_trainee(), GradientWork(FINE), assignment(), secret("other", k))
        for k in range(2)
    )

    assert not (first == second).any()


def test_the_coins_and_the_noise_have_keys_of_their_own() -> None:
    key = secret("streams")

    assert derive(key, "sampling")[:32] != derive(key, "noise")[:32]


def test_a_contribution_depends_on_the_weights_that_were_asked_about() -> None:
    plan, key = replace(FINE, sampling_probability=1.0), secret("weights")
    trainee, work = make_trainee(), GradientWork(plan)

    here = contribute(trainee, work, assignment(), key)
    there = contribute(trainee, work, assignment(weights=-WEIGHTS), key)

    assert not np.array_equal(here, there)


def test_the_sum_is_divided_by_the_public_constant() -> None:
    total = np.full(DIMENSION, 1000, np.uint32)

    mean = GradientWork(FINE).gradient(total, SHARES)

    expected = 1000 / FINE.lattice(SHARES).scale / (0.5 * 20)
    assert mean.tolist() == pytest.approx([expected] * DIMENSION, rel=1e-6)
    assert mean.dtype == np.float32


def test_a_site_without_patients_is_refused() -> None:
    with pytest.raises(DataError, match="no patient"):
        replace(make_trainee(), rows=())


# -- Noise ----------------------------------------------------------------------------

WIDE = 3000  # coordinates, each one draw of the noise
SHARINGS = [
    alone(1),
    alone(10),
    NoiseShares(members=10, least=10, colluders=0),
    NoiseShares(members=10, least=9, colluders=1),
    NoiseShares(members=30, least=28, colluders=5),
]


def wide_plan(shares: NoiseShares) -> Plan:
    features = WIDE // 2 - 1
    return replace(FINE, sampling_probability=1e-9, dimension=2 * features + 2, shares=shares)


def noise_in_units(plan: Plan, shares: NoiseShares, site: int) -> Ring:
    """Returns what a site without a drawn patient sends."""
    features = plan.dimension // 2 - 1
    trainee = Trainee(
        model=Logistic((features,), 2),
        task=Classification(2),
        inputs=torch.zeros(1, features),
        labels=torch.zeros(1, dtype=torch.int64),
        rows=(np.array([0]),),
    )
    asked = assignment(shares, np.zeros(plan.dimension, np.float32))
    return contribute(trainee, GradientWork(plan), asked, secret("noise", site))


def p_value(sample: NDArray[np.float32], deviation: float) -> float:
    found: float = stats.kstest(sample, stats.norm(scale=deviation).cdf).pvalue
    return found


@pytest.mark.parametrize("shares", SHARINGS, ids=str)
def test_a_sites_noise_is_gaussian_of_its_share_of_the_variance(shares: NoiseShares) -> None:
    plan = wide_plan(shares)

    sample = plan.lattice(shares).decode(noise_in_units(plan, shares, 0))

    deviation = plan.noise_multiplier * plan.l2_clip_norm / np.sqrt(shares.honest)
    assert p_value(sample, deviation) > 1e-3
    assert p_value(sample, deviation * 2 / 3) < 1e-9
    assert p_value(sample, deviation * 3 / 2) < 1e-9


def test_the_honest_noise_of_the_smallest_sum_is_the_planned_gaussian() -> None:
    shares = NoiseShares(members=6, least=4, colluders=1)
    plan = wide_plan(shares)

    parts = [noise_in_units(plan, shares, site) for site in range(shares.honest)]

    sample = plan.lattice(shares).decode(np.stack(parts).sum(axis=0, dtype=np.uint32))
    deviation = plan.noise_multiplier * plan.l2_clip_norm
    assert p_value(sample, deviation) > 1e-3
    assert p_value(sample, deviation * 2 / 3) < 1e-9
    assert p_value(sample, deviation * 3 / 2) < 1e-9


@pytest.mark.parametrize("drops", [0, 1, 2])
@pytest.mark.parametrize("colluders", [0, 1])
@pytest.mark.parametrize("members", [4, 5, 6])
def test_every_sum_that_opens_holds_the_planned_honest_noise(
    members: int, colluders: int, drops: int
) -> None:
    setup = make(
        sites__count="6",
        sites__threshold="4",
        sites__colluders=str(colluders),
        sites__tolerated_drops=str(drops),
    )
    assert setup.job is not None
    assert setup.plan is not None
    lattice = setup.plan.lattice(noise_shares(setup.job, members=members, noise_alone=False))
    site_variance = (lattice.sigma / lattice.scale) ** 2

    opened = range(setup.job.least(members), members + 1)
    honest = [
        len(set(survivors) - set(curious))
        for size in opened
        for survivors in itertools.combinations(range(members), size)
        for curious in itertools.combinations(range(members), colluders)
    ]

    planned = (setup.plan.noise_multiplier * setup.plan.l2_clip_norm) ** 2
    assert min(honest) * site_variance >= planned * (1 - 1e-12)


# -- Local training -------------------------------------------------------------------


def slow_change(trainee: Trainee, work: TrainingWork) -> Vector:
    assign(trainee.model, WEIGHTS)
    examples = (trainee.inputs, trainee.labels)
    settings = replace(work.settings, learning_rate=0.3)
    seed = work.seed + order_seed(WEIGHTS)
    train_locally(trainee.model, trainee.task, examples, settings, order_seed=seed)
    return flatten(trainee.model) - WEIGHTS


def smaller(trainee: Trainee, records: int) -> Trainee:
    inputs, labels = trainee.inputs[:records], trainee.labels[:records]
    return replace(trainee, inputs=inputs, labels=labels, rows=trainee.rows[:1])


def test_the_average_change_is_weighted_by_records() -> None:
    work, sizes = training(), [7, 2, 5]
    trainees = [smaller(make_trainee(site), size) for site, size in enumerate(sizes)]

    parts = [contribute(one, work, assignment(), b"") for one in trainees]

    found = work.change(np.stack(parts).sum(axis=0, dtype=np.uint32))
    expected = np.average([slow_change(one, work) for one in trainees], axis=0, weights=sizes)
    assert np.abs(found - expected).max() < 1e-6


def test_local_training_needs_no_secret() -> None:
    work = training()

    first, second = (
        contribute(make_trainee(), work, assignment(), secret("local", k)) for k in range(2)
    )

    assert np.array_equal(first, second)


def test_a_lost_round_that_is_done_again_under_a_new_number_is_the_same() -> None:
    first, second = (
        contribute(make_trainee(), training(), replace(assignment(), round=number), b"")
        for number in (1, 2)
    )

    assert np.array_equal(first, second)


def test_the_order_of_records_differs_between_models() -> None:
    assert order_seed(WEIGHTS) != order_seed(WEIGHTS + 1)


def test_a_site_with_nearly_all_records_keeps_its_weight() -> None:
    work = replace(training(sites__count="40"), mean_records=RECORDS / 40)

    vector = contribute(make_trainee(), work, assignment(), b"")

    assert work.ring.decode(vector.astype(np.uint32))[-1] == pytest.approx(40)


def test_training_that_diverged_is_refused() -> None:
    trainee = replace(make_trainee(), inputs=torch.full((RECORDS, 3), torch.inf))

    with pytest.raises(DataError, match="diverged"):
        contribute(trainee, training(), assignment(), b"")
