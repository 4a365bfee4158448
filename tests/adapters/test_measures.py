# SPDX-License-Identifier: Apache-2.0
"""Measured traffic equals what the protocol predicts, to the byte."""

from collections.abc import Mapping

import pytest
from tests.adapters.conftest import gather, make_project

from consilium.adapters.dataset import Dataset
from consilium.adapters.embedded import run_embedded
from consilium.adapters.measures import measure_traffic
from consilium.federation.arms import ARMS
from consilium.federation.results import TrafficReport

OFF = "off-and-the-coordinator-sees-every-update"


def measured(dataset: Dataset, arm: str, changes: Mapping[str, str]) -> TrafficReport:
    """Returns the traffic of a run in which nobody drops."""
    parties = gather(make_project(changes), arm, dataset)
    run_embedded(parties.coordinator, parties.sites, threads=2)
    return measure_traffic(parties.setup, parties.coordinator.traffic(), 1)


CHANGES: list[dict[str, str]] = [
    {"training.rounds": "1"},
    {"training.rounds": "3"},
    {"training.rounds": "3", "dp.bits": "20"},
    {"training.rounds": "2", "sites.count": "18", "sites.missing_classes": "allow"},
    {"training.rounds": "2", "model.name": "small-cnn"},
]


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_traffic_is_as_predicted(digits: Dataset, arm: str, changes: Mapping[str, str]) -> None:
    report = measured(digits, arm, changes)

    assert (report.round_up, report.round_down) == (report.predicted_up, report.predicted_down)
    assert report.total == report.predicted_total
    assert report.round_up > 0


@pytest.mark.slow
def test_traffic_is_as_predicted_when_numbers_grow(digits: Dataset) -> None:
    changes = {"training.rounds": "300", "sites.count": "3", "training.evaluate_every": "300"}

    report = measured(digits, "federated", changes)

    assert report.total == report.predicted_total


@pytest.mark.parametrize("arm", ["federated", "federated-local-dp"])
def test_traffic_without_a_secure_sum_is_as_predicted(digits: Dataset, arm: str) -> None:
    report = measured(digits, arm, {"sites.secure_sum": OFF, "training.rounds": "2"})

    assert (report.round_up, report.round_down) == (report.predicted_up, report.predicted_down)
    assert report.total == report.predicted_total


def test_a_session_without_a_round_has_nothing_to_compare(digits: Dataset) -> None:
    parties = gather(make_project(), "federated", digits)

    report = measure_traffic(parties.setup, parties.coordinator.traffic(), 1)

    assert (report.round_up, report.predicted_up, report.predicted_total) == (0, 0, None)


@pytest.mark.parametrize(("arm", "bits"), [("federated", 32), ("federated-dp", 16)])
def test_the_error_of_a_sum_is_half_a_unit_a_site(digits: Dataset, arm: str, bits: int) -> None:
    report = measured(digits, arm, {"training.rounds": "1"})

    assert report.ring_bits == bits
    assert 0 < report.error_bound < 0.05
