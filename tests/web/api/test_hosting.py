# SPDX-License-Identifier: Apache-2.0
"""Hosted training: limits hold, and a machine's token opens one project of one office."""

from datetime import timedelta

import httpx
import pytest
from tests.adapters.office.made import TOML
from tests.web.api.conftest import API, Hospital, once

from consilium.adapters.identity.machine_tokens import note_token
from consilium.adapters.identity.tokens import Ticket, make_token
from consilium.adapters.office.values import ProjectDraft
from consilium.adapters.store.office_shelves import PROCESSES, ProcessRow
from consilium.governance.contract import Purpose
from consilium.governance.hosting import Cycle, Limits

SPEEDS = {"upload": 20, "download": 50}


@pytest.fixture(scope="module")
def project(hospital: Hospital) -> str:
    """A project that this one site trains alone and approved."""
    hospital.register()
    off = 'secure_sum = "off-and-the-coordinator-sees-every-update"'
    draft = ProjectDraft(
        toml=TOML.format(sites=1, rate=0.1, sum=off),
        arm="federated-local-dp",
        datasets={"charite": "hearts"},
        purpose=Purpose(text="Tell who is ill"),
    )
    rossi = hospital.office.people.actor(hospital.ids["rossi"])
    return hospital.office.projects.draft(rossi, draft).id


@pytest.fixture(scope="module")
def process(hospital: Hospital, project: str) -> str:
    """A process of that project, put there as `host` would once the project is approved."""
    limits = Limits(
        name="heart", version="1", fewest_sites=1, most_sites=2, fewest_updates=1, most_updates=2,
        least_upload=10.0,
    )  # fmt: skip
    name = hospital.office.desk.new_id()
    row = ProcessRow(id=name, project=project, limits=limits, cycle=Cycle())
    with hospital.office.desk.database.transaction() as connection:
        PROCESSES.add(connection, name, row)
    return name


def token(hospital: Hospital, process: str, subject: str) -> dict[str, str]:
    answer = hospital.clients["olga"].post(
        f"{API}/processes/{process}/tokens", json={"subject": subject}
    )
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    return made


def join(hospital: Hospital, process: str, bearer: str, **speeds: float) -> httpx.Response:
    return hospital.client().post(
        f"{API}/processes/{process}/admission",
        json=SPEEDS | speeds,
        headers={"Authorization": f"Bearer {bearer}"},
    )


def test_a_machine_with_a_token_is_admitted(hospital: Hospital, process: str) -> None:
    made = token(hospital, process, "scanner-1")

    assert join(hospital, process, made["token"]).json()["allowed"] is True


def test_a_machine_that_is_too_slow_is_told_so(hospital: Hospital, process: str) -> None:
    made = token(hospital, process, "scanner-2")

    decision = join(hospital, process, made["token"], upload=1).json()

    assert decision["allowed"] is False
    assert "upload" in decision["reason"]


def test_a_token_that_was_taken_back_opens_nothing(hospital: Hospital, process: str) -> None:
    made = token(hospital, process, "scanner-3")

    gone = hospital.clients["olga"].delete(f"{API}/tokens/{made['serial']}")

    assert gone.status_code == 204
    assert join(hospital, process, made["token"]).status_code == 401


def test_a_token_that_this_office_never_noted_opens_nothing(
    hospital: Hospital, process: str, project: str
) -> None:
    desk = hospital.office.desk
    ticket = Ticket(
        subject="ghost", project=project, serial="never-noted", lasts=timedelta(hours=1)
    )

    forged = make_token(desk.key, desk.name, ticket, now=desk.clock())

    assert join(hospital, process, forged).status_code == 401


def test_a_token_of_another_project_opens_nothing(hospital: Hospital, process: str) -> None:
    desk = hospital.office.desk
    ticket = Ticket(subject="m", project="another", serial="other", lasts=timedelta(hours=1))
    with desk.database.transaction() as connection:
        note_token(connection, ticket, made_by="olga", now=desk.clock())
    other = make_token(desk.key, desk.name, ticket, now=desk.clock())

    assert join(hospital, process, other).status_code == 403


def test_a_token_opens_nothing_that_a_session_opens(hospital: Hospital, process: str) -> None:
    made = token(hospital, process, "scanner-4")
    bearer = {"Authorization": f"Bearer {made['token']}"}

    for path in ("session", "projects", "datasets", "people", "log"):
        assert hospital.client().get(f"{API}/{path}", headers=bearer).status_code == 401


def test_a_session_is_no_token(hospital: Hospital, process: str) -> None:
    answer = hospital.clients["olga"].post(f"{API}/processes/{process}/admission", json=SPEEDS)

    assert answer.status_code == 401


def test_only_an_approved_project_is_hosted(hospital: Hospital, project: str) -> None:
    limits = {"name": "early", "version": "1"}

    answer = hospital.clients["olga"].post(
        f"{API}/processes", json={"project": project, "limits": limits}, headers=once()
    )

    assert answer.status_code == 409
