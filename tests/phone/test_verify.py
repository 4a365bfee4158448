# SPDX-License-Identifier: Apache-2.0
"""The page's check of a card, in a real browser: what Python signed, and what somebody changed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from playwright.sync_api import Page
from tests.adapters.inference.parties import card_of, owned
from tests.phone import made
from tests.phone.made import released

from consilium.adapters.inference.publishing import compile_owned
from consilium.adapters.model_card import ModelCard, card_path
from consilium.governance.model_permissions import WORDS, Use, permissions_of
from consilium.governance.model_permits import may_use_under

pytestmark = pytest.mark.browser
Json: TypeAlias = dict[str, Any]
Ask: TypeAlias = Callable[[object], Json]
SOURCE = Path(__file__).parents[2] / "web-build/phone/source/verify.js"
ASK = """async (card) => {
    const { verifyCard, allows } = await import("/verify.js");
    const uses = ["device", "encrypted-inference"];
    return { ...await verifyCard(card), uses: card.permit && uses.filter((u) => allows(card, u)) };
}"""


@pytest.fixture
def asked(phone: Page) -> Ask:
    """Asks verify.js, as a page of a place that is not there."""
    script = SOURCE.read_text()
    phone.route(
        "https://page.test/**",
        lambda route: route.fulfill(
            body=script if "verify" in route.request.url else "<!doctype html>",
            content_type="text/javascript" if "verify" in route.request.url else "text/html",
        ),
    )
    phone.goto("https://page.test/")
    return lambda card: phone.evaluate(ASK, card)


@pytest.fixture(scope="module")
def card(model: Path) -> Json:
    return msgspec.json.decode(card_path(model).read_bytes(), type=dict[str, Any])


def with_change(card: Json, path: str, value: object) -> Json:
    copy = msgspec.json.decode(msgspec.json.encode(card), type=dict[str, Any])
    place: Any = copy
    *inside, last = path.split(".")
    for name in inside:
        place = place[name]
    place[last] = value
    return copy


def test_what_python_signed_is_signed(asked: Ask, card: Json) -> None:
    words = released(made.finished()).signer.publisher.words()

    assert asked(card) == {
        "state": "signed",
        "name": "Dr Weber",
        "words": words,
        "owner": {"name": "Dr Weber", "words": words},
        "uses": ["device", "encrypted-inference"],
    }


def test_the_card_of_an_encrypted_publication_is_signed(
    asked: Ask,
) -> None:
    model = owned()
    public = card_of(model, compile_owned(model, None), made.CHEST)

    found = asked(msgspec.json.decode(msgspec.json.encode(public)))

    assert (found["state"], found["uses"]) == ("signed", ["encrypted-inference"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sha256", "0" * 64),
        ("name", "another"),
        ("permit.permissions.allow_download", True),
        ("permit.weights", "1" * 64),
        ("permit.epsilon", 0.001),
        ("publisher.key", "3d" * 32),
        ("publisher.name", "Charité"),
        ("signature", "00" * 64),
        ("signature", "none"),
        ("permit", None),
        ("more", 1),
    ],
)
def test_what_was_changed_is_forged(asked: Ask, card: Json, path: str, value: object) -> None:
    assert asked(with_change(card, path, value))["state"] == "forged"


def test_another_permit_under_a_good_signature_is_forged(asked: Ask, card: Json) -> None:
    """Somebody signs a card of their own around a permit that they widened."""
    made_by = released(made.finished()).signer
    wide = with_change(card, "permit.permissions.allow_download", True)
    read = msgspec.convert(wide, ModelCard)
    signature = made_by.sign(read)

    assert asked(with_change(wide, "signature", signature))["state"] == "forged"


def test_a_browser_without_the_curve_says_so(asked: Ask, card: Json, phone: Page) -> None:
    phone.evaluate(
        """() => { crypto.subtle.importKey = async () => {
            throw new DOMException("no such algorithm", "NotSupportedError"); } }"""
    )

    assert asked(card)["state"] == "unsupported"


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("epsilon", [None, 1.0])
def test_rules_are_the_same_in_both_languages(asked: Ask, word: str, epsilon: float | None) -> None:
    own = released(made.finished()).permit
    permit = msgspec.structs.replace(own, permissions=permissions_of([word]), epsilon=epsilon)
    both = (Use.DEVICE, Use.ENCRYPTED_INFERENCE)

    found = asked({"permit": msgspec.to_builtins(permit)})["uses"]

    assert found == [str(use) for use in both if may_use_under(permit, use).allowed]
