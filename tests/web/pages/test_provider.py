# SPDX-License-Identifier: Apache-2.0
"""Signing in by an identity provider that this test serves itself, with real keys, on loopback."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser
from sqlalchemy import delete, update
from tests.web.api.conftest import API, Hospital
from tests.web.pages.openid_provider import CLIENT, FORGED, LABEL, SECRET, Provider

from consilium.adapters.identity.provider import ProviderRule, require_authlib
from consilium.adapters.identity.settings import IdentitySettings
from consilium.adapters.identity.tries import PER_ADDRESS
from consilium.adapters.office.office import found_office
from consilium.adapters.store.identity_tables import DEPARTURES, TRIES
from consilium.errors import ConfigError
from consilium.web.app import WebSettings
from consilium.web.security import Place
from consilium.web.serving import serving

pytest.importorskip("authlib")
BACK = "/sign-in/provider/back"


@dataclass
class Scene:
    """An office that believes a provider, and browsers."""

    hospital: Hospital
    provider: Provider
    refused_before: int = 0

    def begin(self) -> None:
        """Makes the provider honest, and forgets what another test tried."""
        self.provider.says, self.provider.metadata = {}, {}
        self.provider.algorithm, self.provider.key = "RS256", None
        with self.hospital.office.desk.database.transaction() as connection:
            connection.execute(delete(TRIES))
        self.refused_before += self.refusals()

    def browser(self) -> httpx.Client:
        return self.hospital.client(accept="text/html")

    def there(self, browser: httpx.Client) -> str:
        """From the sign-in page to the provider and back: the address with code and state."""
        left = browser.get("/sign-in/provider")
        assert left.status_code == 303, left.text
        return self.provider.authorize(left.headers["location"])

    def sign_in(self, browser: httpx.Client) -> httpx.Response:
        back = self.there(browser)
        assert browser.get(back, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
        return browser.post(back)

    def refusals(self) -> int:
        items = self.hospital.clients["olga"].get(f"{API}/log/latest", params={"limit": 200}).json()
        found = [one for one in items["items"] if one["action"] == "sign-in-refused"]
        return len(found) - self.refused_before

    def is_in(self, browser: httpx.Client) -> bool:
        return browser.get(f"{API}/session").status_code == 200


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as made:
        thread = Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("provided")
    rule = ProviderRule(
        issuer=provider.address, client_id=CLIENT, client_secret=SECRET, label=LABEL
    )
    settings = WebSettings(
        place=Place(origins=(), secure=False, cookie=""), identity=IdentitySettings(provider=rule)
    )
    with ExitStack() as stack:
        office = found_office(folder / "office", "charite", "site")
        stack.callback(office.close)
        app = stack.enter_context(serving(office, settings))
        hospital = Hospital(office, app, folder, stack)
        hospital.found()
        hospital.join("rossi", "User")
        yield Scene(hospital, provider)


@pytest.fixture
def scene(stage: Scene) -> Scene:
    stage.begin()
    return stage


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "Ed25519"])
def test_whom_the_provider_vouches_for_is_in_after_the_button(scene: Scene, algorithm: str) -> None:
    scene.provider.algorithm = algorithm
    browser = scene.browser()
    assert f"Sign in with {LABEL}" in browser.get("/sign-in").text

    back = scene.there(browser)
    page = browser.get(back)
    assert "Continue" in page.text
    assert not scene.is_in(browser)  # looking opens nothing
    entered = browser.post(back)

    assert entered.status_code == 303
    assert "HttpOnly" in entered.headers["set-cookie"]
    session = browser.get(f"{API}/session").json()
    assert session["id"] == scene.hospital.ids["rossi"]


def test_no_role_and_no_account_comes_from_a_claim(scene: Scene) -> None:
    scene.provider.says = {"roles": ["Owner"], "groups": ["Owner"]}
    browser = scene.browser()
    assert scene.sign_in(browser).status_code == 303
    assert browser.get(f"{API}/people").status_code == 403

    scene.provider.says = {"email": "stranger@x.org", "roles": ["Owner"]}
    stranger = scene.browser()
    refused = scene.sign_in(stranger)

    assert refused.status_code == 403
    assert "no active account here has this e-mail" in refused.text
    people = scene.hospital.clients["olga"].get(f"{API}/people")
    assert "rossi@x.org" in people.text
    assert "stranger@x.org" not in people.text


NOW = int(time.time())
CLAIMS: dict[str, tuple[dict[str, object], str]] = {
    "another issuer": ({"iss": "https://other.example"}, "iss"),
    "no issuer": ({"iss": None}, "iss"),
    "another audience": ({"aud": "another"}, "aud"),
    "for several, not by us": ({"aud": [CLIENT, "other"], "azp": "other"}, "azp"),
    "another nonce": ({"nonce": "A" * 43}, "nonce"),
    "no nonce": ({"nonce": None}, "nonce"),
    "expired": ({"iat": NOW - 900, "exp": NOW - 600}, "Expired"),
    "endless": ({"exp": None}, "exp"),
    "of tomorrow": ({"iat": NOW + 86400, "exp": NOW + 90000}, "iat|InvalidToken"),
    "unverified": ({"email_verified": False}, "has not verified"),
    "verified as text": ({"email_verified": "true"}, "has not verified"),
    "silent on it": ({"email_verified": None}, "has not verified"),
    "without e-mail": ({"email": None}, "has not verified"),
    "a letter that folds to k": ({"email": "\u212alein@x.org"}, "beyond ASCII"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_an_id_token_that_says_something_else_lets_nobody_in(scene: Scene, case: str) -> None:
    scene.provider.says, reason = CLAIMS[case]
    browser = scene.browser()

    refused = scene.sign_in(browser)

    assert refused.status_code == 403
    assert any(word in refused.text for word in reason.split("|")), refused.text
    assert not scene.is_in(browser)
    assert scene.refusals() == 1


SIGNED: dict[str, Callable[[Provider], None]] = {
    "none": lambda one: setattr(one, "algorithm", "none"),
    "by the public key as a secret": lambda one: setattr(one, "algorithm", "HS256"),
    "by a key of 1024 bits": lambda one: setattr(one, "algorithm", "short"),
    "by an older name": lambda one: setattr(one, "algorithm", "EdDSA"),
    "by another's key": lambda one: setattr(one, "key", FORGED),
}


@pytest.mark.parametrize("case", SIGNED)
def test_an_id_token_that_the_issuer_did_not_sign_lets_nobody_in(scene: Scene, case: str) -> None:
    SIGNED[case](scene.provider)
    browser = scene.browser()

    refused = scene.sign_in(browser)

    assert (refused.status_code, "ID token is refused" in refused.text) == (403, True)
    assert not scene.is_in(browser)
    assert scene.refusals() == 1


def test_a_state_is_used_once_and_a_code_too(scene: Scene) -> None:
    browser = scene.browser()
    back = scene.there(browser)
    kept = dict(browser.cookies)
    assert browser.post(back).status_code == 303

    thief = scene.browser()
    thief.cookies.update(kept)
    replayed = thief.post(back)
    fresh = dict(parse_qsl(urlsplit(scene.there(thief)).query))
    code = dict(parse_qsl(urlsplit(back).query))["code"]
    old_code = thief.post(f"{BACK}?{urlencode({'code': code, 'state': fresh['state']})}")

    assert (replayed.status_code, "was used" in replayed.text) == (403, True)
    assert (old_code.status_code, "does not take" in old_code.text) == (403, True)
    assert not scene.is_in(thief)


def test_a_state_that_nobody_began_or_another_browser_did_is_refused(scene: Scene) -> None:
    victim, attacker = scene.browser(), scene.browser()
    scene.there(victim)
    sent = scene.there(attacker)  # what an attacker would make a victim open

    forged = victim.post(f"{BACK}?{urlencode({'code': 'c', 'state': 'A' * 43})}")
    lured = victim.post(sent)

    assert [forged.status_code, lured.status_code] == [403, 403]
    assert "not begun in this browser" in lured.text
    assert not scene.is_in(victim)
    assert scene.refusals() == 2
    assert attacker.post(sent).status_code == 303  # and the attempt spoilt nothing


def test_a_sign_in_that_took_too_long_is_refused(scene: Scene) -> None:
    browser = scene.browser()
    back = scene.there(browser)
    with scene.hospital.office.desk.database.transaction() as connection:
        connection.execute(update(DEPARTURES).values(expires_at=NOW))

    refused = browser.post(back)

    assert (refused.status_code, "took longer" in refused.text) == (403, True)
    assert not scene.is_in(browser)


def test_one_address_begins_so_often_and_no_oftener(scene: Scene) -> None:
    browser = scene.browser()

    answers = [browser.get("/sign-in/provider").status_code for _ in range(PER_ADDRESS + 1)]

    assert set(answers[:-1]) == {303}
    assert answers[-1] == 429
    forged = browser.post(f"{BACK}?{urlencode({'code': 'c', 'state': 'A' * 43})}")
    assert (forged.status_code, scene.refusals()) == (429, 0)  # nor does it fill the log


def test_a_code_of_another_round_fails_at_its_verifier(scene: Scene) -> None:
    first, second = scene.browser(), scene.browser()
    stolen = dict(parse_qsl(urlsplit(scene.there(first)).query))["code"]
    own = dict(parse_qsl(urlsplit(scene.there(second)).query))["state"]

    refused = second.post(f"{BACK}?{urlencode({'code': stolen, 'state': own})}")

    assert refused.status_code == 403
    assert not scene.is_in(second)


def test_who_is_revoked_is_not_let_in(scene: Scene) -> None:
    office, ids = scene.hospital.office, scene.hospital.ids
    scene.hospital.join("leaver", "User")
    office.people.revoke(office.people.actor(ids["olga"]), ids["leaver"], "left")
    scene.provider.says = {"email": "leaver@x.org"}
    browser = scene.browser()

    refused = scene.sign_in(browser)

    assert (refused.status_code, "no active account" in refused.text) == (403, True)
    assert not scene.is_in(browser)
    assert scene.refusals() == 1


def test_a_provider_that_is_another_or_speaks_in_the_clear_is_not_asked(scene: Scene) -> None:
    browser = scene.browser()
    wrong: tuple[dict[str, object], ...] = (
        {"issuer": "https://other.example"},
        {"token_endpoint": "http://other.example/token"},
        {"jwks_uri": None},
    )
    for told in wrong:
        scene.provider.metadata = told
        assert browser.get("/sign-in/provider").status_code == 403


def test_an_answer_that_names_another_issuer_is_refused(scene: Scene) -> None:
    browser = scene.browser()
    mixed = f"{scene.there(browser)}&{urlencode({'iss': 'https://other.example'})}"

    refused = browser.post(mixed)

    assert (refused.status_code, "another identity provider" in refused.text) == (403, True)


def test_a_refusal_of_the_provider_and_a_foreign_page_lead_nowhere(scene: Scene) -> None:
    browser = scene.browser()
    foreign = browser.get("/sign-in/provider", headers={"Sec-Fetch-Site": "cross-site"})

    assert foreign.status_code == 403
    assert browser.get(f"{BACK}?error=access_denied&state=x").status_code == 403


def test_without_a_provider_there_is_no_such_way(tmp_path: Path) -> None:
    office = found_office(tmp_path / "office", "charite", "site")
    with ExitStack() as stack:
        stack.callback(office.close)
        hospital = Hospital(office, stack.enter_context(serving(office)), tmp_path, stack)
        browser = hospital.client(accept="text/html")

        assert "/sign-in/provider" not in browser.get("/sign-in").text
        assert browser.get("/sign-in/provider").status_code == 404
        assert browser.post(BACK).status_code == 404


@pytest.mark.browser
def test_a_real_browser_comes_in_though_the_provider_is_another_site(
    scene: Scene, browser: Browser
) -> None:
    port = urlsplit(scene.hospital.origin).port
    office = f"http://localhost:{port}"  # another site than 127.0.0.1, where the provider is
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{office}/sign-in")
        page.get_by_role("link", name=f"Sign in with {LABEL}").click()
        page.wait_for_url(f"{office}{BACK}?*")
        before = {one["name"] for one in context.cookies()}
        page.get_by_role("button", name="Continue").click()
        page.wait_for_url(lambda address: BACK not in address)
        after = {one["name"]: one.get("sameSite") for one in context.cookies()}
        seen = page.content()
    finally:
        context.close()

    cookie = scene.hospital.app.state.place.cookie
    assert before == {f"{cookie}-provider"}
    assert after == {cookie: "Strict"}
    assert "rossi" in seen


def test_a_provider_in_the_clear_is_no_setting() -> None:
    with pytest.raises(ConfigError, match="https"):
        ProviderRule(issuer="http://x.example", client_id="c", client_secret="s", label="l")  # noqa: S106


def test_without_authlib_a_configured_provider_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "authlib.oauth2.client", None)

    with pytest.raises(ConfigError, match=r"consilium\[oidc\]"):
        require_authlib()
