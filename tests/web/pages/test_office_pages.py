# SPDX-License-Identifier: Apache-2.0
"""Tests of the pages over real offices: what is shown is true, what is posted is done."""

import re
from pathlib import Path

import httpx
import pytest
from tests.adapters.office.conftest import SITES, Federation
from tests.adapters.office.made import TOML, Staff, make_folder
from tests.web.pages.conftest import Reading, Served

from consilium.adapters.run_board import Look, RunBoard, RunProgress
from consilium.governance.access import Actor, ActorKind
from consilium.governance.projects import State

STEWARD_PAGES = (
    *("/inbox", "/setup", "/datasets", "/datasets/new", "/catalogue", "/projects", "/projects/new"),
    *("/runs", "/models", "/log", "/people", "/roles", "/groups", "/sites", "/health"),
    *("/settings", "/account"),
)


@pytest.fixture
def charite(federation: Federation, read: Reading) -> httpx.Client:
    return read(federation.sites["charite"], federation.steward("charite"))


def state(federation: Federation, project: str, site: str = "charite") -> State:
    return federation.sites[site].office.projects.get(federation.steward(site), project).state


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))


def approve(client: httpx.Client, project: str, **conditions: str) -> str:
    page = client.get(f"/projects/{project}/approve").text
    (action,) = re.findall(r'action="(/projects/[^"]*/approve[^"]*)"', page)
    (words,) = re.findall(r"<dt>Six words</dt><dd>([a-z ]+)", page)
    response = client.post(action, data={"word": words.split()[0], **conditions})
    assert response.status_code == 200, text(response.text)
    return response.text


# -- Reading --------------------------------------------------------------------------


def test_every_page_of_an_owner_has_a_twin(federation: Federation, read: Reading) -> None:
    site = federation.sites["charite"]
    client = read(site, site.owner)

    for path in STEWARD_PAGES:
        page, twin = client.get(path), client.get(f"{path}.json")

        assert page.status_code == twin.status_code == 200, path
        assert f"<h1>{twin.json()['title']}</h1>" in page.text


def test_who_is_not_signed_in_goes_to_the_door(charite: httpx.Client) -> None:
    charite.cookies.clear()

    response = charite.get("/inbox")

    assert response.url.path == "/sign-in"
    assert response.url.query == b"next=/inbox"


def test_what_is_not_there_is_a_page_that_helps(charite: httpx.Client) -> None:
    response = charite.get("/projects/01NOSUCH")

    assert response.status_code == 404
    assert "What to do" in response.text


def test_a_researcher_sees_no_inbox_and_no_log(federation: Federation, read: Reading) -> None:
    client = read(federation.centre, federation.researcher)

    page = client.get("/projects")

    assert 'href="/log"' not in page.text
    assert client.get("/log").status_code == 403


def test_a_menu_leads_only_where_one_may_go(federation: Federation, read: Reading) -> None:
    for staff, actor in (
        (federation.centre, federation.researcher),
        (federation.centre, federation.centre.owner),
        (federation.sites["lmu"], federation.steward("lmu")),
    ):
        client = read(staff, actor)
        menu = re.findall(r'<li><a href="(/[a-z]+)"', client.get("/projects").text)

        assert menu
        assert {client.get(path).status_code for path in menu} == {200}


# -- Deciding -------------------------------------------------------------------------


