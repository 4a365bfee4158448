# SPDX-License-Identifier: Apache-2.0
"""From a project's words to what the parties run: agenda, work, secure sum, terms.

Every party derives these from the same project and the same public counts, so they agree
without being told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from consilium.dp.plan import LARGEST_EPSILON, Plan, calibrated_noise, check_scale
from consilium.errors import BudgetExceeded, ConfigError, PrivacyError
from consilium.federation.arms import ARMS, Arm, Noise
from consilium.federation.contribution import CHANGE_BOUND, GradientWork, TrainingWork, Work
from consilium.federation.coordinator import CoordinatorTerms
from consilium.federation.progress import Agenda
from consilium.federation.project import Dp, LearningRate, Project, Sites
from consilium.federation.site import SiteTerms, noise_shares
from consilium.learning.optimisers import Adam, Optimiser, Sgd
from consilium.learning.schedules import (
    Constant,
    Cosine,
    LogLinear,
    Plateau,
    Schedule,
    Step,
    WarmRestarts,
)
from consilium.learning.training import LocalSettings
from consilium.secagg.job import SumJob, smallest_threshold
from consilium.secagg.quantize import BITS, FixedPoint
from consilium.wire import digest


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PublicFacts:
    """What everybody may know of the data before training.

    Attributes:
        patients: Training patients over all sites (N); declared public.
        records: Training records over all sites, each view counted; only the arms without DP
            use it.
        dimension: Trainable weights of the model.
    """

    patients: int
    records: int
    dimension: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Everything that the parties of one arm agree on.

    Attributes:
        arm: Which.
        sites: How many take part in this arm; 1 where one party holds all data.
        plan: The privacy plan, or None without a guarantee.
        work: What a site computes.
        agenda: What the coordinator does.
        steps_allowed: Rounds that the budget pays for; None without a guarantee.
        job: The secure sum without identities' names, or None.
        terms: Digest of the project, the public facts, the noise and the seed, 32 bytes: parties
            that disagree on any of these hold keys that do not fit.
        weights_sha256: Digest of the file of weights that training begins with, or None.
    """

    arm: Arm
    sites: int
    plan: Plan | None
    work: Work
    agenda: Agenda
    steps_allowed: int | None
    job: SumJob | None
    terms: bytes
    weights_sha256: str | None = None

    @property
    def noise_alone(self) -> bool:
        """Whether every site adds the whole noise."""
        return self.arm.noise is Noise.EACH_SITE

    @property
    def dimension(self) -> int:
        """Number of trained weights."""
        return (
            self.work.plan.dimension if isinstance(self.work, GradientWork) else self.work.dimension
        )

    def for_coordinator(self) -> CoordinatorTerms:
        """Returns the coordinator's terms."""
        return CoordinatorTerms(
            sites=self.sites,
            job=self.job,
            work=self.work,
            noise_alone=self.noise_alone,
            agenda=self.agenda,
            steps_allowed=self.steps_allowed,
        )

    def for_site(self, site: int, identity: bytes) -> SiteTerms:
        """Returns the terms of `site`, whose Ed25519 private key is `identity`."""
        return SiteTerms(
            site=site,
            job=self.job,
            dimension=self.dimension,
            work=self.work,
            noise_alone=self.noise_alone,
            terms=self.terms,
            mechanism=self.mechanism(),
            identity=identity,
        )

    def mechanism(self) -> str:
        """Returns in words what one charge pays for."""
        if self.plan is None:
            return "a round of local training without differential privacy"
        return (
            f"one step of DP-SGD: Poisson q={self.plan.sampling_probability:.6g}, "
            f"clip {self.plan.l2_clip_norm:g}, noise multiplier {self.plan.noise_multiplier:.6g}"
        )


