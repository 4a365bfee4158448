# SPDX-License-Identifier: Apache-2.0
"""The five training arms: who holds the data, what a site computes, who adds noise."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, final


class Noise(StrEnum):
    """Who adds the noise that protects a patient."""

    NONE = "none"
    EACH_SITE = "each-site"  # the whole of it, at every site: trusts nobody
    SHARED = "shared"  # a share at every site, the whole in the sum


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train.

    Attributes:
        name: As in project files and tables.
        federated: Data stay at their sites; else one party holds them all.
        noise: Who adds noise. With noise a round is one step of DP-SGD at the coordinator;
            without, a round is local training at each site and an average.
        sentence: What it is, for people.
    """

    name: str
    federated: bool
    noise: Noise
    sentence: str

    @property
    def private(self) -> bool:
        """Whether the released model carries a differential-privacy guarantee."""
        return self.noise is not Noise.NONE


ARMS: Final = {
    arm.name: arm
    for arm in (
        Arm(
            name="central",
            federated=False,
            noise=Noise.NONE,
            sentence="All data in one place, no privacy.",
        ),
        Arm(
            name="central-dp",
            federated=False,
            noise=Noise.EACH_SITE,
            sentence="All data in one place, DP-SGD by a trusted curator.",
        ),
        Arm(
            name="federated",
            federated=True,
            noise=Noise.NONE,
            sentence="Local training and averaging (FedAvg) under the secure sum, no DP.",
        ),
        Arm(
            name="federated-local-dp",
            federated=True,
            noise=Noise.EACH_SITE,
            sentence="Every site adds the whole noise itself and trusts nobody.",
        ),
        Arm(
            name="federated-dp",
            federated=True,
            noise=Noise.SHARED,
            sentence="Every site adds a share of the noise; only the noised sum is seen.",
        ),
    )
}
MAIN_ARM: Final = "federated-dp"
