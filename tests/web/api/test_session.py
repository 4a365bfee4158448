# SPDX-License-Identifier: Apache-2.0
"""Signing in: the first person, invitations, resets, limits, and what other sites cannot do."""

import httpx
import pytest

from tests.web.api.conftest import API, PASSWORD, Hospital

OTHER = "quite another set of words"


def sign_in(client: httpx.Client, email: str, password: str = PASSWORD) -> httpx.Response:
    return client.post(f"{API}/session", json={"email": email, "password": password})


# -- The first person -----------------------------------------------------------------


def test_a_new_office_has_nobody_and_no_password(empty: Hospital) -> None:
    client = empty.client()

    for email in ("admin", "admin@x.org", "root", "owner"):
        for password in ("admin", "password", "consilium", ""):
            assert sign_in(client, email, password).status_code in (403, 422, 429)


def test_the_first_link_makes_the_owner_once(empty: Hospital) -> None:
    word = empty.accounts.first_link()
    body = {"link": word, "password": PASSWORD, "name": "Olga", "email": "olga@x.org"}

    first = empty.client().post(f"{API}/session/join", json=body)
    again = empty.client().post(f"{API}/session/join", json=body)

    assert (first.status_code, again.status_code) == (201, 403)
    assert first.json()["roles"] == ["Owner"]
    assert empty.accounts.first_link() is None


def test_a_new_first_link_ends_the_old_one(empty: Hospital) -> None:
    old = empty.accounts.first_link()
    empty.accounts.first_link()
    body = {"link": old, "password": PASSWORD, "name": "Olga", "email": "olga@x.org"}

    assert empty.client().post(f"{API}/session/join", json=body).status_code == 403


def test_a_weak_password_leaves_the_link_usable(empty: Hospital) -> None:
    body = {"link": empty.accounts.first_link(), "name": "Olga", "email": "olga@x.org"}
    client = empty.client()

    weak = client.post(f"{API}/session/join", json=body | {"password": "olga"})
    strong = client.post(f"{API}/session/join", json=body | {"password": PASSWORD})

    assert (weak.status_code, strong.status_code) == (422, 201)


def test_the_second_person_is_no_owner(hospital: Hospital) -> None:
    assert hospital.clients["rossi"].get(f"{API}/session").json()["roles"] == ["User"]


# -- In and out -----------------------------------------------------------------------


def test_signing_in_sets_a_cookie_that_no_script_and_no_other_site_reads(
    hospital: Hospital,
) -> None:
    cookie = sign_in(hospital.client(), "rossi@x.org").headers["set-cookie"]

    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Domain" not in cookie


@pytest.mark.parametrize("email", ["rossi@x.org", "nobody@x.org"])
def test_a_wrong_password_says_the_same_of_anybody(hospital: Hospital, email: str) -> None:
    answer = sign_in(hospital.client(), email, "not the password")

    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("e-mail or password is wrong")


def test_signing_out_ends_the_session_at_the_server(hospital: Hospital) -> None:
    client = hospital.client()
    sign_in(client, "rossi@x.org")
    thief = hospital.stolen(client)

    assert client.delete(f"{API}/session").status_code == 204

    assert thief.get(f"{API}/session").status_code == 401


def test_a_session_that_was_there_before_signing_in_is_replaced(hospital: Hospital) -> None:
    client = hospital.client()
    sign_in(client, "rossi@x.org")
    old = hospital.stolen(client)

    sign_in(client, "rossi@x.org")

    assert old.get(f"{API}/session").status_code == 401
    assert client.get(f"{API}/session").status_code == 200


def test_a_new_password_ends_every_other_session(hospital: Hospital) -> None:
    here, there = hospital.join("maier"), hospital.client()
    sign_in(there, "maier@x.org")

    changed = here.put(f"{API}/session/password", json={"old": PASSWORD, "new": OTHER})

    assert changed.status_code == 204
    assert here.get(f"{API}/session").status_code == 200
    assert there.get(f"{API}/session").status_code == 401
    assert sign_in(hospital.client(), "maier@x.org").status_code == 403


def test_a_reset_ends_sessions_at_once_and_its_link_works_once(hospital: Hospital) -> None:
    client = hospital.join("schulz")
    person = hospital.ids["schulz"]

    link = hospital.clients["olga"].post(f"{API}/people/{person}/reset").json()["link"]
    word = link.rsplit("/", 1)[1]
    body = {"link": word, "password": OTHER}

    assert client.get(f"{API}/session").status_code == 401
    assert hospital.client().post(f"{API}/session/join", json=body).status_code == 201
    assert hospital.client().post(f"{API}/session/join", json=body).status_code == 403
    assert sign_in(hospital.client(), "schulz@x.org").status_code == 403
    assert sign_in(hospital.client(), "schulz@x.org", OTHER).status_code == 201


