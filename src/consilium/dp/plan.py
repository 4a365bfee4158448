# SPDX-License-Identifier: Apache-2.0
"""How patients are drawn, clipped, noised, summed and priced: one plan, never a part of it.

A `Plan` is immutable and checks itself: what would void its guarantee cannot be built. Sites
draw patients by Poisson sampling, clip each patient's gradient to `l2_clip_norm` (`clip_kinds`),
and add a share of Gaussian noise on an integer lattice; the secure sum adds the lattice points
modulo 2**bits; the coordinator divides by the public constant q N. There is no other sampling to
choose: shuffled batches have no plan. A Poisson sample may be cut to one shape (`most_drawn`);
then every price of the plan contains the cut (`truncated`).

Guarantees: (epsilon, delta)-differential privacy for one patient added or removed, at
`Plan.epsilon`, for the released sums of `steps` steps and everything computed from them. It
holds against the coordinator together with up to `colluders` sites (View.PARTICIPANT), as long
as every opened sum holds at least `least` sites. It fails if more sites than that collude, or
if honest sites do not add their share.
Source: Abadi et al. 2016, Alg. 1; lattice and shares: docs/why/secure-sum.md.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, final

import numpy as np
from dp_accounting import DpEvent, SelfComposedDpEvent, TruncatedSubsampledGaussianDpEvent
from numpy.typing import NDArray

from consilium.dp.accounting import Accountant, calibrate, epsilon, poisson_gaussian, steps_within
from consilium.dp.clip_kinds import FLAT, Clipping, Quantile
from consilium.dp.noise import LEAST_SIGMA, Ring, rounded_gaussian, rounding_slack
from consilium.dp.truncated import delta_left
from consilium.errors import ConfigError, PrivacyError
from consilium.keystream import Keystream

LARGEST_CLIP_NORM: Final = 100.0  # beyond it nothing is clipped and the noise drowns the model
LARGEST_EPSILON: Final = 100.0  # of one step; beyond it the word "private" means nothing
_NOISE_RANGE: Final = 8.0  # standard deviations of noise that the ring has room for
_CLAMP_FACTOR: Final = 2.0  # times an average site's largest possible coordinate
_FLOAT32_ERROR: Final = 2.0**-22  # at least that of the scale and of a scaled sum together
_FINEST: Final = 256.0  # lattice units of one site's noise that are enough
_LARGEST_VALUE: Final = 2.0**22  # lattice units: float32 holds every half below it


class View(StrEnum):
    """Who tries to learn about a patient."""

    OUTSIDER = "outsider"  # sees every released model and the coordinator's traffic
    PARTICIPANT = "participant"  # the same, and knows the noise of the colluding sites


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShares:
    """How many sites add noise in one sum: public facts of its round.

    Attributes:
        members: Sites asked to contribute.
        least: Fewest sites in any sum that can open.
        colluders: Sites whose noise the adversary knows.
    """

    members: int
    least: int
    colluders: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.members or not 0 <= self.colluders < self.least:
            raise ConfigError(
                f"noise shares with {self.members=}, {self.least=}, {self.colluders=}; "
                "expected colluders < least <= members"
            )

    @property
    def honest(self) -> int:
        """Fewest honest sites in any opened sum; each adds 1/honest of the noise variance."""
        return self.least - self.colluders


def alone(members: int) -> NoiseShares:
    """Returns the shares of sites that each add the whole noise and trust nobody."""
    return NoiseShares(members=members, least=1, colluders=0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Lattice:
    """Integers on which sites add noise: x becomes round(scale x + noise) modulo 2**bits.

    Attributes:
        scale: Lattice units per unit of gradient.
        sigma: Standard deviation of one site's noise, lattice units.
        clamp: Bound on each coordinate of a site's sum, units of gradient; clamping is a
            contraction, so it costs accuracy and never privacy.
        bits: Width of the ring.
    """

    scale: float
    sigma: float
    clamp: float
    bits: int

    def encode(self, total: NDArray[np.float32], stream: Keystream) -> Ring:
        """Returns a site's noised share of the sum, shape (dimension,), in the ring."""
        bounded = np.clip(total, -self.clamp, self.clamp, dtype=np.float32)
        np.multiply(bounded, np.float32(self.scale), out=bounded)
        return rounded_gaussian(bounded, self.sigma, stream, self.word)

    def decode(self, total: Ring) -> NDArray[np.float32]:
        """Returns the opened sum in units of gradient, shape (dimension,), float32."""
        spare = np.dtype(self.word).itemsize * 8 - self.bits
        kind = np.int16 if self.word is np.uint16 else np.int32
        signed = np.left_shift(total, spare).view(kind)
        np.right_shift(signed, spare, out=signed)
        real: NDArray[np.float32] = signed.astype(np.float32)
        return np.divide(real, np.float32(self.scale), out=real)

    @property
    def word(self) -> type[np.uint16] | type[np.uint32]:
        """The type of a ring element."""
        return np.uint16 if self.bits <= 16 else np.uint32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Sampling, clipping, noise, normaliser and event of one private training.

    Attributes:
        sampling_probability: q; each patient is drawn with it, independently, at every step.
        patients: N, the public number of training patients.
        l2_clip_norm: C, bound on one patient's vector over all coordinates.
        noise_multiplier: z; the honest noise of any opened sum has standard deviation >= z C.
        steps: Most steps that may be charged.
        delta: Of the guarantee; must be below 1/patients.
        dimension: Number of coordinates; `Quantile` has one more than the gradient.
        shares: Who adds noise when every site takes part.
        bits: Width of the ring of the secure sum.
        accountant: "pld" (tight) or "rdp".
        clipping: How a gradient becomes a vector of norm <= C; one party alone may choose.
        most_drawn: Places in a batch of one shape, at which samples are cut, in plans of one
            party alone; None: samples are whole.

    Raises:
        PrivacyError: The settings would void the guarantee or make it meaningless.
        ConfigError: A number is outside its range.
    """

    sampling_probability: float
    patients: int
    l2_clip_norm: float
    noise_multiplier: float
    steps: int
    delta: float
    dimension: int
    shares: NoiseShares
    bits: int = 16
    accountant: Accountant = "pld"
    clipping: Clipping = FLAT
    most_drawn: int | None = None

    def __post_init__(self) -> None:
        _check_ranges(self)
        _check_alone(self)
        if self.lattice(self.shares).sigma < LEAST_SIGMA:
            raise PrivacyError(
                f"a site's noise is {self.lattice(self.shares).sigma:.2f} lattice units, expected "
                f">= {LEAST_SIGMA}: raise dp.bits above {self.bits} or lower dp.expected_batch"
            )
        # the cheap accountant, as PLD takes seconds for noise that is to be refused
        one_step = epsilon(_uncut(self, 1, View.PARTICIPANT), self.priced_delta, "rdp")
        if not one_step <= LARGEST_EPSILON:
            raise PrivacyError(
                f"one step costs epsilon {one_step:.3g}, expected <= {LARGEST_EPSILON:g}: "
                f"noise_multiplier {self.noise_multiplier:g} is no protection, raise it"
            )

    @property
    def normaliser(self) -> float:
        """q N: a public constant, never the true size of a batch."""
        return self.sampling_probability * self.patients

    @property
    def priced_delta(self) -> float:
        """`delta` less what the cuts of all steps may cost: where Poisson samples are priced.

        Raises:
            PrivacyError: The cuts alone cost `delta` or more.
        """
        if self.most_drawn is None:
            return self.delta
        return delta_left(
            self.delta,
            steps=self.steps,
            count=self.patients,
            probability=self.sampling_probability,
            most=self.most_drawn,
        )

    def noise_seen(self, view: View) -> float:
        """Returns the noise multiplier that protects a patient from `view`."""
        if view is View.PARTICIPANT:
            return self.noise_multiplier
        return self.noise_multiplier * math.sqrt(self.shares.least / self.shares.honest)

    def event(self, steps: int, view: View) -> DpEvent:
        """Returns what was done to the data in `steps` steps; any accountant can price it.

        Samples that are cut have an event of their own, of the larger neighbour's patients.
        `epsilon` does not need it: by the lemma in `truncated` it prices whole samples at
        `priced_delta`, with either accountant.
        """
        if self.most_drawn is None:
            return _uncut(self, steps, view)
        step = TruncatedSubsampledGaussianDpEvent(
            dataset_size=self.patients + 1,
            sampling_probability=self.sampling_probability,
            truncated_batch_size=self.most_drawn,
            noise_multiplier=self.noise_seen(view),
        )
        return SelfComposedDpEvent(step, steps)

    def epsilon(self, steps: int, view: View) -> float:
        """Returns epsilon at `delta` after `steps` steps, the price of rounding included."""
        if steps == 0:
            return 0.0
        return _price(self, steps, view) + self.slack(steps)

    def slack(self, steps: int) -> float:
        """Returns what rounding to the lattice adds to epsilon: 2 tau a step (docs/why).

        `least` noises are the most that a view adds up; what more sites add only post-processes
        their sum. It also multiplies delta by exp(steps * tau), which is 1 to double precision
        for any lattice that a plan accepts.
        """
        sigma = self.lattice(self.shares).sigma
        return 2 * steps * rounding_slack(sigma, self.shares.least, self.dimension)

    def steps_within(self, budget_epsilon: float) -> int:
        """Returns how many steps fit a budget, at most `steps`; 0 if not even one does."""
        if self.epsilon(self.steps, View.PARTICIPANT) <= budget_epsilon:
            return self.steps
        fitting = steps_within(
            budget_epsilon=budget_epsilon - self.slack(self.steps),
            delta=self.priced_delta,
            sampling_probability=self.sampling_probability,
            noise_multiplier=self.noise_multiplier,
            accountant=self.accountant,
        )
        return min(self.steps, fitting)

    def lattice(self, shares: NoiseShares) -> Lattice:
        """Returns the lattice of a round in which `shares.members` sites take part.

        Guarantees: K clamped site sums and their noise stay inside the ring: s K c +
        8 S sqrt(K) + K/2 < 2**(bits-1). Noise beyond 8 standard deviations may wrap; that
        costs accuracy, never privacy. The scale stops growing, whatever the bits, where float32
        would lose halves of a lattice unit, and where a finer lattice only costs time: at 256
        units of noise rounding adds a millionth of its variance.
        Source: docs/why/secure-sum.md, 5.1.
        """
        clamp = _CLAMP_FACTOR * self.normaliser * self.l2_clip_norm / shares.members
        # S = s z C / sqrt(h): the room for noise is proportional to the scale as well
        spread = self.noise_multiplier * self.l2_clip_norm / math.sqrt(shares.honest)
        room = 2 ** (self.bits - 1) * (1 - _FLOAT32_ERROR) - 1 - shares.members / 2
        widest = shares.members * clamp + _NOISE_RANGE * spread * math.sqrt(shares.members)
        scale = min(room / widest, _LARGEST_VALUE / max(clamp, spread), _FINEST / spread)
        return Lattice(scale=scale, sigma=scale * spread, clamp=clamp, bits=self.bits)


@lru_cache(maxsize=4096)
def _price(plan: Plan, steps: int, view: View) -> float:
    return epsilon(_uncut(plan, steps, view), plan.priced_delta, plan.accountant)


def _uncut(plan: Plan, steps: int, view: View) -> DpEvent:
    return poisson_gaussian(
        sampling_probability=plan.sampling_probability,
        noise_multiplier=plan.noise_seen(view),
        steps=steps,
    )


def calibrated_noise(
    *,
    target_epsilon: float,
    delta: float,
    sampling_probability: float,
    steps: int,
    accountant: Accountant = "pld",
) -> float:
    """Returns the noise multiplier with which `steps` steps cost at most `target_epsilon`.

    A millionth of the target is kept for the price of rounding, which `Plan.epsilon` adds.
    """
    return calibrate(
        target_epsilon=target_epsilon * (1 - 1e-6),
        delta=delta,
        sampling_probability=sampling_probability,
        steps=steps,
        accountant=accountant,
    )


def membership_advantage(epsilon_: float, delta: float) -> float:
    """Returns the most that an attacker's hits less its false alarms can be, as rates, 0..1.

    Hits: patients who took part and are named; a coin has as many hits as false alarms.
    Source: Humphries et al. 2020, Theorem 3.1, with delta (arXiv:2010.12112).
    """
    if epsilon_ > 700:  # exp would overflow; the bound is 1 to double precision
        return 1.0
    return min(1.0, (math.expm1(epsilon_) + 2 * delta) / (math.exp(epsilon_) + 1))


def check_scale(*, sampling_probability: float, patients: int, delta: float) -> None:
    """Refuses numbers that no noise can make up for, before any noise is calibrated.

    Raises:
        ConfigError: More patients would be drawn than there are.
        PrivacyError: `delta` is as large as one patient's share.
    """
    if not 0 < sampling_probability <= 1:
        raise ConfigError(
            f"sampling probability is {sampling_probability:g}; expected above 0 and at most 1: "
            f"lower dp.expected_batch to at most {patients} patients"
        )
    if not 0 < delta < 1 / patients:
        raise PrivacyError(
            f"dp: delta is {delta:g}; expected below 1/{patients} patients: a larger one allows a "
            "patient's data to be published outright"
        )


def _check_alone(plan: Plan) -> None:
    """Refuses what several sites do not do together: they clip flat and draw whole samples."""
    if plan.shares.members > 1 and (plan.clipping != FLAT or plan.most_drawn is not None):
        raise ConfigError(
            f"dp: {plan.clipping} and most_drawn {plan.most_drawn} with {plan.shares.members} "
            "sites; expected Flat() and None: only a party alone may choose others"
        )
    if plan.dimension == 1 and isinstance(plan.clipping, Quantile):
        raise ConfigError("dp: dimension is 1; expected the gradient's and 1 more for Quantile")


def _check_ranges(plan: Plan) -> None:
    for name in ("patients", "noise_multiplier", "l2_clip_norm", "steps", "dimension"):
        value = getattr(plan, name)
        if not (math.isfinite(value) and value > 0):
            raise PrivacyError(f"dp: {name} is {value}; expected a finite number above 0")
    check_scale(
        sampling_probability=plan.sampling_probability, patients=plan.patients, delta=plan.delta
    )
    if plan.l2_clip_norm > LARGEST_CLIP_NORM:
        raise PrivacyError(
            f"dp: l2_clip_norm is {plan.l2_clip_norm:g}; expected <= {LARGEST_CLIP_NORM:g}: "
            "nothing would be clipped"
        )
    if not 12 <= plan.bits <= 32:
        raise ConfigError(f"dp: bits is {plan.bits}; expected 12 to 32")
