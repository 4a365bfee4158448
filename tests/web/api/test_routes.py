# SPDX-License-Identifier: Apache-2.0
"""Every route of the application, pages too, refuses whoever is not allowed."""

from collections.abc import Iterator

import pytest
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount
from tests.web.api.conftest import API, Hospital, once

ID = "01M80446BJ09YRDX6RCG67BD3P"
VALUES = {"name": "Forged", "version": "latest", "digest": "0" * 64, "serial": ID, "word": "A" * 43}
PUBLIC = {  # whom an office must answer before it knows them
    ("GET", "/healthz"),
    ("GET", f"{API}/openapi.json"),
    ("GET", f"{API}/office"),
    ("POST", f"{API}/session"),
    ("POST", f"{API}/session/join"),
    ("POST", f"{API}/session/enter"),
}
PUBLIC_PAGES = ("/", "/sign-in", "/sign-out", "/links/", "/problems/", "/static", "/phone")
EVERYBODY = {  # what anybody with an account may do; lists show what they may see
    ("GET", "/session"),
    ("DELETE", "/session"),
    ("DELETE", "/session/all"),
    ("PUT", "/session/password"),
    ("PUT", "/people/me/key"),
    ("GET", "/roles"),
    ("GET", "/roles/{name}"),
    ("GET", "/groups"),
    ("GET", "/groups/{group}"),
    ("GET", "/datasets"),
    ("GET", "/datasets/{dataset}"),
    ("GET", "/datasets/{dataset}/raises"),
    ("GET", "/grants/mine"),
    ("GET", "/requests"),
    ("POST", "/requests"),
    ("GET", "/projects"),
    ("POST", "/projects"),
    ("POST", "/projects/terms"),
    ("POST", "/projects/price"),
    ("GET", "/settings"),
    ("GET", "/models"),
    ("GET", "/models/{name}"),
    ("GET", "/models/{name}/{version}"),
    ("GET", "/models/{name}/{version}/file"),
    ("GET", "/models/{name}/{version}/permit"),
    ("GET", "/processes"),
    ("GET", "/processes/{process}"),
    ("GET", "/associations"),
}
WHY = {"reason": "because"}
GRANT = {"holder": ID, "kinds": ["query"], "epsilon_cap": 1, "expires": "2030-01-01T00:00:00Z"}
MODEL = {"name": "m", "digest": "0" * 64, "file": "m", "project": ID, "run": "r"}
DRAFT = {"toml": "x", "arm": "federated-dp", "datasets": {"a": "b"}, "purpose": {"text": "t"}}
REVIEW = {"verdict": "approve", "digest": "0" * 64}
BODIES: dict[tuple[str, str], object] = {  # of everything that takes more than an account
    ("GET", "/people"): None,
    ("GET", "/people/{person}"): None,
    ("PATCH", "/people/{person}"): {"name": "n", "email": "e@x.org"},
    ("PUT", "/people/{person}/roles"): {"roles": ["Owner"]},
    ("POST", "/people/{person}/reset"): None,
    ("POST", "/people/{person}/revocation"): WHY,
    ("GET", "/invitations"): None,
    ("POST", "/invitations"): {"name": "n", "email": "e@x.org", "roles": ["Owner"]},
    ("DELETE", "/invitations/{invitation}"): None,
    ("POST", "/roles"): {"name": "Mine", "permissions": ["edit-roles"]},
    ("PUT", "/roles/{name}"): {"permissions": ["edit-roles"]},
    ("DELETE", "/roles/{name}"): None,
    ("POST", "/groups"): {"name": "Mine"},
    ("PATCH", "/groups/{group}"): {"name": "Mine"},
    ("DELETE", "/groups/{group}"): None,
    ("PUT", "/groups/{group}/members/{person}"): None,
    ("DELETE", "/groups/{group}/members/{person}"): None,
    ("POST", "/datasets"): {"name": "n", "folder": "/etc", "description": "d"},
    ("PATCH", "/datasets/{dataset}"): {"description": "mine"},
    ("POST", "/datasets/{dataset}/withdrawal"): WHY,
    ("POST", "/datasets/{dataset}/freeze"): WHY,
    ("PUT", "/datasets/{dataset}/cap"): {"epsilon": 1},
    ("GET", "/datasets/{dataset}/budget"): None,
    ("POST", "/datasets/{dataset}/raises"): {"epsilon": 9, **WHY},
    ("POST", "/raises/{proposal}/confirmation"): None,
    ("POST", "/opt-outs"): {"pseudonym": "train-0-1"},
    ("GET", "/datasets/{dataset}/grants"): None,
    ("POST", "/datasets/{dataset}/grants"): GRANT,
    ("POST", "/grants/{grant}/revocation"): WHY,
    ("POST", "/requests/{request}/decision"): {"accept": True, "answer": "yes"},
    ("DELETE", "/requests/{request}"): None,
    ("GET", "/projects/{project}"): None,
    ("PUT", "/projects/{project}"): DRAFT,
    ("GET", "/projects/{project}/difference"): None,
    ("POST", "/projects/{project}/submission"): {},
    ("GET", "/projects/{project}/price"): None,
    ("GET", "/projects/{project}/reviews"): None,
    ("POST", "/projects/{project}/opening"): None,
    ("POST", "/projects/{project}/reviews"): REVIEW,
    ("POST", "/projects/{project}/revocation"): WHY,
    ("POST", "/projects/{project}/runs"): {"run": "r"},
    ("POST", "/projects/{project}/pause"): None,
    ("POST", "/projects/{project}/resumption"): None,
    ("POST", "/projects/{project}/stop"): WHY,
    ("GET", "/projects/{project}/file"): None,
    ("GET", "/log"): None,
    ("GET", "/log/latest"): None,
    ("GET", "/log/verification"): None,
    ("GET", "/log/file"): None,
    ("PUT", "/settings"): {"policy": {}, "title": "Mine", "idle_minutes": 60},
    ("POST", "/models"): MODEL | {"epsilon": 1, "delta": 1e-5},
    ("PUT", "/models/{name}/{version}/permissions"): {"allow_download": True},
    ("POST", "/models/{name}/{version}/withdrawal"): WHY,
    ("POST", "/processes"): {"project": ID, "limits": {"name": "n", "version": "1"}},
    ("POST", "/processes/{process}/closing"): None,
    ("POST", "/processes/{process}/tokens"): {"subject": "me"},
    ("DELETE", "/tokens/{serial}"): None,
    ("POST", "/processes/{process}/admission"): {"upload": 1, "download": 1},
    ("POST", "/processes/{process}/updates"): {"cycle": 1, "size": 1},
    ("POST", "/associations"): {"to": "lmu", "address": "", **WHY},
    ("POST", "/associations/{association}/answer"): {"accept": True},
    ("POST", "/associations/{association}/confirmation"): {"words": "w"},
    ("POST", "/associations/{association}/revocation"): WHY,
    ("POST", "/exchange/introductions"): {"message": "AAAA"},
    ("POST", "/exchange/answers"): None,
    ("GET", "/exchange/projects"): None,
    ("GET", "/exchange/projects/{digest}"): None,
    ("POST", "/exchange/projects"): {"message": "AAAA"},
    ("POST", "/exchange/cards"): {"message": "AAAA"},
    ("POST", "/exchange/heads"): {"message": "AAAA"},
    ("POST", "/exchange/signatures"): {"message": "AAAA"},
}


