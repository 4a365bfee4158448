# SPDX-License-Identifier: Apache-2.0
"""Every page, asked for everything by a researcher: nothing breaks, nothing of weight is done."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import product

import pytest
from tests.web.api.conftest import API, Hospital, with_people
from tests.web.api.test_routes import ID, routes

FORM = {
    **dict.fromkeys(("reason", "words", "answer", "note", "text", "purpose"), "because"),
    "name": "Mine",
    "email": "e@x.org",
    "roles": "Owner",
    "role": "Owner",
    "confirm": "hearts",
    "permissions": "edit-roles",
    "epsilon": "9",
    "cap": "9",
    "people": "Owner",
    "accept": "yes",
    "folder": "/etc",
    "description": "d",
    "title": "Mine",
    "idle_minutes": "60",
    "preset": "demo",
    "pseudonym": "train-0-1",
    "holder": ID,
    "kinds": "query",
    "days": "9",
    "to": "lmu",
}
STEPS = (
    *("approve", "refuse", "ask", "revoke", "stop", "pause", "resume", "submit", "edit", "start"),
    *("freeze", "unfreeze", "raise", "lower", "withdraw", "opt-out", "grant", "answer", "confirm"),
    *("roles", "reset", "close"),
)
OWN = {"sign-in", "make-request", "draft-project", "change-person", "withdraw-request"}


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    with ExitStack() as stack:
        made = with_people(tmp_path_factory.mktemp("hospital"), stack)
        made.register()
        yield made
    made.office.close()


def pages(hospital: Hospital, method: str) -> Iterator[str]:
    for found, path in routes(hospital):
        if found == method and not path.startswith((API, "/healthz", "/sign-", "/links")):
            own = {
                "{person}": (hospital.ids["weber"],),
                "{dataset}": (hospital.ids["hearts"],),
                "{step}": STEPS,
            }
            parts = [own.get(part.removesuffix(".json"), (part,)) for part in path.split("/")]
            for chosen in product(*parts):
                plain = "/".join(ID if part.startswith("{") else part for part in chosen)
                if not plain.endswith("/events"):  # it does not end
                    yield plain


def test_no_page_breaks_for_a_researcher(hospital: Hospital) -> None:
    client = hospital.clients["rossi"]

    answers = {path: client.get(path).status_code for path in pages(hospital, "GET")}

    assert len(answers) > 60
    assert {path: code for path, code in answers.items() if code >= 500} == {}


def test_no_form_does_for_a_researcher_what_takes_more_than_an_account(hospital: Hospital) -> None:
    client = hospital.clients["rossi"]
    answers = {path: client.post(path, data=FORM).status_code for path in pages(hospital, "POST")}

    entries = hospital.clients["olga"].get(f"{API}/log/latest", params={"limit": 200}).json()
    done = {
        one["action"]
        for one in entries["items"]
        if one["actor"] == hospital.ids["rossi"] and one["outcome"] == "done"
    }

    assert len(answers) > 40
    assert {path: code for path, code in answers.items() if code >= 500} == {}
    assert done <= OWN
