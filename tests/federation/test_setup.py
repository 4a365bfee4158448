# SPDX-License-Identifier: Apache-2.0
"""Tests of the setup: every setting arrives where it acts, and arms that cannot be are refused."""

import pytest
from msgspec.structs import replace
from tests.federation.conftest import (
    DIMENSION,
    PATIENTS,
    RECORDS,
    identity,
    make,
    make_project,
)

from consilium.dp.plan import View, alone
from consilium.errors import BudgetExceeded, ConfigError, PrivacyError
from consilium.federation.arms import ARMS, Noise
from consilium.federation.contribution import GradientWork, TrainingWork
from consilium.federation.project import LearningRate, Project
from consilium.federation.setup import PublicFacts, Setup, make_schedule, make_setup
from consilium.federation.site import noise_shares
from consilium.learning.optimisers import Adam, Sgd
from consilium.learning.schedules import (
    Constant,
    Cosine,
    LogLinear,
    Plateau,
    Schedule,
    Step,
    WarmRestarts,
)

OFF = "off-and-the-coordinator-sees-every-update"
FEDERATED = [name for name, arm in ARMS.items() if arm.federated]
PRIVATE = [name for name, arm in ARMS.items() if arm.private]


# -- Who takes part -------------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_has_all_sites_or_one_party(arm: str) -> None:
    assert make(arm).sites == (4 if arm in FEDERATED else 1)


@pytest.mark.parametrize("arm", ARMS)
def test_federated_arms_sum_securely_and_nobody_sums_alone(arm: str) -> None:
    assert (make(arm).job is not None) == (arm in FEDERATED)


@pytest.mark.parametrize("arm", ARMS)
def test_private_arms_step_by_gradient_and_the_others_train_locally(arm: str) -> None:
    setup = make(arm)

    assert isinstance(setup.work, GradientWork if arm in PRIVATE else TrainingWork)
    assert (setup.plan is not None) == (arm in PRIVATE)
    assert (setup.steps_allowed is not None) == (arm in PRIVATE)
    assert setup.dimension == DIMENSION


@pytest.mark.parametrize("arm", ["federated", "federated-local-dp"])
def test_the_secure_sum_is_turned_off_by_its_long_name(arm: str) -> None:
    assert make(arm, sites__secure_sum=OFF).job is None


@pytest.mark.parametrize("arm", ["federated", "federated-local-dp", "federated-dp"])
def test_post_quantum_keys_are_off_until_the_project_asks_for_them(arm: str) -> None:
    jobs = [make(arm).job, make(arm, sites__post_quantum="true").job]

    assert [job.post_quantum for job in jobs if job] == [False, True]


def test_shared_noise_without_the_secure_sum_is_refused() -> None:
    with pytest.raises(ConfigError, match="one site's share of the noise protects nobody"):
        make("federated-dp", sites__secure_sum=OFF)


@pytest.mark.parametrize("arm", ["federated", "federated-local-dp", "federated-dp"])
def test_two_sites_are_too_few_for_a_secure_sum(arm: str) -> None:
    with pytest.raises(ConfigError, match="2 sites; expected at least 3"):
        make(arm, sites__count="2")


def test_too_many_colluders_are_refused() -> None:
    with pytest.raises(ConfigError, match="colluders"):
        make(sites__colluders="3")


def test_a_threshold_that_allows_two_openings_is_refused() -> None:
    with pytest.raises(ConfigError, match="threshold=2"):
        make(sites__threshold="2", sites__colluders="0")


def test_the_job_is_bound_to_the_terms_of_the_project() -> None:
    job = make().job

    assert job is not None
    assert job.terms == make().terms
    assert (job.length, job.bits) == (DIMENSION, 16)


def test_a_sum_of_changes_has_room_for_the_weights_of_sites() -> None:
    job = make("federated").job

    assert job is not None
    assert (job.length, job.bits) == (DIMENSION + 1, 32)


def test_every_party_derives_the_same() -> None:
    setup = make()
    site, coordinator = setup.for_site(2, identity(2)), setup.for_coordinator()

    assert (site.job, site.work, site.noise_alone) == (
        coordinator.job,
        coordinator.work,
        coordinator.noise_alone,
    )
    assert site.site == 2
    assert site.terms == setup.terms


def test_a_sites_key_does_not_print() -> None:
    assert "identity" not in repr(make().for_site(0, identity(0)))


# -- The guarantee --------------------------------------------------------------------


def test_shared_noise_counts_on_the_honest_sites_of_the_smallest_sum() -> None:
    setup = make(sites__count="10", sites__tolerated_drops="2", sites__colluders="2")

    assert setup.plan is not None
    assert (setup.plan.shares.least, setup.plan.shares.honest) == (8, 6)
    assert setup.plan.shares == noise_shares(setup.job, members=10, noise_alone=False)


