# SPDX-License-Identifier: Apache-2.0
"""What an office demands of every contract, before anybody reads it.

Guarantees: deny by default: an arm that is not listed is refused, and so is a contract without a
guarantee wherever `needs_guarantee` stands, whoever approved it.
"""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal, final

import msgspec

from consilium.errors import AccessDenied
from consilium.governance.contract import Contract

PRIVATE_ARMS: Final = ("federated-dp", "federated-local-dp")
_Epsilon = Annotated[float, msgspec.Meta(gt=0, le=100)]


@final
class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rules of one office; `PRESETS` holds three.

    Attributes:
        preset: Which of them this began as.
        arms: That may run here.
        without_guarantee: What of contracts without differential privacy.
        largest_epsilon: Of one run, against colluding sites too.
        largest_delta: Of one run.
        fewest_sites: In a contract.
        secure_sum: Whether the coordinator may see a single site's update.
        reviewers: Different people who must say yes here.
        longest_days: From approval to expiry.
        most_runs: Of one contract.
        dataset_cap: Epsilon that a new dataset starts with.
        dataset_delta: At which caps are meant.
    """

    preset: Literal["strict", "standard", "demo"] = "standard"
    arms: tuple[str, ...] = PRIVATE_ARMS
    without_guarantee: Literal["refused", "allowed-and-every-patient-is-exposed"] = "refused"
    largest_epsilon: _Epsilon = 8.0
    largest_delta: Annotated[float, msgspec.Meta(gt=0, le=1e-2)] = 1e-3
    fewest_sites: Annotated[int, msgspec.Meta(ge=1)] = 3
    secure_sum: Literal["needed", "not-needed"] = "needed"
    reviewers: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    longest_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 365
    most_runs: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10
    dataset_cap: _Epsilon = 8.0
    dataset_delta: Annotated[float, msgspec.Meta(gt=0, le=1e-2)] = 1e-5

    @property
    def needs_guarantee(self) -> bool:
        """Whether every contract must promise differential privacy."""
        return self.without_guarantee == "refused"


PRESETS: Final = {
    "strict": Policy(
        preset="strict",
        arms=("federated-dp",),
        largest_epsilon=3.0,
        largest_delta=1e-4,
        reviewers=2,
        longest_days=180,
        most_runs=3,
        dataset_cap=4.0,
    ),
    "standard": Policy(),
    "demo": Policy(preset="demo", most_runs=100, largest_delta=1e-2),
}


def refusals(policy: Policy, contract: Contract, now: datetime) -> tuple[str, ...]:
    """Returns every reason why `policy` refuses `contract`; empty: it may be reviewed."""
    reasons = [*_guarantee_refusals(policy, contract), *_limit_refusals(policy, contract, now)]
    if contract.arm not in policy.arms:
        reasons.append(f"arm {contract.arm}; this office allows {', '.join(policy.arms)}")
    if policy.secure_sum == "needed" and not _sums_securely(contract):
        reasons.append("the secure sum is off: the coordinator would see this site's update")
    return tuple(reasons)


def check_policy(policy: Policy, contract: Contract, now: datetime) -> None:
    """Refuses what the policy refuses.

    Raises:
        AccessDenied: With every reason.
    """
    reasons = refusals(policy, contract, now)
    if reasons:
        raise AccessDenied(
            f"contract {contract.name!r} is against this office's policy: {'; '.join(reasons)}; "
            "expected a contract within it: change the project, or have the policy changed"
        )


def _guarantee_refusals(policy: Policy, contract: Contract) -> list[str]:
    promised = contract.guarantee
    if promised is None:
        words = "differential privacy is off; every patient's data could be read from the result"
        return [words] if policy.needs_guarantee else []
    reasons = []
    worst = max(promised.epsilon, promised.epsilon_participant)
    if not worst <= policy.largest_epsilon:
        reasons.append(f"epsilon {worst:g} a run; at most {policy.largest_epsilon:g} here")
    if not promised.delta <= policy.largest_delta:
        reasons.append(f"delta {promised.delta:g}; at most {policy.largest_delta:g} here")
    return reasons


def _limit_refusals(policy: Policy, contract: Contract, now: datetime) -> list[str]:
    reasons = []
    if len(contract.datasets) < policy.fewest_sites:
        reasons.append(f"{len(contract.datasets)} sites; at least {policy.fewest_sites} here")
    if contract.expires <= now:
        reasons.append(f"it expired on {contract.expires:%Y-%m-%d}")
    if contract.expires > now + timedelta(days=policy.longest_days):
        reasons.append(
            f"it lasts until {contract.expires:%Y-%m-%d}; at most {policy.longest_days} days here"
        )
    if contract.max_runs > policy.most_runs:
        reasons.append(f"{contract.max_runs} runs; at most {policy.most_runs} here")
    return reasons


def _sums_securely(contract: Contract) -> bool:
    sites = contract.project.get("sites")
    return isinstance(sites, dict) and sites.get("secure_sum", "on") == "on"