def test_a_revoked_person_is_nobody_at_once(hospital: Hospital) -> None:
    client = hospital.join("braun")
    person = hospital.ids["braun"]

    revoked = hospital.clients["olga"].post(
        f"{API}/people/{person}/revocation", json={"reason": "left"}
    )

    assert revoked.json()["state"] == "revoked"
    assert client.get(f"{API}/session").status_code == 401
    assert sign_in(hospital.client(), "braun@x.org").status_code == 403


def test_signing_out_everywhere(hospital: Hospital) -> None:
    here, there = hospital.join("vogel"), hospital.client()
    sign_in(there, "vogel@x.org")

    here.delete(f"{API}/session/all")

    assert here.get(f"{API}/session").status_code == 401
    assert there.get(f"{API}/session").status_code == 401


def test_an_entry_link_lets_in_once(hospital: Hospital) -> None:
    word = hospital.accounts.entry_link(hospital.ids["rossi"])

    first = hospital.client().post(f"{API}/session/enter", json={"link": word})
    again = hospital.client().post(f"{API}/session/enter", json={"link": word})

    assert (first.status_code, again.status_code) == (201, 403)


def test_too_many_tries_shut_an_account_for_a_while(hospital: Hospital) -> None:
    hospital.join("fuchs")
    client = hospital.client()
    answers = [sign_in(client, "fuchs@x.org", f"wrong password {k}") for k in range(9)]

    assert [answer.status_code for answer in answers] == [403] * 8 + [429]
    assert int(answers[-1].headers["retry-after"]) > 600
    assert sign_in(client, "fuchs@x.org").status_code == 429
    assert sign_in(client, "rossi@x.org").status_code == 201


# -- Other sites ----------------------------------------------------------------------

FORGED = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
]


@pytest.mark.parametrize("headers", FORGED)
def test_another_site_cannot_make_a_browser_act(
    hospital: Hospital, headers: dict[str, str]
) -> None:
    body = {"permissions": [], "name": "Forged"}

    answer = hospital.clients["olga"].post(f"{API}/roles", json=body, headers=headers)

    assert answer.status_code == 403
    assert "another site" in answer.json()["detail"]


def test_a_session_without_an_origin_cannot_act(hospital: Hospital) -> None:
    client = hospital.stolen(hospital.clients["olga"])
    del client.headers["Origin"]

    refused = client.post(f"{API}/roles", json={"permissions": [], "name": "Forged"})
    read = client.get(f"{API}/session")

    assert (refused.status_code, read.status_code) == (403, 200)


def test_a_form_cannot_post_json(hospital: Hospital) -> None:
    answer = hospital.clients["olga"].post(
        f"{API}/roles",
        content='{"permissions": [], "name": "Forged"}',
        headers={"Content-Type": "text/plain"},
    )

    assert answer.status_code == 422


def test_a_host_that_is_not_ours_is_refused(hospital: Hospital) -> None:
    answer = hospital.client().get(f"{API}/office", headers={"Host": "rebound.example"})

    assert answer.status_code == 403


# -- Answers --------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", f"{API}/session", "/nothing", "/sign-in"])
def test_every_answer_is_dressed(hospital: Hospital, path: str) -> None:
    headers = hospital.client().get(path).headers

    assert "unsafe-inline" not in headers["content-security-policy"]
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert "server" not in headers


def test_a_large_body_is_refused(hospital: Hospital) -> None:
    answer = hospital.client().post(f"{API}/session", content=b"x" * ((1 << 20) + 1))

    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


def test_a_large_body_of_unknown_length_is_refused(hospital: Hospital) -> None:
    chunks = (b"x" * 65536 for _ in range(32))

    answer = hospital.client().post(f"{API}/session", content=chunks)

    assert answer.status_code == 413


def test_a_refused_value_is_not_repeated(hospital: Hospital) -> None:
    answer = hospital.client().post(f"{API}/session", json={"email": 7, "password": {"a": "s3c"}})

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "s3c" not in answer.text


def test_a_problem_says_what_why_do_and_who(hospital: Hospital) -> None:
    problem = hospital.client().get(f"{API}/people").json()

    assert problem["type"] == "/problems/not-signed-in"
    assert all(problem[name] for name in ("title", "detail", "do", "who"))