def make_setup(
    project: Project, arm_name: str, facts: PublicFacts, identities: Sequence[bytes], seed: int
) -> Setup:
    """Returns what the parties of one arm agree on.

    Args:
        project: As it was written; changes for the arm are applied here.
        arm_name: Which arm.
        facts: Public counts.
        identities: Ed25519 public key of each site, in order.
        seed: Of this run's experiments (order of records, first weights).

    Raises:
        ConfigError: The arm needs a setting that the project lacks, or numbers do not fit.
        PrivacyError: The guarantee cannot be given; `BudgetExceeded` if not one step fits.
    """
    arm, own = ARMS.get(arm_name), project.for_arm(arm_name)
    assert arm is not None  # noqa: S101 - for_arm has refused unknown arms
    sites = own.sites.count if arm.federated else 1
    noise = _noise_multiplier(_need_dp(own, arm), facts, own) if arm.private else None
    terms = digest(
        "setup", project.terms(arm_name), seed, facts.patients, facts.records, facts.dimension,
        repr(noise),
    )  # fmt: skip
    job = _make_job(own, arm, facts, identities, terms)
    plan = None if noise is None else _make_plan(own, arm, facts, job, noise)
    work = GradientWork(plan) if plan else _make_training(own, facts, sites, seed)
    allowed = _steps_allowed(own, plan) if plan else None
    return Setup(
        arm=arm,
        sites=sites,
        plan=plan,
        work=work,
        agenda=make_agenda(own),
        steps_allowed=allowed,
        job=job,
        terms=terms,
        weights_sha256=own.model.weights_sha256,
    )


# -- The secure sum -------------------------------------------------------------------


def _make_job(
    project: Project, arm: Arm, facts: PublicFacts, identities: Sequence[bytes], terms: bytes
) -> SumJob | None:
    settings = project.sites
    if not arm.federated or settings.secure_sum != "on":
        if arm.noise is Noise.SHARED:
            raise ConfigError(
                "sites.secure_sum is off; expected on: in federated-dp one site's share of the "
                "noise protects nobody, use the arm federated-local-dp"
            )
        return None
    threshold = settings.threshold
    if threshold is None:
        threshold = smallest_threshold(settings.count, settings.colluders)
    return SumJob(
        name=project.name,
        identities=tuple(identities),
        threshold=threshold,
        colluders=settings.colluders,
        tolerated_drops=_tolerated_drops(settings, threshold),
        length=facts.dimension if arm.private else facts.dimension + 1,
        bits=_need_dp(project, arm).bits if arm.private else BITS,
        terms=terms,
        post_quantum=settings.post_quantum,
    )


def _tolerated_drops(settings: Sites, threshold: int) -> int:
    if settings.tolerated_drops is None:
        return min(1, settings.count - threshold)
    return settings.tolerated_drops


# -- The guarantee --------------------------------------------------------------------


def _make_plan(
    project: Project, arm: Arm, facts: PublicFacts, job: SumJob | None, noise: float
) -> Plan:
    dp = _need_dp(project, arm)
    patients = dp.patients or facts.patients
    sites = project.sites.count if arm.federated else 1
    noise_alone = arm.noise is Noise.EACH_SITE
    return Plan(
        sampling_probability=dp.expected_batch / patients,
        patients=patients,
        l2_clip_norm=dp.l2_clip_norm,
        noise_multiplier=noise,
        steps=project.training.rounds,
        delta=dp.delta,
        dimension=facts.dimension,
        shares=noise_shares(job, members=sites, noise_alone=noise_alone),
        bits=dp.bits,
        accountant=dp.accountant,
    )


def _noise_multiplier(dp: Dp, facts: PublicFacts, project: Project) -> float:
    """Returns the noise multiplier that the project gives, or the one that meets its target."""
    patients = dp.patients or facts.patients
    probability = dp.expected_batch / patients
    check_scale(sampling_probability=probability, patients=patients, delta=dp.delta)
    if dp.noise_multiplier is not None:
        return dp.noise_multiplier
    assert dp.target_epsilon is not None  # noqa: S101 - the project has one of the two
    if dp.target_epsilon > LARGEST_EPSILON:
        raise PrivacyError(
            f"dp.target_epsilon is {dp.target_epsilon:g}; expected <= {LARGEST_EPSILON:g}: beyond "
            "it nothing is promised, use an arm without dp"
        )
    return calibrated_noise(
        target_epsilon=dp.target_epsilon,
        delta=dp.delta,
        sampling_probability=probability,
        steps=project.training.rounds,
        accountant=dp.accountant,
    )


