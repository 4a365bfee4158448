# SPDX-License-Identifier: Apache-2.0
"""Changes by the API: done once, of what was read, and undone for nobody by racing."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from tests.web.api.conftest import API, Hospital, once


@pytest.fixture(scope="module")
def dataset(hospital: Hospital) -> str:
    return hospital.register()


# -- Once -----------------------------------------------------------------------------


def test_a_spend_needs_a_key(hospital: Hospital, dataset: str) -> None:
    body = {"epsilon": 9, "reason": "more"}

    answer = hospital.clients["weber"].post(f"{API}/datasets/{dataset}/raises", json=body)

    assert answer.status_code == 422
    assert "Idempotency-Key" in answer.json()["detail"]


def test_the_same_key_gives_the_same_answer_and_one_effect(
    hospital: Hospital, dataset: str
) -> None:
    client, key = hospital.clients["weber"], once()
    path, body = f"{API}/datasets/{dataset}/raises", {"epsilon": 9, "reason": "once"}

    answers = [client.post(path, json=body, headers=key) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert "idempotent-replayed" in answers[-1].headers
    kept = client.get(path).json()["items"]
    assert [one["reason"] for one in kept].count("once") == 1


def test_racing_with_one_key_spends_once(hospital: Hospital, dataset: str) -> None:
    client, key = hospital.clients["weber"], once()
    path, body = f"{API}/datasets/{dataset}/raises", {"epsilon": 9, "reason": "raced"}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post(path, json=body, headers=key), range(16)))

    assert {answer.status_code for answer in answers} <= {201, 409}
    kept = client.get(path).json()["items"]
    assert [one["reason"] for one in kept].count("raced") == 1


def test_a_key_for_another_request_is_refused(hospital: Hospital, dataset: str) -> None:
    client, key = hospital.clients["weber"], once()
    path = f"{API}/datasets/{dataset}/raises"
    client.post(path, json={"epsilon": 9, "reason": "first"}, headers=key)

    again = client.post(path, json={"epsilon": 10, "reason": "first"}, headers=key)

    assert again.status_code == 422


def test_two_people_may_use_the_same_key(hospital: Hospital, dataset: str) -> None:
    key, path = once(), f"{API}/datasets/{dataset}/raises"
    body = {"epsilon": 9, "reason": "mine"}

    made = [
        hospital.clients[name].post(path, json=body, headers=key).json()["id"]
        for name in ("weber", "klein")
    ]

    assert made[0] != made[1]


def test_a_refusal_leaves_the_key_unused(hospital: Hospital, dataset: str) -> None:
    key, path = once(), f"{API}/datasets/{dataset}/raises"
    body = {"epsilon": 9, "reason": "mine"}

    refused = hospital.clients["rossi"].post(path, json=body, headers=key)
    again = hospital.clients["rossi"].post(path, json=body, headers=key)

    assert (refused.status_code, again.status_code) == (403, 403)
    assert "idempotent-replayed" not in again.headers


# -- Caps and budget ------------------------------------------------------------------


def test_a_raise_needs_a_second_person(hospital: Hospital, dataset: str) -> None:
    weber, klein = hospital.clients["weber"], hospital.clients["klein"]
    body = {"epsilon": 12, "reason": "a new project"}
    raised = weber.post(f"{API}/datasets/{dataset}/raises", json=body, headers=once()).json()

    alone = weber.post(f"{API}/raises/{raised['id']}/confirmation", headers=once())
    before = weber.get(f"{API}/datasets/{dataset}/budget").json()["cap"]
    second = klein.post(f"{API}/raises/{raised['id']}/confirmation", headers=once())

    assert (alone.status_code, second.status_code) == (403, 200)
    assert before < 12
    assert weber.get(f"{API}/datasets/{dataset}/budget").json()["cap"] == 12


def test_a_budget_says_epsilon_delta_and_what_remains(hospital: Hospital, dataset: str) -> None:
    standing = hospital.clients["weber"].get(f"{API}/datasets/{dataset}/budget").json()

    assert standing["epsilon"] > 0
    assert 0 < standing["delta"] < 1
    assert standing["free"] <= standing["cap"] - standing["epsilon"]
    assert standing["patients"] == 200


# -- Of what was read -----------------------------------------------------------------


def test_an_edit_without_a_version_is_refused(hospital: Hospital, dataset: str) -> None:
    answer = hospital.clients["weber"].patch(
        f"{API}/datasets/{dataset}", json={"description": "new"}
    )

    assert answer.status_code == 428


def test_an_edit_of_an_old_version_is_refused(hospital: Hospital, dataset: str) -> None:
    client, path = hospital.clients["weber"], f"{API}/datasets/{dataset}"
    tag = client.get(path).headers["etag"]

    first = client.patch(path, json={"description": "one"}, headers={"If-Match": tag})
    second = client.patch(path, json={"description": "two"}, headers={"If-Match": tag})

    assert (first.status_code, second.status_code) == (200, 412)
    assert client.get(path).json()["description"] == "one"
    assert first.headers["etag"] == client.get(path).headers["etag"] != tag


def test_racing_edits_lose_nothing(hospital: Hospital, dataset: str) -> None:
    client, path = hospital.clients["weber"], f"{API}/datasets/{dataset}"
    tag = client.get(path).headers["etag"]

    def edit(number: int) -> int:
        body = {"description": f"by {number}"}
        return client.patch(path, json=body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(edit, range(8)))

    assert codes.count(200) == 1
    assert set(codes) <= {200, 409, 412}


def test_a_role_is_changed_as_it_was_read(hospital: Hospital) -> None:
    client = hospital.clients["olga"]
    made = client.post(f"{API}/roles", json={"name": "Uploader", "permissions": ["upload-data"]})
    path = f"{API}/roles/Uploader"
    more = {"permissions": ["upload-data", "create-groups"]}

    changed = client.put(path, json=more, headers={"If-Match": made.headers["etag"]})
    stale = client.put(path, json=more, headers={"If-Match": made.headers["etag"]})
    gone = client.delete(path, headers={"If-Match": changed.headers["etag"]})

    assert (changed.status_code, stale.status_code, gone.status_code) == (200, 412, 204)


# -- Lists ----------------------------------------------------------------------------


def test_a_list_is_read_in_parts_without_gap_or_double(hospital: Hospital) -> None:
    client = hospital.clients["olga"]
    for number in range(5):
        client.post(f"{API}/groups", json={"name": f"group {number}"})
    whole = [one["id"] for one in client.get(f"{API}/groups").json()["items"]]

    found, cursor = [], None
    while True:
        part = client.get(
            f"{API}/groups", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        found += [one["id"] for one in part["items"]]
        cursor = part["next"]
        if cursor is None:
            break

    assert found == whole
    assert len(found) == 5


def test_the_log_is_read_in_parts_and_chained(hospital: Hospital) -> None:
    client = hospital.clients["olga"]
    first = client.get(f"{API}/log", params={"limit": 3}).json()
    second = client.get(f"{API}/log", params={"limit": 3, "cursor": first["next"]}).json()
    both = first["items"] + second["items"]

    assert [one["sequence"] for one in both] == [1, 2, 3, 4, 5, 6]
    assert all(before["link"] != after["link"] for before, after in pairwise(both))
    assert client.get(f"{API}/log/verification").json()["intact"] is True


@pytest.mark.parametrize("cursor", ["x", "%00", "AAAA", "bm90LWEtbnVtYmVy"])
def test_a_made_up_cursor_of_the_log_is_refused(hospital: Hospital, cursor: str) -> None:
    answer = hospital.clients["olga"].get(f"{API}/log", params={"cursor": cursor})

    assert answer.status_code == 422


def test_a_refusal_is_in_the_log(hospital: Hospital, dataset: str) -> None:
    hospital.clients["rossi"].post(f"{API}/datasets/{dataset}/freeze", json={"reason": "mine"})

    entries = hospital.clients["olga"].get(f"{API}/log/latest").json()["items"]

    assert any(
        one["outcome"] == "denied"
        and one["action"] == "freeze-dataset"
        and one["actor"] == hospital.ids["rossi"]
        for one in entries
    )


def test_signing_in_is_in_the_log_and_no_password_is(hospital: Hospital) -> None:
    text = hospital.clients["olga"].get(f"{API}/log/file").text

    assert '"sign-in"' in text
    assert "correct horse" not in text
