# SPDX-License-Identifier: Apache-2.0
"""What leaves a phone in the encrypted mode, recorded in whole sessions with real operators.

Two very different pictures are asked, each twice; what both operators received and answered, and
what the browser asked for, is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from playwright.sync_api import Browser
from scipy.stats import chisquare
from tests.adapters.inference.parties import owned
from tests.phone.asked import (
    Asked,
    Request,
    a_picture,
    chosen,
    encrypted_page,
    opened,
    secret_of,
    sent,
    words_of,
)
from tests.phone.made import encoded

from consilium.adapters.inference.pictures import read_pictures
from consilium.inference.ring import pack, unpack
from consilium.inference.sharing import to_reals, unshare
from consilium.learning.preprocessing import Preprocessing

pytestmark = pytest.mark.browser

BLACK, LUNG = "black.png", "lung.png"
PICTURES: Final = {BLACK: np.zeros((28, 28), np.uint8), LUNG: a_picture()}
ORDER: Final = (BLACK, LUNG, BLACK, LUNG)
RARE: Final = 1e-6  # that a right sharing fails one of these checks
CALLS: Final = {
    "GET v1 models",
    "OPTIONS v1 sessions SESSION",
    "POST v1 sessions SESSION",
    "OPTIONS v1 sessions SESSION answer",
    "GET v1 sessions SESSION answer",
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Four sessions.

    Attributes:
        asked: Whom, and what they received.
        browser: URLs that the browser asked for.
        folder: Of the pictures.
    """

    asked: Asked
    browser: list[str]
    folder: Path

    def uploads(self, k: int) -> list[Request]:
        """Returns the shares of session `k`, by operator."""
        return sorted(self.asked.uploads[2 * k : 2 * k + 2], key=lambda one: one.operator)

    def answers(self, k: int) -> list[Request]:
        """Returns the calls that fetched the answer of session `k`, by operator."""
        path = f"{self.uploads(k)[0].path}/answer"
        found = [
            one
            for one in self.asked.received
            if (one.method, one.path, one.status) == ("GET", path, 200)
        ]
        return sorted(found, key=lambda one: one.operator)


@pytest.fixture(scope="module")
def recorded(
    browser: Browser, assets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Recorded]:
    del assets
    folder = tmp_path_factory.mktemp("recorded")
    for name, levels in PICTURES.items():
        (folder / name).write_bytes(encoded(levels))
    context = browser.new_context(ignore_https_errors=True)
    urls: list[str] = []
    context.on("request", lambda one: urls.append(one.url))
    with encrypted_page(folder, stock=len(ORDER)) as asked:
        page = opened(context.new_page(), asked.url)
        for name in ORDER:
            chosen(page, (folder / name).read_bytes(), name)
            sent(page)
            assert page.inner_text("#answer"), name
        page.click("#delete")
        context.close()
        yield Recorded(asked=asked, browser=urls, folder=folder)


def uniform(data: bytes) -> float:
    """Returns how likely bytes at least as uneven as `data` are."""
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    return float(chisquare(counts).pvalue)


# -- Where it goes --------------------------------------------------------------------


def test_only_the_two_operators_are_asked(recorded: Recorded) -> None:
    page = recorded.asked.url
    elsewhere = {
        url for url in recorded.browser if not url.startswith((page, *recorded.asked.origins))
    }

    assert elsewhere == set()
    assert any(url.startswith(recorded.asked.origins[0]) for url in recorded.browser)


def test_only_the_documented_calls_are_made(recorded: Recorded) -> None:
    received = recorded.asked.received

    assert {one.line for one in received} <= CALLS
    assert sum(one.method == "POST" for one in received) == 2 * len(ORDER)
    publication = recorded.asked.offered.publication
    assert {one.query for one in received if one.method == "POST"} == {
        f"model={publication}&count=1"
    }
    assert all(not one.body for one in received if one.method != "POST")


def test_headers_say_nothing_of_a_picture(recorded: Recorded) -> None:
    """Sizes are those of any picture; whatever else the two differ in is drawn each time."""
    drawn = {"authorization"}
    told = [
        {name: value for name, value in one.headers.items() if name not in drawn | {"host"}}
        for one in recorded.asked.uploads
    ]

    assert all(one == told[0] for one in told)
    assert not {"cookie", "referer"} & set(told[0])
    assert "lung" not in str(told)