def test_the_first_click_is_a_decision(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = charite.get("/inbox").text

    assert f'href="/projects/{project}"' in page
    assert "Differential privacy is on" in page
    assert re.search(r"with this \d", page)


def test_an_approval_is_of_what_was_read(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = approve(charite, project, max_runs="1", note="go on")

    assert "You approved it." in page
    assert state(federation, project) is State.APPROVED


def test_the_wrong_word_approves_nothing(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    response = charite.post(f"/projects/{project}/approve", data={"word": "wrong"})

    assert response.status_code == 422
    assert "compare all six" in response.text
    assert state(federation, project) is State.SUBMITTED


def test_an_approval_of_other_terms_is_refused(
    federation: Federation, charite: httpx.Client
) -> None:
    project = federation.submitted()
    (words,) = re.findall(
        r"<dt>Six words</dt><dd>([a-z ]+)", charite.get(f"/projects/{project}/approve").text
    )

    response = charite.post(
        f"/projects/{project}/approve?of={'0' * 64}", data={"word": words.split()[0]}
    )

    assert response.status_code == 422
    assert state(federation, project) is not State.APPROVED


def test_a_question_goes_back_to_the_author(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    charite.post(f"/projects/{project}/ask", data={"words": "Why five rounds?"})

    assert state(federation, project) is State.NEEDS_CHANGES


def test_a_refusal_keeps_its_reason(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = charite.post(f"/projects/{project}/refuse", data={"reason": "price"}).text

    assert "You refused it." in page
    assert "The price is too high" in page
    assert state(federation, project) is State.REFUSED


def test_another_reason_needs_words(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    response = charite.post(f"/projects/{project}/refuse", data={"reason": "other"})

    assert response.status_code == 422
    assert 'id="error-words"' in response.text


def test_what_if_answers_without_a_script(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = charite.get(f"/projects/{project}").text
    (highest,) = re.findall(r'data-highest="([0-9.]+)"', page)
    less = text(charite.get(f"/projects/{project}?allow={float(highest) / 3}").text)

    (rounds,) = re.findall(r"stop after (\d+) rounds? of 5", less)
    assert int(rounds) < 5


def test_what_if_refuses_what_is_no_number(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = charite.get(f"/projects/{project}?allow=much").text

    assert "Type a number above 0" in page


# -- Revoking -------------------------------------------------------------------------


def test_revoking_needs_the_name(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    response = charite.post(
        f"/projects/{project}/revoke", data={"words": "doubts", "confirm": "hart"}
    )

    assert response.status_code == 422
    assert state(federation, project) is State.SUBMITTED


def test_revoking_ends_it_and_is_in_the_log(federation: Federation, charite: httpx.Client) -> None:
    project = federation.submitted()

    page = charite.post(
        f"/projects/{project}/revoke", data={"words": "doubts", "confirm": "heart"}
    ).text

    assert "It is revoked." in page
    assert state(federation, project) is State.REVOKED
    assert "revoked the project heart" in charite.get("/log").text


# -- Datasets -------------------------------------------------------------------------


def test_a_dataset_shows_its_budget(charite: httpx.Client) -> None:
    (line,) = charite.get("/datasets.json").json()["datasets"]

    page = charite.get(f"/datasets/{line['id']}").text

    assert "Epsilons compose, they do not add" in page
    assert line["used"] > 0  # the count on its card was paid
    assert "times in 100" in page


def test_a_dataset_is_registered(charite: httpx.Client, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "more", seed=9)

    page = charite.post(
        "/datasets/new",
        data={"name": "more", "folder": str(folder), "description": "More hearts", "cap": "2"},
    )

    assert "The dataset is registered." in page.text


def test_a_folder_that_is_none_is_said_beside_the_form(charite: httpx.Client) -> None:
    response = charite.post(
        "/datasets/new", data={"name": "x", "folder": "/nowhere", "description": "y"}
    )

    assert response.status_code == 422
    assert "There is a problem" in response.text


def test_freezing_and_two_people_to_undo_it(
    federation: Federation, charite: httpx.Client, read: Reading
) -> None:
    site = federation.sites["charite"]
    (line,) = charite.get("/datasets.json").json()["datasets"]
    charite.post(f"/datasets/{line['id']}/freeze", data={"reason": "a check"})
    charite.post(f"/datasets/{line['id']}/raise", data={"reason": "checked"})

    second = read(site, site.owner)
    (waiting,) = [
        one for one in second.get("/inbox.json").json()["asks"] if "unfreeze" in one["text"]
    ]
    second.post(waiting["href"], data={"agreed": "yes"})

    assert second.get("/datasets.json").json()["datasets"][0]["state"]["text"] == "open"


def test_a_grant_is_asked_for_and_made(
    federation: Federation, charite: httpx.Client, read: Reading
) -> None:
    site = federation.sites["charite"]
    asking = read(site, site.join("okafor"))
    (card,) = asking.get("/catalogue.json?q=heart").json()["cards"]
    asking.post(
        f"/catalogue/{card['id']}/ask",
        data={"reason": "a study", "kinds": "training", "epsilon_cap": "1", "days": "30"},
    )

    (waiting,) = charite.get("/inbox.json").json()["asks"]
    charite.post(waiting["href"], data={"decision": "accept", "answer": "yes"})

    assert "okafor" in charite.get(f"/datasets/{card['id']}").text


# -- People ---------------------------------------------------------------------------


def test_an_invitation_becomes_an_account(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)

    page = owner.post(
        "/people/new", data={"name": "Lin", "email": "lin@x.org", "roles": "User"}
    ).text
    (word,) = re.findall(r"/links/([\w-]+)", page)
    owner.cookies.clear()
    owner.post(
        f"/links/{word}",
        data={"password": "several calm words here", "repeated": "several calm words here"},
    )

    assert "Lin" in owner.get("/account").text


def test_two_passwords_that_differ_are_not_taken(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)
    page = owner.post(
        "/people/new", data={"name": "Lin", "email": "lin@x.org", "roles": "User"}
    ).text
    (word,) = re.findall(r"/links/([\w-]+)", page)

    response = owner.post(f"/links/{word}", data={"password": "a b c d e f", "repeated": "other"})

    assert response.status_code == 422


def test_nobody_gives_roles_to_themselves(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)

    response = owner.post(f"/people/{site.owner.id}/roles", data={"roles": "User"})

    assert response.status_code == 403


def test_a_role_allows_what_its_table_says(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)

    owner.post("/roles/new", data={"name": "Reader", "permissions": "triage-requests"})

    (line,) = [one for one in owner.get("/roles.json").json()["roles"] if one["name"] == "Reader"]
    assert sum(line["allows"]) == 1


def test_a_group_gets_members(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner, other = read(site, site.owner), site.people["weber"]

    page = owner.post("/groups/new", data={"name": "Paediatrics"})
    owner.post(page.url.path, data={"members": other.id})

    assert owner.get("/groups.json").json()["groups"][0]["members"] == [other.name]


def test_an_account_is_closed_only_by_its_name(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner, weber = read(site, site.owner), site.people["weber"]

    wrong = owner.post(f"/people/{weber.id}/close", data={"reason": "left", "confirm": "x"})
    right = owner.post(f"/people/{weber.id}/close", data={"reason": "left", "confirm": weber.name})

    assert wrong.status_code == 422
    assert right.url.path == "/people"


def test_signing_in_says_never_which_was_wrong(charite: httpx.Client) -> None:
    charite.cookies.clear()

    unknown = charite.post("/sign-in", data={"email": "nobody@x.org", "password": "x"})
    known = charite.post("/sign-in", data={"email": "weber@x.org", "password": "x"})

    assert unknown.status_code == known.status_code == 422
    errors = [re.findall(r'id="error-password">(.*)</span>', one.text) for one in (unknown, known)]
    assert errors[0] == errors[1] != []


@pytest.mark.parametrize("path", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_after_signing_in_nobody_is_led_away(charite: httpx.Client, path: str) -> None:
    page = charite.get("/sign-in", params={"next": path}).text

    assert "evil" not in page


# -- Office ---------------------------------------------------------------------------


def test_other_offices_are_shown_with_their_words(charite: httpx.Client) -> None:
    view = charite.get("/sites.json").json()

    assert len(view["own_fingerprint"]) == 6
    assert {line["name"] for line in view["sites"]} >= {"lmu (site)", "centre (coordinator)"}


def test_disconnecting_needs_the_name(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)
    line = owner.get("/sites.json").json()["sites"][0]
    name = line["name"].split(" ")[0]

    wrong = owner.post(f"/sites/{line['id']}/disconnect", data={"reason": "x", "confirm": "y"})
    owner.post(f"/sites/{line['id']}/disconnect", data={"reason": "x", "confirm": name})

    assert wrong.status_code == 422
    assert owner.get("/sites.json").json()["sites"][0]["state"]["text"] == "disconnected"


def test_the_chain_is_verified_on_demand(charite: httpx.Client) -> None:
    page = charite.post("/log/verify").text

    assert "The chain is intact." in page


def test_the_log_is_filtered_and_exported(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)

    denied = owner.get("/log.json?outcome=denied").json()["entries"]
    exported = owner.get("/log/export")

    assert all("tried to" in entry["sentence"] for entry in denied)
    assert exported.headers["content-disposition"].endswith('"log.jsonl"')


def test_rules_change_by_preset(federation: Federation, read: Reading) -> None:
    site = federation.sites["lmu"]
    owner = read(site, site.owner)

    owner.post("/settings/rules", data={"preset": "strict", "title": "LMU", "idle": "10"})

    assert "at most 3" in text(owner.get("/settings").text)


# -- Researcher -----------------------------------------------------------------------


def test_the_catalogue_is_searched_over_sites(federation: Federation, read: Reading) -> None:
    client = read(federation.centre, federation.researcher)

    everything = client.get("/catalogue.json").json()
    nothing = client.get("/catalogue.json?q=lung").json()
    tagged = client.get("/catalogue.json?tag=heart").json()

    assert {card["site"] for card in everything["cards"]} == set(SITES)
    assert nothing["cards"] == []
    assert tagged["tags"][0]["chosen"]


def built(client: httpx.Client, step: str, **changes: str) -> str:
    cards = client.get("/catalogue.json").json()["cards"]
    answers = {
        "purpose": "Tell who is ill",
        "datasets": [card["id"] for card in cards],
        "toml": TOML.format(sites=3, rate=0.1, sum=""),
        "arm": "federated-dp",
        "days": "90",
        "max_runs": "1",
        "step": step,
        **changes,
    }
    return client.post("/projects/new", data=answers).text


def test_the_price_comes_before_the_project(federation: Federation, read: Reading) -> None:
    client = read(federation.centre, federation.researcher)

    page = built(client, "price")

    assert all(f"<h3>{site}</h3>" in page for site in SITES)
    assert client.get("/projects.json").json()["projects"] == []


def test_a_project_is_kept_and_submitted(federation: Federation, read: Reading) -> None:
    client = read(federation.centre, federation.researcher)
    built(client, "keep")

    (line,) = client.get("/projects.json").json()["projects"]
    page = client.post(f"/projects/{line['id']}/submit").text

    assert "It was submitted." in page


def test_a_project_that_cannot_be_says_why(federation: Federation, read: Reading) -> None:
    client = read(federation.centre, federation.researcher)

    page = built(client, "price", toml='name = "x"')

    assert "This project cannot be made as it is." in page


# -- Live -----------------------------------------------------------------------------


def progress(federation: Federation, project: str, round_: int) -> RunProgress:
    return RunProgress(
        project=project,
        run="run-1",
        state="running",
        round=round_,
        rounds=5,
        epsilon=0.1 * round_,
        granted=0.6,
        delta=1e-4,
        unit="patient",
        measure="AUC",
        looks=tuple(Look(k, 0.1 * k, 0.5 + k / 20) for k in range(1, round_ + 1)),
        references=(),
        sites=(),
        seconds_left=12.0,
        began=federation.centre.clock.now,
        public_looks=True,
    )


def board(federation: Federation, served: Served) -> RunBoard:
    found: RunBoard = served.app(federation.sites["charite"]).state.runs
    return found


def trainer(staff: Staff, project: str) -> Actor:
    return Actor(
        id="trainer", name="trainer", office=staff.name, kind=ActorKind.SERVICE, project=project
    )


def running(federation: Federation, read: Reading) -> str:
    project = federation.submitted()
    for site in SITES:
        approve(read(federation.sites[site], federation.steward(site)), project)
    federation.carry()
    for staff in federation.sites.values():
        staff.office.runs.start(trainer(staff, project), project, "run-1")
    return project


def test_a_run_is_shown_as_it_stands(federation: Federation, read: Reading, served: Served) -> None:
    project = running(federation, read)
    client = read(federation.sites["charite"], federation.steward("charite"))

    before = client.get(f"/runs/{project}.json").json()
    client.get("/runs")
    board(federation, served).publish(progress(federation, project, 3))

    assert before["spots"] == []
    assert len(client.get(f"/runs/{project}.json").json()["spots"]) == 3


def test_the_stream_ends_with_the_run(
    federation: Federation, read: Reading, served: Served
) -> None:
    project = running(federation, read)
    client = read(federation.sites["charite"], federation.steward("charite"))
    client.get(f"/runs/{project}")
    board(federation, served).publish(progress(federation, project, 2))
    federation.sites["charite"].office.projects.revoke(
        federation.steward("charite"), project, "doubts"
    )

    events = client.get(f"/runs/{project}/events").text

    assert events.count("event: part") == 1
    assert events.rstrip().endswith("data: the run has ended")
    assert "revoked" in events
