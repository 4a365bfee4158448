# SPDX-License-Identifier: Apache-2.0
"""Recorded shares: Python and the phone page's JavaScript make the same of the same."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser
from tests.phone.write_vectors import PATH, make

from consilium.errors import DataError, RemoteProtocolError
from consilium.inference.ring import pack, ring, unpack, word
from consilium.inference.sharing import share, to_reals, to_ring, unshare
from consilium.learning.preprocessing import Preprocessing

RECORDED: dict[str, Any] = json.loads(PATH.read_text())
VECTORS: list[dict[str, Any]] = RECORDED["vectors"]
REFUSED = [{**VECTORS[0], **changes} for changes in RECORDED["refused"]]
SCRIPT = Path(__file__).parents[2] / "web-build/phone/source/shares.js"
LOAD = "async (code) => { window.shares = await import(`data:text/javascript;base64,${code}`); }"
ASK = """
(vector) => {
    const bytes = (text) => Uint8Array.from(text.match(/../g), (one) => parseInt(one, 16));
    const text = (all) => Array.from(all, (one) => one.toString(16).padStart(2, "0")).join("");
    const { fixedPoint, opened, secondShare, shareSize } = window.shares;
    const levels = Uint8Array.from(vector.levels);
    const words = fixedPoint(levels, vector.image, vector, vector);
    if (!words) return { refused: "image" };
    const first = bytes(vector.shares[0]);
    const logits = opened(vector.answer_shares.map(bytes), 5, vector);
    if (!logits) return { refused: "answer" };
    return {
        words: Array.from(words),
        size: shareSize(words.length, vector.ring_bits),
        second: text(secondShare(words, first, vector.ring_bits)),
        logits,
    };
}
"""


def names(vectors: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in vectors]


def words_of(vector: dict[str, Any]) -> np.typing.NDArray[np.unsignedinteger]:
    height, width, channels = vector["image"]
    rule = Preprocessing(
        mean=vector["mean"],
        std=vector["std"],
        standardise_each_image=vector["standardise_each_image"],
    )
    levels = np.array(vector["levels"], np.uint8).reshape(1, channels, height, width)
    image = rule.inputs(levels).numpy().transpose(0, 2, 3, 1)
    return to_ring(image, vector["image_fraction"], vector["ring_bits"]).reshape(-1)


def logits_of(vector: dict[str, Any]) -> list[float]:
    bits = vector["ring_bits"]
    first, second = (unpack(bytes.fromhex(one), bits, (5,)) for one in vector["answer_shares"])
    logits: list[float] = to_reals(unshare(first, second, bits), vector["unit"], bits).tolist()
    return logits


def test_the_file_can_be_made_again() -> None:
    assert json.loads(json.dumps(make())) == RECORDED


@pytest.mark.parametrize("vector", VECTORS, ids=names(VECTORS))
def test_python_makes_these_shares(vector: dict[str, Any]) -> None:
    bits, secret = vector["ring_bits"], words_of(vector)
    first = unpack(bytes.fromhex(vector["shares"][0]), bits, secret.shape)

    parts = share(secret, first.astype(word(bits)).tobytes(), bits)

    assert np.array_equal(secret, ring(np.array(vector["words"], np.int64), bits))
    assert [pack(part, bits).hex() for part in parts] == vector["shares"]
    assert logits_of(vector) == vector["logits"]


@pytest.mark.parametrize("vector", REFUSED, ids=names(REFUSED))
def test_python_refuses_these(vector: dict[str, Any]) -> None:
    with pytest.raises((DataError, RemoteProtocolError)):
        (words_of(vector), logits_of(vector))


@pytest.mark.browser
def test_a_browser_makes_the_same(browser: Browser) -> None:
    page = browser.new_page()
    page.evaluate(LOAD, base64.b64encode(SCRIPT.read_bytes()).decode())

    for vector in VECTORS:
        found = page.evaluate(ASK, vector)

        assert found["words"] == vector["words"], vector["name"]
        assert found["size"] == len(vector["shares"][0]) // 2
        assert found["second"] == vector["shares"][1], vector["name"]
        assert found["logits"] == vector["logits"], vector["name"]
    assert [page.evaluate(ASK, one) for one in REFUSED] == [
        {"refused": "image"},
        {"refused": "answer"},
        {"refused": "answer"},
    ]
    page.close()
