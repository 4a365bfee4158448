# SPDX-License-Identifier: Apache-2.0
"""What a person or group may do with one dataset: for what, how, up to which price, until when.

A grant is needed beside an approved project and beside the ledger's caps; it never replaces
them. Guarantees: `covers` is deny by default; an expired or revoked grant covers nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import final

from consilium.errors import ConfigError
from consilium.governance.access import Decision


class ReleaseKind(StrEnum):
    """What leaves an office under a grant."""

    TRAINING = "training"  # noised sums of gradients
    QUERY = "query"  # noised aggregates
    METRIC = "metric"  # a noised look at an accuracy


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """A permission on one dataset.

    Attributes:
        id: ULID.
        dataset: Id.
        holder: Id of a person or a group.
        purposes: What for, in the words that projects use; empty: any approved purpose.
        kinds: What may leave.
        epsilon_cap: Most that all releases under this grant may cost together.
        expires: UTC.
        given_by: Id of a person.
        revoked: When, or None.
    """

    id: str
    dataset: str
    holder: str
    purposes: frozenset[str]
    kinds: frozenset[ReleaseKind]
    epsilon_cap: float
    expires: datetime
    given_by: str
    revoked: datetime | None = None

    def __post_init__(self) -> None:
        if not 0 < self.epsilon_cap <= 100:
            raise ConfigError(f"{self.epsilon_cap=}; expected above 0 and at most 100")
        if not self.kinds:
            raise ConfigError("a grant for no kind of release; expected one or more")
        if self.expires.tzinfo is None:
            raise ConfigError(f"{self.expires=}; expected a time with its zone")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants to let out of a dataset.

    Attributes:
        dataset: Id.
        holders: The person's id and the ids of their groups.
        purpose: Of the project.
        kind: Of the release.
        epsilon: That the holders' releases under the grant would cost together with this one.
    """

    dataset: str
    holders: frozenset[str]
    purpose: str
    kind: ReleaseKind
    epsilon: float


def covers(grant: Grant, wanted: Wanted, now: datetime) -> Decision:
    """Returns whether `grant` allows what is wanted at `now`, with the first reason why not."""
    for refused, why in (
        (grant.dataset != wanted.dataset, "the grant is for another dataset"),
        (grant.holder not in wanted.holders, "the grant is for somebody else"),
        (grant.revoked is not None, "the grant was revoked"),
        (now >= grant.expires, f"the grant expired on {grant.expires:%Y-%m-%d}"),
        (wanted.kind not in grant.kinds, f"the grant does not cover {wanted.kind}"),
        (
            bool(grant.purposes) and wanted.purpose not in grant.purposes,
            f"the grant is for {', '.join(sorted(grant.purposes))}",
        ),
        (
            not wanted.epsilon <= grant.epsilon_cap,
            f"epsilon would be {wanted.epsilon:g}; the grant allows {grant.epsilon_cap:g}",
        ),
    ):
        if refused:
            return Decision(False, why)
    return Decision(True, f"covered by grant {grant.id}")


def any_covers(grants: Iterable[Grant], wanted: Wanted, now: datetime) -> Decision:
    """Returns the first yes among `grants`, or the last no."""
    decision = Decision(False, "there is no grant on this dataset for this person")
    for grant in grants:
        decision = covers(grant, wanted, now)
        if decision.allowed:
            return decision
    return decision
