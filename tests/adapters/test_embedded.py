# SPDX-License-Identifier: Apache-2.0
"""The engine in one process: sites that drop, sites that misbehave, and what the log says."""

import base64
import logging
from dataclasses import dataclass, field

import numpy as np
import pytest
from tests.adapters.conftest import Mortal, Parties, gather, make_project

from consilium import wire
from consilium.adapters.dataset import Dataset
from consilium.adapters.embedded import Site, run_embedded
from consilium.adapters.measures import measure_traffic
from consilium.adapters.site_runner import SiteRunner
from consilium.errors import ConfigError, RoundAborted
from consilium.federation.arms import ARMS
from consilium.federation.messages import FROM_SITE, PlainUpdate
from consilium.secagg.messages import Upload


def played(parties: Parties) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Runs everything and returns the last weights."""
    run_embedded(parties.coordinator, parties.sites, threads=2)
    return parties.saved[-1].weights


# -- The same every time --------------------------------------------------------------


@pytest.mark.parametrize("arm", ARMS)
def test_threads_do_not_change_the_model(digits: Dataset, arm: str) -> None:
    one, many = (gather(make_project({"training.rounds": "2"}), arm, digits) for _ in range(2))

    run_embedded(one.coordinator, one.sites, threads=1)
    run_embedded(many.coordinator, many.sites, threads=8)

    assert one.saved[-1].weights.tobytes() == many.saved[-1].weights.tobytes()
    assert one.coordinator.traffic() == many.coordinator.traffic()


def test_a_post_quantum_run_ends_with_the_model_of_the_others(digits: Dataset) -> None:
    changes = {"training.rounds": "2"}
    plain = gather(make_project(changes), "federated", digits)
    both = gather(make_project({**changes, "sites.post_quantum": "true"}), "federated", digits)

    for parties in (plain, both):
        run_embedded(parties.coordinator, parties.sites, threads=1)

    assert plain.saved[-1].weights.tobytes() == both.saved[-1].weights.tobytes()
    first, other = (sum(t.up for t in p.coordinator.traffic().values()) for p in (plain, both))
    assert other > first


@pytest.mark.parametrize("messages", range(6))
def test_one_lost_site_of_a_post_quantum_run_is_tolerated(digits: Dataset, messages: int) -> None:
    project = make_project({"training.rounds": "2", "sites.post_quantum": "true"})
    parties = gather(project, "federated", digits)
    sites: list[Site] = [Mortal(parties.sites[0], messages), *parties.sites[1:]]

    finished = run_embedded(parties.coordinator, sites, threads=1)

    assert finished.progress.round == 2


# -- Sites that drop ------------------------------------------------------------------


@pytest.mark.parametrize("messages", range(12))
def test_one_lost_site_is_tolerated_at_any_moment(digits: Dataset, messages: int) -> None:
    parties = gather(make_project(), "federated", digits)
    sites: list[Site] = [Mortal(parties.sites[0], messages), *parties.sites[1:]]

    finished = run_embedded(parties.coordinator, sites, threads=1)

    assert finished.reason == "all rounds are done"
    assert finished.progress.round == 4
    assert [ledger.count() for ledger in parties.ledgers[1:]] == [finished.progress.attempts] * 3
    assert parties.ledgers[0].count() <= finished.progress.attempts


@pytest.mark.parametrize("messages", [2, 3, 5, 7])
def test_too_many_lost_sites_end_the_run(digits: Dataset, messages: int) -> None:
    parties = gather(make_project(), "federated", digits)
    lost = [Mortal(site, messages) for site in parties.sites[:2]]
    sites: list[Site] = [*lost, *parties.sites[2:]]

    with pytest.raises(RoundAborted, match=r"too few sites still answer; expected .* then resume"):
        run_embedded(parties.coordinator, sites, threads=1)


def test_a_run_with_lost_sites_stops_at_the_budget(digits: Dataset) -> None:
    parties = gather(make_project(), "federated-dp", digits)
    sites: list[Site] = [Mortal(parties.sites[0], 3), *parties.sites[1:]]

    finished = run_embedded(parties.coordinator, sites, threads=1)

    assert finished.progress.attempts == parties.setup.steps_allowed == 4
    assert max(ledger.count() for ledger in parties.ledgers) == 4


def test_a_site_that_refuses_to_pay_is_lost_to_the_others_only(digits: Dataset) -> None:
    parties = gather(make_project(), "federated-dp", digits)
    parties.ledgers[2].allowed = 1

    finished = run_embedded(parties.coordinator, parties.sites, threads=1)

    assert finished.progress.round == 4
    assert [ledger.count() for ledger in parties.ledgers] == [4, 4, 1, 4]


def test_a_lost_site_is_logged_by_number(digits: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    parties = gather(make_project({"training.rounds": "1"}), "federated", digits)
    sites: list[Site] = [*parties.sites[:3], Mortal(parties.sites[3], 2)]

    run_embedded(parties.coordinator, sites, threads=1)

    assert {(r.getMessage(), r.__dict__["site"]) for r in caplog.records} == {("site lost", 3)}


def test_a_site_that_cannot_start_ends_the_run(digits: Dataset) -> None:
    parties = gather(make_project(), "federated", digits)
    sites: list[Site] = [*parties.sites[:3], Stillborn()]

    with pytest.raises(ConfigError, match="no such disk"):
        run_embedded(parties.coordinator, sites, threads=1)


class Stillborn:
    """A site that refuses from the first."""

    def start(self) -> list[bytes]:
        raise ConfigError("no such disk")

    def handle(self, data: bytes) -> list[bytes]:
        raise AssertionError(data)


# -- Sites that misbehave -------------------------------------------------------------


@dataclass
class Babbler:
    """A site that says everything twice, as others, and full of its own secrets."""

    site: SiteRunner
    secrets: bytes
    said: list[bytes] = field(default_factory=list[bytes])

    def start(self) -> list[bytes]:
        return self._spoil(self.site.start())

    def handle(self, data: bytes) -> list[bytes]:
        return self._spoil(self.site.handle(data))

    def _spoil(self, answers: list[bytes]) -> list[bytes]:
        self.said += answers
        junk = [self.secrets, b"\x01" + self.secrets, wire.encode(PlainUpdate(0, 1, self.secrets))]
        forged = [wire.encode(PlainUpdate(1, 1, self.secrets))]
        uploads = [wire.encode(Upload(0, 1, memoryview(self.secrets), None))]
        return [*junk, *forged, *uploads, *answers, *answers, bytes(10**6)]


def test_a_site_that_babbles_changes_nothing(digits: Dataset) -> None:
    honest, spoiled = (gather(make_project(), "federated-dp", digits) for _ in range(2))
    sites: list[Site] = [Babbler(spoiled.sites[0], b"secret"), *spoiled.sites[1:]]

    run_embedded(spoiled.coordinator, sites, threads=2)

    assert spoiled.saved[-1].weights.tobytes() == played(honest).tobytes()


def test_no_secret_is_in_any_log_record(digits: Dataset, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parties = gather(make_project(), "federated-dp", digits)
    identity = parties.parts[0].terms.identity
    pixels = parties.parts[0].trainee.inputs.numpy().tobytes()[:64]
    babbler = Babbler(parties.sites[0], identity + pixels + b"patient-0042")

    run_embedded(parties.coordinator, [babbler, *parties.sites[1:]], threads=2)

    text = " ".join(str(record.__dict__) for record in caplog.records)
    vectors = [upload_vector(said)[:16] for said in babbler.said]
    secrets = [identity[:8], pixels[:8], b"patient-0042", *filter(None, vectors)]
    assert len(caplog.records) > 20
    assert len(secrets) > 6
    assert not [secret for secret in secrets if any(form in text for form in forms(secret))]


def upload_vector(message: bytes) -> bytes:
    """Returns the vector in a message, if it holds one."""
    decoded = wire.decode(message, FROM_SITE, limit=10**6)
    return bytes(decoded.vector) if isinstance(decoded, Upload) else b""


def forms(secret: bytes) -> list[str]:
    """Returns the ways in which bytes end up in text."""
    return [
        secret.hex(),
        repr(secret)[2:-1],
        str(list(secret))[1:-1],
        base64.b64encode(secret)[:-2].decode(),
    ]


# -- Traffic --------------------------------------------------------------------------


def test_a_dropped_site_leaves_no_prediction_of_the_whole(digits: Dataset) -> None:
    parties = gather(make_project(), "federated", digits)
    sites: list[Site] = [*parties.sites[:3], Mortal(parties.sites[3], 5)]

    run_embedded(parties.coordinator, sites, threads=1)
    report = measure_traffic(parties.setup, parties.coordinator.traffic(), 1)

    assert report.predicted_total is None
    assert (report.round_up, report.round_down) == (report.predicted_up, report.predicted_down)
    assert report.round_up > 0
