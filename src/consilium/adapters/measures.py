# SPDX-License-Identifier: Apache-2.0
"""What a run measured beside the model: each site's share, and traffic beside its prediction."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from consilium.adapters.dataset import Ready
from consilium.data.partition import describe
from consilium.federation.contribution import GradientWork
from consilium.federation.results import SiteShare, TrafficReport
from consilium.federation.setup import Setup
from consilium.federation.traffic import SiteTraffic, plain_round, secure_round, session_start

Traffic: TypeAlias = Mapping[tuple[int, int], SiteTraffic]  # by attempt and site

_NOTHING: Final = SiteTraffic(0, 0)


def share_of_sites(ready: Ready, charges: Sequence[int], traffic: Traffic) -> tuple[SiteShare, ...]:
    """Returns what each site held, paid and sent."""
    held = describe(ready.parts, ready.task.classes)
    totals = [_sum(traffic, site) for site in range(len(held))]
    return tuple(
        SiteShare(
            name=name,
            patients=part.patients,
            records=part.records,
            class_counts=part.labels,
            charges=charged,
            bytes_up=total.up,
            bytes_down=total.down,
        )
        for name, part, charged, total in zip(ready.names, held, charges, totals, strict=True)
    )


def measure_traffic(setup: Setup, traffic: Traffic, first_attempt: int) -> TrafficReport:
    """Returns the bytes of a typical round and of the run, with what the protocol predicts.

    A typical round is the median of those in which no site dropped, zeros where there is none.
    """
    attempts = sorted({attempt for attempt, _ in traffic if attempt >= first_attempt})
    whole = [attempt for attempt in attempts if _is_whole(setup, traffic, attempt)]
    found = expected = _NOTHING
    if whole:
        typical = whole[len(whole) // 2]
        found, expected = traffic[typical, 0], predict_round(setup, 0, typical)
    predicted = sum((predict_run(setup, site, attempts) for site in range(setup.sites)), _NOTHING)
    total = sum(traffic.values(), _NOTHING)
    return TrafficReport(
        round_up=found.up,
        round_down=found.down,
        predicted_up=expected.up,
        predicted_down=expected.down,
        total=total.up + total.down,
        predicted_total=predicted.up + predicted.down if whole and whole == attempts else None,
        error_bound=_error_bound(setup),
        ring_bits=_ring_bits(setup),
    )


def predict_round(setup: Setup, site: int, number: int) -> SiteTraffic:
    """Returns the bytes of one round in which no site drops."""
    if setup.job is not None:
        return secure_round(setup.job, site, number, setup.dimension)
    size = setup.work.width() * setup.work.word()(0).nbytes
    return plain_round(site, setup.sites, number, dimension=setup.dimension, vector_bytes=size)


def predict_run(setup: Setup, site: int, attempts: Sequence[int]) -> SiteTraffic:
    """Returns the bytes of a session over `attempts` in which no site drops."""
    first = attempts[0] if attempts else 1
    whole = session_start(setup.job, site, setup.sites, first)
    for number in attempts:
        whole += predict_round(setup, site, number)
    return whole


def _is_whole(setup: Setup, traffic: Traffic, attempt: int) -> bool:
    """Whether every site said in this attempt all that there was to say."""
    return all(
        traffic.get((attempt, site), _NOTHING).up >= predict_round(setup, site, attempt).up
        for site in range(setup.sites)
    )


def _sum(traffic: Traffic, site: int) -> SiteTraffic:
    return sum((t for (_, k), t in traffic.items() if k == site), _NOTHING)


def _ring_bits(setup: Setup) -> int:
    return setup.plan.bits if setup.plan else 32


def _error_bound(setup: Setup) -> float:
    """Half a lattice unit for each site, in units of the sum."""
    if isinstance(setup.work, GradientWork):
        scale = setup.work.plan.lattice(setup.work.plan.shares).scale
        return setup.sites * 0.5 / scale
    return setup.work.ring.error