# -- What goes there ------------------------------------------------------------------


def test_the_sum_of_both_shares_is_the_picture(recorded: Recorded) -> None:
    for k, name in enumerate(ORDER):
        found = secret_of(recorded.uploads(k), recorded.asked.offered)

        assert np.array_equal(found, words_of(recorded.folder / name, recorded.asked.offered))


@pytest.mark.parametrize("picture", [BLACK, LUNG])
@pytest.mark.parametrize("operator", [0, 1])
def test_each_share_is_uniform(recorded: Recorded, picture: str, operator: int) -> None:
    bodies = b"".join(
        bytes(recorded.uploads(k)[operator].body) for k, name in enumerate(ORDER) if name == picture
    )

    assert uniform(bodies) > RARE


@pytest.mark.parametrize("picture", [BLACK, LUNG])
def test_the_test_of_uniformity_can_fail(recorded: Recorded, picture: str) -> None:
    offered = recorded.asked.offered
    plain = pack(words_of(recorded.folder / picture, offered), offered.program.ring_bits)

    assert uniform(plain) < RARE


def test_two_runs_of_a_picture_have_nothing_in_common(recorded: Recorded) -> None:
    size = recorded.asked.offered.program.ring_bits // 8
    for first, second in ((0, 2), (1, 3), (0, 1)):
        for operator in (0, 1):
            one, other = (
                np.frombuffer(bytes(recorded.uploads(k)[operator].body), np.uint8).reshape(-1, size)
                for k in (first, second)
            )
            assert not np.any(np.all(one == other, axis=1))


def test_no_body_holds_the_picture(recorded: Recorded) -> None:
    offered = recorded.asked.offered
    for k, name in enumerate(ORDER):
        file = (recorded.folder / name).read_bytes()
        levels = PICTURES[name].tobytes()
        plain = pack(words_of(recorded.folder / name, offered), offered.program.ring_bits)
        for one in recorded.uploads(k):
            body = bytes(one.body)
            assert len(body) == len(plain)
            for secret in (file, levels, plain):
                assert not any(secret[at : at + 8] in body for at in range(len(secret) - 7))


def test_an_answer_is_in_neither_share_of_it(recorded: Recorded) -> None:
    program, card = recorded.asked.offered.program, recorded.asked.offered.card
    shape = (len(card.classes),)
    for k, name in enumerate(ORDER):
        first, second = (
            unpack(bytes(one.answer), program.ring_bits, shape) for one in recorded.answers(k)
        )
        logits, *alone = (
            to_reals(one, program.unit, program.ring_bits)
            for one in (unshare(first, second, program.ring_bits), first, second)
        )

        assert np.allclose(logits, plain_logits(recorded, name), atol=1e-3)
        assert not any(np.any(np.isclose(one, logits, atol=1e-3)) for one in alone)


def plain_logits(recorded: Recorded, name: str) -> NDArray[np.float32]:
    card = recorded.asked.offered.card
    rule = Preprocessing(mean=card.mean, std=card.std)
    images = read_pictures([recorded.folder / name], card.about.input, rule)
    with torch.no_grad():
        found: NDArray[np.float32] = owned().model(torch.from_numpy(images)).numpy()[0]
    return found


# -- Who may fetch --------------------------------------------------------------------


def test_tokens_and_sessions_are_drawn_each_time(recorded: Recorded) -> None:
    uploads = recorded.asked.uploads
    tokens = [one.headers["authorization"].removeprefix("Bearer ") for one in uploads]
    sessions = [one.path.rpartition("/")[2] for one in uploads]

    assert len(set(tokens)) == 2 * len(ORDER)
    assert len(set(sessions)) == len(ORDER)
    assert {len(one) for one in tokens} == {64}
    assert {len(one) for one in sessions} == {32}


def test_no_operator_gets_the_other_ones_token(recorded: Recorded) -> None:
    tokens = {
        k: {
            one.headers.get("authorization") for one in recorded.asked.received if one.operator == k
        }
        for k in (0, 1)
    }

    assert tokens[0] & tokens[1] == {None}
