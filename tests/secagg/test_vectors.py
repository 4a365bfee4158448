# SPDX-License-Identifier: Apache-2.0
"""Replays the recorded runs of write_vectors.py: every byte and every refusal is the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium import errors, wire
from consilium.secagg import coordinator, site
from consilium.secagg.job import SumJob
from consilium.secagg.messages import FROM_COORDINATOR, FROM_SITE, FromCoordinator, FromSite, Plan

VECTORS = sorted((Path(__file__).parents[1] / "vectors").glob("secagg_*.json"))
TO_SITE = {"Roster", "CiphertextTable", "Plan", "Survivors"}
Json = dict[str, Any]
Event = Any  # of a site or of the coordinator


def message(recorded: Json) -> FromSite | FromCoordinator:
    data = bytes.fromhex(recorded["message"])
    if recorded["type"] in TO_SITE:
        return wire.decode(data, FROM_COORDINATOR, limit=len(data))
    return wire.decode(data, FROM_SITE, limit=len(data))


def event(recorded: Json, job: SumJob) -> Event:
    """Returns the event that a step records."""
    if "message" in recorded:
        return message(recorded)
    fields = {name: value for name, value in recorded.items() if name != "type"}
    for name in {"secret", "next_secret", "model"} & fields.keys():
        fields[name] = None if fields[name] is None else bytes.fromhex(fields[name])
    for name in {"plan", "survivors", "roster"} & fields.keys():
        fields[name] = message(fields[name])
    if "encapsulator" in fields:
        drawn = [tuple(map(bytes.fromhex, pair)) for pair in fields["encapsulator"]]
        draws = iter(drawn)
        fields["encapsulator"] = lambda _key: next(draws)
    if "vector" in fields:
        fields["vector"] = np.array(fields["vector"]).astype(job.word)
    kind = getattr(site, recorded["type"], None) or getattr(coordinator, recorded["type"])
    return kind(**fields)


def sent(outcome: FromSite | FromCoordinator | coordinator.Total) -> Json:
    """Returns an outcome as the file records it."""
    if isinstance(outcome, coordinator.Total):
        numbers = {"round": outcome.round, "sites": list(outcome.sites)}
        return {"type": "Total", **numbers, "vector": outcome.vector.tolist()}
    return {"type": type(outcome).__name__, "message": wire.encode(outcome).hex()}


def start(recorded: Json) -> tuple[SumJob, dict[str, Any]]:
    """Returns the job and the first state of every party."""
    fields = {name: value for name, value in recorded["job"].items() if name != "type"}
    fields["identities"] = tuple(bytes.fromhex(key) for key in fields["identities"])
    fields["terms"] = bytes.fromhex(fields["terms"])
    job = SumJob(**fields)
    states: dict[str, Any] = {"coordinator": coordinator.Gathering(job=job)}
    for number, key in enumerate(recorded["identities"]):
        identity = bytes.fromhex(key)
        states[f"site {number}"] = site.Invited(job=job, site=number, identity=identity)
    return job, states


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_recorded_run_replays(path: Path) -> None:
    recorded = json.loads(path.read_text())
    job, states = start(recorded)

    for step in recorded["steps"]:
        party = step["at"]
        take = coordinator.coordinator_step if party == "coordinator" else site.site_step
        if "refuses" in step:
            with pytest.raises(getattr(errors, step["refuses"])) as refusal:
                take(states[party], event(step["event"], job))
            assert str(refusal.value) == step["saying"]
        else:
            states[party], outcomes = take(states[party], event(step["event"], job))
            assert [sent(outcome) for outcome in outcomes] == step["sends"]


def totals(name: str) -> list[Json]:
    path = next(path for path in VECTORS if path.stem == f"secagg_{name}")
    steps = json.loads(path.read_text())["steps"]
    return [out for step in steps for out in step.get("sends", []) if out["type"] == "Total"]


def inputs(name: str) -> list[tuple[int, list[int]]]:
    """Returns round and vector of every contribution that was not refused."""
    path = next(path for path in VECTORS if path.stem == f"secagg_{name}")
    steps = json.loads(path.read_text())["steps"]
    return [
        (plan.round, step["event"]["vector"])
        for step in steps
        if step["event"]["type"] == "Contribute" and "sends" in step
        for plan in [message(step["event"]["plan"])]
        if isinstance(plan, Plan)
    ]


@pytest.mark.parametrize(
    ("name", "rounds", "modulus"),
    [
        ("three_sites", [1, 2], 2**16),
        ("dropped_site", [1], 2**32),
        ("bad_messages", [1], 2**16),
        ("bad_opening", [2], 2**16),
        ("post_quantum", [1], 2**16),
    ],
)
def test_recorded_totals_are_the_sums_of_the_recorded_inputs(
    name: str, rounds: list[int], modulus: int
) -> None:
    given = inputs(name)

    expected = [
        [sum(column) % modulus for column in zip(*rows, strict=True)]
        for number in rounds
        for rows in [[vector for at, vector in given if at == number]]
    ]

    assert [(total["round"], total["vector"]) for total in totals(name)] == list(
        zip(rounds, expected, strict=True)
    )


def test_recorded_refusals_name_every_rule() -> None:
    path = next(path for path in VECTORS if path.stem == "secagg_bad_messages")
    steps = json.loads(path.read_text())["steps"]

    refusals = {(step["at"].split()[0], step["refuses"]) for step in steps if "refuses" in step}

    assert refusals == {
        ("coordinator", "RemoteProtocolError"),
        ("site", "RemoteProtocolError"),
        ("site", "LocalProtocolError"),
        ("site", "OutOfTurn"),
    }
