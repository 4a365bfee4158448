# SPDX-License-Identifier: Apache-2.0
"""What a patient knows before anything is shared: whose model it is, and what it looks at."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from tests.adapters.inference.parties import (
    Parties,
    card_of,
    owned,
    stocked,
    three_operators,
    until,
)
from tests.phone.made import CHEST, chest, encoded, exported, finished, fundus, photograph

from consilium.adapters.device import DeviceModel
from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.pictures import read_pictures, sort_pictures
from consilium.adapters.inference.public_card import Card, check_card, read_card
from consilium.adapters.inference.publishing import compile_owned, publish
from consilium.adapters.model_card import Input
from consilium.adapters.picture_input import kind_numbers
from consilium.cli.encrypted import run_infer
from consilium.cli.inferring import InferRequest
from consilium.errors import AccessDenied, DataError
from consilium.inference.compiler import Compiled
from consilium.learning.preprocessing import Preprocessing

GREY = Input(channels=1, size=64, frame="squash")


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_owned(owned(), None)


@pytest.fixture(scope="module")
def card(compiled: Compiled) -> Card:
    return card_of(owned(), compiled, CHEST)


@pytest.fixture
def parties(tmp_path: Path, compiled: Compiled, card: Card) -> Iterator[Parties]:
    with three_operators(tmp_path, stock=1) as found:
        name = publish(found.kits / "owner", compiled, card)
        until(lambda: stocked(found, name, 1))
        yield found


def file(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def request(parties: Parties, *images: Path, publisher: str | None = None) -> InferRequest:
    return InferRequest(
        images=images,
        operators=parties.kits,
        mode="encrypted",
        model=None,
        publisher=publisher,
        json=True,
    )


# -- The card ---------------------------------------------------------------------------


def test_a_card_tells_what_an_exported_one_does(card: Card) -> None:
    told = read_card(msgspec.json.encode(card)).about

    assert (told.task, told.temperature, told.privacy.private) == ("classification", 1.0, True)
    assert [one.right_of_ten for one in told.certainties] == [5, 9]
    assert told.kind is not None
    assert told.kind.name == "chest-x-ray"


@pytest.mark.parametrize("field", ["name", "classes", "mean", "about", "ranges"])
def test_a_changed_card_is_refused(card: Card, field: str) -> None:
    other = {
        "name": "another",
        "classes": card.classes[::-1],
        "mean": 0.1,
        "ranges": "none",
        "about": msgspec.structs.replace(card.about, kind=None),
    }
    changed = msgspec.structs.replace(card, **{field: other[field]})

    with pytest.raises(AccessDenied, match="is not as 'Dr Weber' signed it"):
        check_card(changed)


@pytest.mark.parametrize("written", [b"", b"{}", b"\xff", b'{"permission": "device"}'])
def test_what_is_no_card_is_refused(written: bytes) -> None:
    with pytest.raises(DataError, match="the public card cannot be read"):
        read_card(written)


def test_two_operators_that_show_a_forged_card_are_not_asked(parties: Parties, card: Card) -> None:
    for operator in parties.operators:
        (published,) = operator.shelf.all()
        published.card = msgspec.structs.replace(card, name="free of charge")

    with pytest.raises(AccessDenied, match="is not as 'Dr Weber' signed it"):
        parties.patient.models()


# -- Before anything is shared ------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(photograph()), r"a chest X-ray \(it is in colour\); nothing of it was sent"),
        (encoded(255 - chest()), "does not look like a chest X-ray; nothing of it was sent"),
        (b"no picture", "wrong extension"),
    ],
)
def test_another_kind_of_picture_stays_here(
    parties: Parties, tmp_path: Path, data: bytes, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = file(tmp_path, "b.png", data)
    asked: list[object] = []
    monkeypatch.setattr(Patient, "ask", lambda *arguments: asked.append(arguments))

    with pytest.raises(DataError, match=f"b.png.*{words}"):
        run_infer(request(parties, bad))

    assert asked == []


def test_another_publisher_is_not_asked(
    parties: Parties, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Patient, "ask", lambda *arguments: asked.append(arguments))
    good = file(tmp_path, "a.png", encoded(chest()))

    with pytest.raises(AccessDenied, match=r"published by 'Dr Weber' .* nothing was sent"):
        run_infer(request(parties, good, publisher="lusab babad babab babab babab babab"))

    assert asked == []


def test_a_picture_of_the_kind_is_answered(
    parties: Parties, tmp_path: Path, card: Card, capsys: pytest.CaptureFixture[str]
) -> None:
    good = file(tmp_path, "a.png", encoded(chest()))

    run_infer(request(parties, good, publisher=card.publisher.words()))

    said = msgspec.json.decode(capsys.readouterr().out)
    assert said["batches"][0]["images"][0]["class"] in card.classes


def test_without_a_kind_every_picture_passes(tmp_path: Path) -> None:
    files = [file(tmp_path, "a.png", encoded(photograph()))]

    good, _, bad = sort_pictures(files, GREY, Preprocessing(), None)

    assert (good, bad) == (files, [])


def test_of_several_pictures_the_strange_one_is_named(tmp_path: Path) -> None:
    files = [
        file(tmp_path, "a.png", encoded(chest())),
        file(tmp_path, "b.png", encoded(fundus())),
    ]

    good, images, bad = sort_pictures(files, GREY, Preprocessing(), kind_numbers(CHEST))

    assert (good, images.shape) == (files[:1], (1, 1, 64, 64))
    assert [one.file for one in bad] == files[1:]
    assert "b.png does not look like a chest X-ray" in bad[0].reason


def test_pictures_are_framed_as_on_the_device(tmp_path: Path) -> None:
    wide = file(tmp_path, "wide.png", encoded(chest(side=300, height=200)))
    device = DeviceModel.load(exported(tmp_path, finished()))
    rule = Preprocessing()

    found = read_pictures([wide], device.card.input, rule)

    seen = device.look(wide.read_bytes(), wide.name).levels
    assert np.array_equal(found, rule.inputs(seen[None]).numpy())