@pytest.mark.parametrize(("arm", "members"), [("central-dp", 1), ("federated-local-dp", 4)])
def test_who_trusts_nobody_adds_the_whole_noise(arm: str, members: int) -> None:
    setup = make(arm)

    assert setup.plan is not None
    assert setup.plan.shares == alone(members)
    assert setup.noise_alone is (setup.arm.noise is Noise.EACH_SITE) is True


def test_the_sampling_probability_is_the_expected_batch_over_all_patients() -> None:
    plan = make().plan

    assert plan is not None
    assert plan.sampling_probability == 10 / (4 * PATIENTS)
    assert plan.normaliser == 10


def test_a_declared_number_of_patients_takes_the_place_of_the_count() -> None:
    plan = make(dp__patients="40").plan

    assert plan is not None
    assert (plan.patients, plan.sampling_probability) == (40, 0.25)


@pytest.mark.parametrize("arm", PRIVATE)
def test_a_target_is_met_by_every_arm_over_all_rounds(arm: str) -> None:
    setup = targeted(arm, 2.0)

    assert setup.plan is not None
    assert 1.98 < setup.plan.epsilon(3, View.PARTICIPANT) <= 2.0
    assert setup.steps_allowed == 3


def targeted(arm: str, epsilon: float, project: Project | None = None) -> Setup:
    project = project or make_project()
    assert project.dp is not None
    dp = replace(project.dp, target_epsilon=epsilon, noise_multiplier=None)
    facts = PublicFacts(patients=20, records=28, dimension=DIMENSION)
    keys = [bytes([k]) * 32 for k in range(4)]
    return make_setup(replace(project, dp=dp), arm, facts, keys, 0)


def test_a_smaller_budget_allows_fewer_steps() -> None:
    whole = make().plan
    assert whole is not None

    setup = make(stopping__budget_epsilon=str(whole.epsilon(2, View.PARTICIPANT) * 1.001))

    assert setup.steps_allowed == 2


def test_of_target_and_budget_the_smaller_one_counts() -> None:
    project = make_project(stopping__budget_epsilon="1.5")

    assert targeted("federated-dp", 2.0, project).steps_allowed in (1, 2)
    assert targeted("federated-dp", 1.0, project).steps_allowed == 3


def test_a_budget_that_pays_for_no_step_is_refused() -> None:
    with pytest.raises(BudgetExceeded, match="does not pay for a single step"):
        make(stopping__budget_epsilon="0.01")


def test_without_a_budget_the_planned_steps_are_allowed() -> None:
    assert make().steps_allowed == 3


@pytest.mark.parametrize("arm", PRIVATE)
def test_a_private_arm_needs_the_section_dp(arm: str) -> None:
    project = replace(make_project(), dp=None)
    facts = PublicFacts(patients=20, records=28, dimension=DIMENSION)

    with pytest.raises(ConfigError, match=r"needs a \[dp\] section"):
        make_setup(project, arm, facts, [bytes([k]) * 32 for k in range(4)], 0)


def test_an_arm_without_privacy_needs_no_section_dp() -> None:
    project = replace(make_project(), dp=None)
    facts = PublicFacts(patients=20, records=28, dimension=DIMENSION)

    setup = make_setup(project, "federated", facts, [bytes([k]) * 32 for k in range(4)], 0)

    assert setup.plan is None


