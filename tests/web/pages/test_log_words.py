# SPDX-License-Identifier: Apache-2.0
"""What the log says in words."""

from datetime import UTC, datetime

import pytest

from consilium.governance.access import Action
from consilium.governance.audit_log import Entry, Outcome
from consilium.web.pages.log_words import DONE, sentence

LOOKS = {one for one in Action if one.startswith("see-")}
SILENT = {Action.EXPORT_PROJECT, Action.INFER, Action.CHECK_RELEASE, Action.WITHHOLD_RELEASE}


def entry(action: str, facts: str, outcome: Outcome = Outcome.DONE) -> Entry:
    return Entry(
        sequence=1,
        time=datetime(2026, 11, 21, tzinfo=UTC),
        actor="p1",
        actor_name="Dr Weber",
        action=action,
        resource="project:01J",
        outcome=outcome,
        facts=facts,
        link=bytes(32),
    )


@pytest.mark.parametrize("action", sorted(set(Action) - LOOKS - SILENT))
def test_every_act_has_words(action: str) -> None:
    assert action in DONE


def test_a_decision_reads_as_a_sentence() -> None:
    said = sentence(entry("approve-project", '{"project":"chest-x-ray"}'))

    assert said == "Dr Weber approved the project chest-x-ray."


def test_a_refusal_says_what_was_tried() -> None:
    said = sentence(entry("approve-project", '{"reason":"author"}', Outcome.DENIED))

    assert said == "Dr Weber tried to approve project, project 01J: refused."