def _steps_allowed(project: Project, plan: Plan) -> int:
    dp = project.dp
    budgets = [dp.target_epsilon if dp else None, project.stopping.budget_epsilon]
    given = [budget for budget in budgets if budget is not None]
    if not given:
        return plan.steps
    allowed = plan.steps_within(min(given))
    if allowed < 1:
        raise BudgetExceeded(
            f"a budget of epsilon {min(given):g} does not pay for a single step (noise multiplier "
            f"{plan.noise_multiplier:g}, q {plan.sampling_probability:.3g}); expected at least "
            "one: raise the budget or the noise multiplier"
        )
    return allowed


def _need_dp(project: Project, arm: Arm) -> Dp:
    if project.dp is None:
        raise ConfigError(
            f"arm {arm.name} needs a [dp] section with target_epsilon or noise_multiplier, delta "
            "and expected_batch; add it, or choose an arm without dp"
        )
    return project.dp


# -- Training -------------------------------------------------------------------------


def _make_training(project: Project, facts: PublicFacts, sites: int, seed: int) -> TrainingWork:
    sgd = project.optimiser.name == "sgd"
    for name in ("nesterov", "beta1", "beta2"):
        if getattr(project.optimiser, name):
            raise ConfigError(
                f"optimiser.{name} is set; expected it only in arms with dp, where the "
                "coordinator steps: set it under [arms.NAME.optimiser]"
            )
    return TrainingWork(
        settings=LocalSettings(
            epochs=project.training.local_epochs,
            batch_size=project.training.local_batch,
            learning_rate=project.learning_rate.initial,
            momentum=_momentum(project) if sgd else 0.0,
            optimiser=project.optimiser.name,
        ),
        dimension=facts.dimension,
        mean_records=facts.records / sites,
        # a site's own weight is at most the number of sites
        ring=FixedPoint(members=sites, bound=max(CHANGE_BOUND, float(sites))),
        seed=seed * 1_000_003,
    )


def make_agenda(project: Project) -> Agenda:
    """Returns what the coordinator does, round by round."""
    return Agenda(
        rounds=project.training.rounds,
        schedule=make_schedule(project.learning_rate),
        optimiser=_make_optimiser(project),
        average_decay=project.training.average_decay,
        evaluate_every=project.training.evaluate_every,
        patience=project.stopping.patience,
    )


def _make_optimiser(project: Project) -> Optimiser:
    settings = project.optimiser
    if settings.name == "adam":
        beta1 = 0.9 if settings.beta1 is None else settings.beta1
        return Adam(beta1=beta1, beta2=0.999 if settings.beta2 is None else settings.beta2)
    return Sgd(_momentum(project), nesterov=bool(settings.nesterov))


def _momentum(project: Project) -> float:
    return 0.9 if project.optimiser.momentum is None else project.optimiser.momentum


def make_schedule(settings: LearningRate) -> Schedule:
    """Returns the schedule that the settings name, with its defaults where they are silent."""
    initial = settings.initial
    final_ = 0.0 if settings.final is None else settings.final
    factor = 0.5 if settings.factor is None else settings.factor
    every = 10 if settings.every is None else settings.every
    patience = 3 if settings.patience is None else settings.patience
    match settings.schedule:
        case "constant":
            return Constant(initial)
        case "step":
            return Step(initial=initial, factor=factor, every=every)
        case "cosine":
            return Cosine(initial, final_)
        case "log-linear":
            return LogLinear(initial, initial / 100 if settings.final is None else final_)
        case "warm-restarts":
            return WarmRestarts(initial=initial, final=final_, period=every)
        case "plateau":
            return Plateau(initial=initial, final=final_, factor=factor, patience=patience)
