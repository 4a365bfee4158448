# SPDX-License-Identifier: Apache-2.0
"""The privacy statement of a trained model: exact, complete, for people and for machines."""

import math
from fractions import Fraction
from typing import Final

import msgspec

from consilium.dp.plan import Plan, View, membership_advantage
from consilium.federation.setup import Setup

NEIGHBOURS: Final = "ADD_OR_REMOVE_ONE"
_UP: Final = 10_000  # epsilon is rounded up, never down, in the fourth decimal


class Guarantee(msgspec.Struct, frozen=True, kw_only=True):
    """What one view can learn of one unit.

    Attributes:
        view: Who looks.
        who: The same in words.
        epsilon: At the statement's delta, rounded up.
        membership_advantage: Most that such an attacker's hits less its false alarms can be,
            as rates, 0 to 1.
    """

    view: str
    who: str
    epsilon: float
    membership_advantage: float


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the word "private" means for one model."""

    private: bool
    unit: str
    neighbouring_relation: str
    delta: float | None
    guarantees: tuple[Guarantee, ...]
    mechanism: str
    sampling: str
    sampling_probability: float | None
    noise_multiplier: float | None
    l2_clip_norm: float | None
    steps_charged: int
    steps_allowed: int | None
    accountant: str
    rounding_slack: float
    trusted: str
    public: tuple[str, ...]
    not_covered: tuple[str, ...]
    fails_if: tuple[str, ...]


_NOT_COVERED: Final = (
    "{unit}s of the validation and the test set: their metrics are printed without noise",
    "choices made by people who compared several runs: each run has its own price",
    "numbers of {unit}s and classes at each site, where a report prints them",
)


def make_statement(setup: Setup, *, unit: str, steps_charged: int) -> Statement:
    """Returns the statement of a model trained under `setup`.

    Args:
        setup: What the parties agreed on.
        unit: The privacy unit, "patient" or "record".
        steps_charged: The most charges that any site's ledger holds.
    """
    if setup.plan is None:
        return _no_guarantee(setup, unit, steps_charged)
    plan = setup.plan
    return Statement(
        private=True,
        unit=unit,
        neighbouring_relation=NEIGHBOURS,
        delta=plan.delta,
        guarantees=tuple(_guarantee(setup, unit, steps_charged, view) for view in _views(setup)),
        mechanism=(
            "sum of clipped gradients plus rounded Gaussian noise of standard deviation "
            f">= {plan.noise_multiplier:.6g} x {plan.l2_clip_norm:g}, divided by the constant "
            f"{plan.normaliser:g}"
        ),
        sampling=f"Poisson, each {unit} independently, coins of the operating system",
        sampling_probability=plan.sampling_probability,
        noise_multiplier=plan.noise_multiplier,
        l2_clip_norm=plan.l2_clip_norm,
        steps_charged=steps_charged,
        steps_allowed=setup.steps_allowed,
        accountant={"pld": "PLD, dp-accounting", "rdp": "RDP, dp-accounting"}[plan.accountant],
        rounding_slack=plan.slack(max(1, steps_charged)),
        trusted=_trusted(setup),
        public=(
            f"number of training {unit}s, {plan.patients:,}",
            "the project file",
            *_weights(setup, "the weights that training began with, SHA-256 {digest}"),
        ),
        not_covered=(
            *(words.format(unit=unit) for words in _NOT_COVERED),
            *_weights(setup, f"{unit}s whose data the weights {{digest}} were learnt from"),
        ),
        fails_if=_fails_if(setup, unit),
    )


def round_up(epsilon: float) -> float:
    """Returns `epsilon` rounded up in the fourth decimal: a guarantee is never understated."""
    return math.ceil(Fraction(epsilon) * _UP) / _UP if math.isfinite(epsilon) else epsilon


def _weights(setup: Setup, words: str) -> tuple[str, ...]:
    digest = setup.weights_sha256
    return () if digest is None else (words.format(digest=f"{digest.lower()[:12]}..."),)


def _views(setup: Setup) -> tuple[View, ...]:
    return (View.OUTSIDER, View.PARTICIPANT) if setup.sites > 1 else (View.OUTSIDER,)


def _guarantee(setup: Setup, unit: str, steps: int, view: View) -> Guarantee:
    plan = setup.plan
    assert plan is not None  # noqa: S101 - only private setups come here
    who = {
        View.OUTSIDER: "anyone who sees the model and all traffic of the coordinator",
        View.PARTICIPANT: f"the coordinator together with {_curious(setup, plan)}, about a "
        f"{unit} of another site",
    }[view]
    epsilon = plan.epsilon(steps, view)
    return Guarantee(
        view=str(view),
        who=who,
        epsilon=round_up(epsilon),
        membership_advantage=membership_advantage(epsilon, plan.delta),
    )


def _curious(setup: Setup, plan: Plan) -> str:
    if setup.noise_alone:
        return "every other site"
    count = plan.shares.colluders
    return {0: "no site", 1: "one curious site"}.get(count, f"{count} curious sites")


def _trusted(setup: Setup) -> str:
    if setup.sites == 1:
        return "the party that holds all data, with everything"
    if setup.noise_alone:
        return "each site, with its own data; no other party"
    assert setup.plan is not None  # noqa: S101 - only private setups come here
    honest = setup.plan.shares.honest
    return f"each site, with its own data; at least {honest} sites, to add their share of noise"


def _fails_if(setup: Setup, unit: str) -> tuple[str, ...]:
    if setup.sites == 1:
        return ("the curator leaks data or noise",)
    if setup.noise_alone:
        return (f"a {unit}'s own site leaks data or noise",)
    assert setup.plan is not None  # noqa: S101 - only private setups come here
    shares = setup.plan.shares
    return (
        f"more than {shares.colluders} of {shares.members} sites pool what they know with the "
        "coordinator",
        f"fewer than {shares.honest} honest sites add their share of noise to an opened sum",
    )


def _no_guarantee(setup: Setup, unit: str, steps_charged: int) -> Statement:
    return Statement(
        private=False,
        unit=unit,
        neighbouring_relation=NEIGHBOURS,
        delta=None,
        guarantees=(),
        mechanism=setup.mechanism(),
        sampling="none",
        sampling_probability=None,
        noise_multiplier=None,
        l2_clip_norm=None,
        steps_charged=steps_charged,
        steps_allowed=None,
        accountant="none: epsilon is infinite",
        rounding_slack=0.0,
        trusted="everyone who sees the model",
        public=(),
        not_covered=("everyone",),
        fails_if=("always: this arm makes no promise",),
    )