@pytest.mark.parametrize("arm", PRIVATE)
@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("dp__expected_batch", "21", ConfigError),
        ("dp__delta", "0.05", PrivacyError),
        ("dp__delta", "1.5", PrivacyError),
        ("dp__l2_clip_norm", "101", PrivacyError),
        ("dp__noise_multiplier", "1e-12", PrivacyError),
        ("dp__noise_multiplier", "0.02", PrivacyError),
        ("dp__bits", "8", ConfigError),
        ("dp__bits", "33", ConfigError),
    ],
)
def test_settings_that_void_the_guarantee_are_refused(
    arm: str, setting: str, value: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        make(arm, **{setting: value})


def test_a_batch_larger_than_all_patients_is_refused_before_calibration() -> None:
    project = make_project(dp__expected_batch="21")
    assert project.dp is not None
    dp = replace(project.dp, target_epsilon=1.0, noise_multiplier=None)
    facts = PublicFacts(patients=20, records=28, dimension=DIMENSION)

    with pytest.raises(ConfigError, match=r"sampling probability is 1\.05"):
        make_setup(replace(project, dp=dp), "central-dp", facts, [bytes(32)], 0)


def test_a_target_that_promises_nothing_is_refused() -> None:
    with pytest.raises(PrivacyError, match="target_epsilon is 101; expected <= 100"):
        targeted("federated-dp", 101.0)


def test_an_unknown_arm_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected 'federated'"):
        make("federate")


def test_the_mechanism_says_what_a_charge_pays_for() -> None:
    assert "q=0.5, clip 1, noise multiplier 1" in make().mechanism()
    assert "without differential privacy" in make("federated").mechanism()


# -- Training -------------------------------------------------------------------------


def test_settings_of_local_training_arrive() -> None:
    work = make("federated", training__local_epochs="3", training__local_batch="5").work

    assert isinstance(work, TrainingWork)
    assert (work.settings.epochs, work.settings.batch_size) == (3, 5)
    assert (work.settings.optimiser, work.settings.momentum) == ("sgd", 0.5)
    assert work.mean_records == RECORDS


def test_local_training_may_use_adam() -> None:
    work = make("federated", optimiser__name="adam").work

    assert isinstance(work, TrainingWork)
    assert (work.settings.optimiser, work.settings.momentum) == ("adam", 0.0)


@pytest.mark.parametrize("arm", ["central", "federated"])
@pytest.mark.parametrize(
    ("name", "setting"),
    [("sgd", "optimiser__nesterov"), ("adam", "optimiser__beta1"), ("adam", "optimiser__beta2")],
)
def test_what_local_training_would_not_read_is_refused(arm: str, name: str, setting: str) -> None:
    value = {"optimiser__nesterov": "true"}.get(setting, "0.8")

    with pytest.raises(ConfigError, match="expected it only in arms with dp"):
        make(arm, optimiser__name=name, **{setting: value})


def test_runs_with_other_seeds_shuffle_differently() -> None:
    facts = PublicFacts(patients=20, records=28, dimension=DIMENSION)

    first, second = (
        make_setup(make_project(), "central", facts, [bytes(32)], seed).work for seed in (0, 1)
    )

    assert isinstance(first, TrainingWork)
    assert isinstance(second, TrainingWork)
    assert abs(first.seed - second.seed) > first.settings.epochs * 10_000


def test_no_sites_weight_is_clamped() -> None:
    work = make("federated", sites__count="40").work

    assert isinstance(work, TrainingWork)
    assert work.ring.bound >= 40


# -- The agenda -----------------------------------------------------------------------


def test_settings_of_the_coordinator_arrive() -> None:
    agenda = make(training__average_decay="0.5", stopping__patience="4").agenda

    assert (agenda.rounds, agenda.evaluate_every) == (3, 2)
    assert (agenda.average_decay, agenda.patience) == (0.5, 4)
    assert agenda.schedule == Constant(0.5)


@pytest.mark.parametrize(
    ("changes", "optimiser"),
    [
        ({}, Sgd(0.5)),
        ({"optimiser__nesterov": "true"}, Sgd(0.5, nesterov=True)),
        ({"optimiser__name": "adam"}, Adam()),
        ({"optimiser__name": "adam", "optimiser__beta1": "0.0"}, Adam(beta1=0.0)),
        ({"optimiser__name": "adam", "optimiser__beta2": "0.9"}, Adam(beta2=0.9)),
    ],
)
def test_the_optimiser_is_the_one_that_was_asked_for(
    changes: dict[str, str], optimiser: Sgd | Adam
) -> None:
    assert make(**changes).agenda.optimiser == optimiser


@pytest.mark.parametrize(
    ("settings", "schedule"),
    [
        (LearningRate(), Constant(0.1)),
        (LearningRate(schedule="step"), Step(initial=0.1, factor=0.5, every=10)),
        (
            LearningRate(schedule="step", every=2, factor=0.1),
            Step(initial=0.1, factor=0.1, every=2),
        ),
        (LearningRate(schedule="cosine"), Cosine(0.1, 0.0)),
        (LearningRate(schedule="cosine", final=0.01), Cosine(0.1, 0.01)),
        (LearningRate(schedule="log-linear"), LogLinear(0.1, 0.001)),
        (LearningRate(schedule="log-linear", final=0.05), LogLinear(0.1, 0.05)),
        (LearningRate(schedule="warm-restarts", every=3), WarmRestarts(initial=0.1, period=3)),
        (
            LearningRate(schedule="plateau", factor=0.2, patience=1, final=0.01),
            Plateau(initial=0.1, factor=0.2, patience=1, final=0.01),
        ),
    ],
)
def test_the_schedule_is_the_one_that_was_asked_for(
    settings: LearningRate, schedule: Schedule
) -> None:
    assert make_schedule(settings) == schedule


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimiser__momentum", "1.0"),
        ("optimiser__momentum", "-0.1"),
        ("optimiser__momentum", "nan"),
        ("training__average_decay", "-0.5"),
    ],
)
def test_impossible_settings_of_the_coordinator_are_refused(path: str, value: str) -> None:
    with pytest.raises(ConfigError):
        make(**{path: value})