def routes(hospital: Hospital) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(hospital.app.routes):
        if isinstance(route.original_route, Mount):
            assert route.original_route.path in PUBLIC_PAGES
        else:
            for method in sorted((route.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, str(route.path)


def url(hospital: Hospital, path: str) -> str:
    own = VALUES | {"person": hospital.ids["weber"], "dataset": hospital.ids.get("hearts", ID)}
    parts = [
        own.get(part[1:-1].split(":")[0], ID) if part.startswith("{") else part
        for part in path.split("/")
    ]
    return "/".join(parts)


def test_nobody_gets_in_anywhere_without_a_session(hospital: Hospital) -> None:
    client = hospital.client()
    let_in, tried = [], list(routes(hospital))
    assert len(tried) > 100
    for method, path in tried:
        if (method, path) in PUBLIC or (path == "/" or path.startswith(PUBLIC_PAGES[1:])):
            continue
        answer = client.request(method, url(hospital, path), headers=once(), json={})
        signs_in = answer.headers.get("location", "").startswith("/sign-in")
        if answer.status_code != 401 and not (answer.status_code == 303 and signs_in):
            let_in.append((method, path, answer.status_code))

    assert let_in == []


def test_a_made_up_session_is_nobody(hospital: Hospital) -> None:
    client = hospital.client()
    client.cookies.set(hospital.app.state.place.cookie, "A" * 43)

    assert client.get(f"{API}/session").status_code == 401


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_made_up_token_is_nobody(hospital: Hospital, token: str) -> None:
    headers = {"Authorization": f"Bearer {token}"}

    answer = hospital.client().post(
        f"{API}/processes/{ID}/admission", json={"upload": 1, "download": 1}, headers=headers
    )

    assert answer.status_code == 401


def test_every_route_of_the_api_is_in_one_of_the_lists(hospital: Hospital) -> None:
    own = {
        (method, path.removeprefix(API))
        for method, path in routes(hospital)
        if path.startswith(API) and (method, path) not in PUBLIC
    }

    assert own == set(BODIES) | EVERYBODY
    assert not set(BODIES) & EVERYBODY


def test_a_researcher_gets_nothing_that_takes_more_than_an_account(hospital: Hospital) -> None:
    hospital.register()
    client = hospital.clients["rossi"]
    let_in = []
    for (method, path), body in BODIES.items():
        headers = once() | {"If-Match": '"0"'}
        target = url(hospital, f"{API}{path}")
        query = "?before=1&after=2" if path.endswith("difference") else ""
        answer = client.request(method, target + query, json=body, headers=headers)
        if answer.status_code not in (401, 403, 404, 412):
            let_in.append((method, path, answer.status_code, answer.text))

    assert let_in == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/people/{person}/roles", {"roles": ["Owner"]}),
        ("PATCH", "/people/{person}", {"name": "n", "email": "e@x.org"}),
    ],
)
def test_a_researcher_with_the_right_version_is_refused_for_being_nobody_special(
    hospital: Hospital, method: str, path: str, body: object
) -> None:
    target = url(hospital, f"{API}{path}")
    tag = hospital.clients["olga"].get(f"{API}/people/{hospital.ids['weber']}").headers["etag"]

    answer = hospital.clients["rossi"].request(method, target, json=body, headers={"If-Match": tag})

    assert answer.status_code == 403


