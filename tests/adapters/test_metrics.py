# SPDX-License-Identifier: Apache-2.0
"""Numbers for Prometheus: read by its own parser, from a closed list of series, whatever comes."""

import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consilium.adapters import metrics
from consilium.adapters.health import ERRORS, KINDS, Health, HealthFile, Standing
from consilium.adapters.metrics import Party, PartyCollector, check_free, serve_metrics
from consilium.errors import ConfigError

CLOSED = {
    "is": {*metrics.STANDINGS, *metrics.PHASES, *ERRORS},
    "phase": set(metrics.PHASES),
    "way": set(metrics.WAYS),
    "kind": set(KINDS),
}


def samples(party: Party) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry()
    registry.register(PartyCollector(party))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (
            one.name.removeprefix("consilium_"),
            *(value for _, value in sorted(one.labels.items())),
        ): one.value
        for family in families
        for one in family.samples
    }


def written(folder: Path, now: Health) -> Party:
    path = folder / "health.json"
    path.write_bytes(msgspec.json.encode(now))
    return Party(health=path)


def test_a_party_at_rest_is_idle(tmp_path: Path) -> None:
    seen = samples(Party(health=tmp_path / "none"))

    assert seen["run_standing", "idle"] == 1
    assert ("epsilon_spent",) not in seen
    assert ("sites_alive",) not in seen


def test_a_run_that_goes_on_is_seen(tmp_path: Path) -> None:
    now = Health(
        process=os.getpid(),
        standing="running",
        phase="computing",
        round=7,
        rounds=40,
        attempts=9,
        epsilon=1.25,
        seconds={"computing": 3.5},
        bytes={"in/Upload": 100},
        error="RemoteProtocolError",
    )

    seen = samples(written(tmp_path, now))

    assert seen["run_standing", "running"] == seen["run_phase", "computing"] == 1
    assert (seen["round",], seen["rounds",], seen["abandoned_rounds_total",]) == (7, 40, 2)
    assert (seen["epsilon_spent",], seen["phase_seconds_total", "computing"]) == (1.25, 3.5)
    assert seen["bytes_total", "Upload", "in"] == 100
    assert seen["last_error", "RemoteProtocolError"] == 1


def test_a_run_whose_process_is_gone_has_died(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    seen = samples(written(tmp_path, Health(process=child.pid, standing="running")))

    assert (seen["run_standing", "died"], seen["run_standing", "running"]) == (1, 0)


def test_a_coordinator_counts_its_sites(tmp_path: Path) -> None:
    party = Party(health=tmp_path / "none", sites_alive=lambda: 2, sites=3)

    assert samples(party)["sites_alive",] == 2
    assert samples(party)["sites_expected",] == 3


def test_every_standing_has_a_series(tmp_path: Path) -> None:
    standings = {
        key[1] for key in samples(Party(health=tmp_path / "x")) if key[0] == "run_standing"
    }

    assert standings == {*get_args(Standing), "died"}


@given(
    kinds=st.lists(st.text(), max_size=5),
    error=st.text(),
    sizes=st.dictionaries(st.text(), st.integers(min_value=0, max_value=2**40), max_size=5),
)
def test_labels_are_from_a_closed_list_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], error: str, sizes: dict[str, int]
) -> None:
    folder = tmp_path_factory.mktemp("metrics")
    file = HealthFile(folder / "health.json")
    for kind in kinds:
        file.passed("in", kind, 1)
    file.enters("computing")
    forged = written(folder, Health(error=error, bytes=sizes))

    for party in (Party(health=folder / "health.json"), forged):
        found = list(PartyCollector(party).collect())
        labels = [one.labels.items() for family in found for one in family.samples]

        assert all(value in CLOSED[name] for one in labels for name, value in one)
        assert len(labels) <= metrics.MOST_SERIES


def test_numbers_are_served_on_this_machine_alone(tmp_path: Path) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    serve_metrics(Party(health=tmp_path / "none"), "127.0.0.1", port)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
        assert b'consilium_run_standing{is="idle"} 1.0' in reply.read()
    with pytest.raises(ConfigError, match="expected a free port of this machine"):
        check_free("127.0.0.1", port)


def test_no_port_is_always_free() -> None:
    check_free("192.0.2.1", 0)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="choose another --metrics-port"):
        check_free("192.0.2.1", 9464)
