# SPDX-License-Identifier: Apache-2.0
"""A party's numbers for Prometheus, over HTTP: of the run that moved last, also between runs.

Guarantees: every label's name and value is a constant of this release (a phase, a way, a kind
of message, a kind of error, a standing): no site, run, patient or text, and never more series
than `MOST_SERIES`. Listens on this machine alone unless the operator names another address.
Whoever reaches the address reads the numbers; there is no password.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final, get_args

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from consilium.adapters.health import ERRORS, KINDS, Health, Standing, read_health
from consilium.adapters.metering import Phase, Way
from consilium.errors import ConfigError

PORT: Final = 9464
DIED: Final = "died"
STANDINGS: Final = (*get_args(Standing), DIED)
PHASES: Final = get_args(Phase)
WAYS: Final = get_args(Way)
MOST_SERIES: Final = 20 + 2 * len(PHASES) + len(WAYS) * len(KINDS) + len(ERRORS) + len(STANDINGS)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """What a party can say of itself beside its run.

    Attributes:
        health: The file of its run.
        sites_alive: How many sites are connected; None at a site.
        sites: How many there are.
        clock_skew: Seconds that this clock is ahead of the coordinator's, None where unknown.
    """

    health: Path
    sites_alive: Callable[[], int] | None = None
    sites: int = 0
    clock_skew: Callable[[], float | None] = lambda: None


@final
class PartyCollector(Collector):
    """Reads the file whenever it is asked."""

    def __init__(self, party: Party) -> None:
        self._party = party

    def collect(self) -> Iterator[Metric]:
        """Returns every number."""
        health = read_health(self._party.health)
        yield from _of_run(health)
        yield from _of_budget(health)
        yield from _of_effort(health)
        yield from _of_party(self._party)


def serve_metrics(party: Party, host: str, port: int) -> None:
    """Serves `party` at http://host:port/metrics on a thread, for as long as this process lives."""
    registry = CollectorRegistry()
    registry.register(PartyCollector(party))
    start_http_server(port, host, registry)


def check_free(host: str, port: int) -> None:
    """Refuses an address where nothing can listen.

    Raises:
        ConfigError: It is taken, or not of this machine.
    """
    if port == 0:
        return
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind((host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"nothing can listen at {host} port {port} for metrics ({error}); expected a free "
            "port of this machine: choose another --metrics-port, or 0 for none"
        ) from None


# -- Families -------------------------------------------------------------------------


def _of_run(health: Health) -> Iterator[Metric]:
    yield _one_of("run_standing", "Whether a run goes on.", STANDINGS, _standing(health))
    yield _one_of("run_phase", "What is being done.", PHASES, health.phase)
    if health.round is not None:
        yield _gauge("round", "Whole rounds of the run.", health.round)
    yield _gauge("rounds", "Most rounds of the run.", health.rounds)
    yield _gauge("updated_timestamp_seconds", "When the run moved last.", health.updated)
    known = health.error if health.error in ERRORS else None
    yield _one_of("last_error", "Kind of the run's last error.", sorted(ERRORS), known)


def _of_budget(health: Health) -> Iterator[Metric]:
    yield _counter("attempts", "Rounds that were begun; at a site, paid for.", health.attempts)
    if health.round is not None:
        given_up = max(0, health.attempts - health.round)
        yield _counter("abandoned_rounds", "Rounds that were begun and given up.", given_up)
    yield _counter("charges", "Charges of the run in this site's ledger.", health.charges)
    if health.epsilon is not None:
        yield _gauge("epsilon_spent", "Of the run, worst view, never too low.", health.epsilon)


def _of_effort(health: Health) -> Iterator[Metric]:
    seconds = CounterMetricFamily("consilium_phase_seconds", "In whole phases.", labels=["phase"])
    for phase in PHASES:
        seconds.add_metric([phase], health.seconds.get(phase, 0.0))
    yield seconds
    sizes = CounterMetricFamily("consilium_bytes", "Of messages.", labels=["way", "kind"])
    for way in WAYS:
        for kind in sorted(KINDS):
            sizes.add_metric([way, kind], health.bytes.get(f"{way}/{kind}", 0))
    yield sizes


def _of_party(party: Party) -> Iterator[Metric]:
    if party.sites_alive is not None:
        yield _gauge("sites_alive", "Sites that are connected.", party.sites_alive())
        yield _gauge("sites_expected", "Sites of the federation.", party.sites)
    skew = party.clock_skew()
    if skew is not None:
        yield _gauge("clock_skew_seconds", "This clock ahead of the coordinator's.", skew)


def _standing(health: Health) -> str:
    return DIED if health.standing == "running" and not _lives(health.process) else health.standing


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"consilium_{name}", says, value)


def _counter(name: str, says: str, value: float) -> Metric:
    return CounterMetricFamily(f"consilium_{name}", says, value)


def _one_of(name: str, says: str, words: Sequence[str], word: str | None) -> Metric:
    family = GaugeMetricFamily(f"consilium_{name}", says, labels=["is"])
    for one in words:
        family.add_metric([one], float(one == word))
    return family