def test_nobody_gives_themselves_rights(hospital: Hospital) -> None:
    for name in ("rossi", "weber", "klein"):
        client, person = hospital.clients[name], hospital.ids[name]
        own = client.get(f"{API}/people/{person}")
        answer = client.put(
            f"{API}/people/{person}/roles",
            json={"roles": ["Owner"]},
            headers={"If-Match": own.headers["etag"]},
        )
        assert answer.status_code == 403


def test_the_document_lists_what_the_application_answers(hospital: Hospital) -> None:
    document = hospital.client().get(f"{API}/openapi.json").json()
    told = {
        (method.upper(), path)
        for path, operations in document["paths"].items()
        for method in operations
    }

    own = {one for one in routes(hospital) if one[1].startswith(API)}
    assert told - {("GET", "/healthz")} == own - {("GET", f"{API}/openapi.json")}


def test_the_document_says_who_needs_a_session(hospital: Hospital) -> None:
    paths = hospital.client().get(f"{API}/openapi.json").json()["paths"]

    assert "security" not in paths[f"{API}/session"]["post"]
    assert paths[f"{API}/session"]["get"]["security"] == [{"session": []}]
    assert paths[f"{API}/people"]["get"]["responses"]["403"]["content"].keys() == {
        "application/problem+json"
    }
