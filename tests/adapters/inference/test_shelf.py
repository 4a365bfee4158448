# SPDX-License-Identifier: Apache-2.0
"""What an operator keeps: nothing that cannot be carried out; what is revoked stays revoked."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from tests.adapters.inference.parties import card_of, owned
from tests.inference.programs import every_step, some_weights

from consilium.adapters.inference.publishing import compile_owned
from consilium.adapters.inference.shelf import Published, Shelf
from consilium.adapters.inference.talk import PutModel
from consilium.errors import AccessDenied, ConfigError, DataError, RemoteProtocolError
from consilium.inference.dealer import Adopt, Deal, Dealing, Idle, dealer_step
from consilium.inference.messages import MaskSeed, Material, ModelShare, WeightOpening
from consilium.inference.operator import Appointed, Publish, operator_step
from consilium.inference.program import Program
from consilium.inference.weights import pack_weights, split, split_size

NAME = b"n" * 32
PROGRAM = every_step()
CARD = msgspec.json.encode(card_of(owned(), compile_owned(owned(), None)))


def put(program: Program = PROGRAM, card: bytes = CARD) -> tuple[PutModel, PutModel]:
    drawn = os.urandom(split_size(PROGRAM))
    parts = split(PROGRAM, some_weights(PROGRAM), drawn)
    first, second = (
        PutModel(ModelShare(NAME, program, pack_weights(PROGRAM, part)), card) for part in parts
    )
    return first, second


def dealt(count: int) -> tuple[Dealing, list[MaskSeed], list[Material]]:
    """Returns both seeds, and operator 0's material."""
    seeds = (os.urandom(32), os.urandom(32))
    state, masks = dealer_step(Idle(), Adopt(publication=NAME, program=PROGRAM, seeds=seeds))
    materials = []
    for _ in range(count):
        fresh = (os.urandom(32), os.urandom(32), os.urandom(32))
        state, both = dealer_step(state, Deal(fresh))
        materials += [one for one in both[:1] if isinstance(one, Material)]
    assert isinstance(state, Dealing)
    return state, [one for one in masks if isinstance(one, MaskSeed)], materials


def ready(folder: Path, count: int = 2) -> Published:
    """Returns operator 0's publication with material."""
    first, second = put()
    _, masks, materials = dealt(count)
    shelf = Shelf(folder, first=True)
    shelf.put(first)
    published = shelf.get(NAME)
    published.take_seed(masks[0])
    _, said = operator_step(Appointed(first=False), Publish(second.share, masks[1]))
    assert isinstance(said[0], WeightOpening)
    published.hear_opening(said[0])
    for material in materials:
        published.materials.keep(material)
    return published


def test_a_publication_survives_a_restart(tmp_path: Path) -> None:
    ready(tmp_path)

    again = Shelf(tmp_path, first=True).get(NAME)

    assert again.ready
    assert again.materials.numbers() == (0, 1)
    assert again.prepared((0, 1)).numbers == (0, 1)


def test_a_revoked_publication_is_not_prepared_also_after_a_restart(tmp_path: Path) -> None:
    published = ready(tmp_path)
    published.revoke()

    for one in (published, Shelf(tmp_path, first=True).get(NAME)):
        assert one.revoked
        assert not one.prepare_ahead()
        with pytest.raises(AccessDenied, match="revoked by its owner"):
            one.prepared((0,))


def test_nothing_of_a_revoked_model_is_kept(tmp_path: Path) -> None:
    published = ready(tmp_path)
    words = published.put.share.words
    assert words in next(tmp_path.rglob("model")).read_bytes()

    published.revoke()

    whole = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert words[:64] not in whole
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "model",
        "revoked",
        "used",
    }
    with pytest.raises(AccessDenied, match="deal no more"):
        published.keep(dealt(1)[2][0])


def test_forgetting_goes_on_after_a_crash(tmp_path: Path) -> None:
    published = ready(tmp_path)
    folder = next(tmp_path.rglob("model")).parent
    (folder / "revoked").touch()

    again = Shelf(tmp_path, first=True).get(NAME)

    assert again.revoked
    assert again.put.share.words == b""
    assert not (folder / "seed").exists()
    assert published.card == again.card


def test_a_publication_has_one_seed(tmp_path: Path) -> None:
    published = ready(tmp_path)
    opening = published.opening

    with pytest.raises(DataError, match="has its seed"):
        published.take_seed(MaskSeed(NAME, os.urandom(32)))

    assert published.opening == opening


def test_a_false_seed_is_refused_and_not_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, first=True)
    shelf.put(put()[0])

    with pytest.raises(DataError, match="expected 32; deal another"):
        shelf.get(NAME).take_seed(MaskSeed(NAME, b"short"))

    assert Shelf(tmp_path, first=True).get(NAME).opening is None


def test_a_false_opening_is_refused_and_not_kept(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, first=True)
    shelf.put(put()[0])
    published = shelf.get(NAME)
    published.take_seed(dealt(0)[1][0])

    for opening in (WeightOpening(NAME, b"few"), WeightOpening(b"q" * 32, b"")):
        with pytest.raises(RemoteProtocolError):
            published.hear_opening(opening)

    assert not Shelf(tmp_path, first=True).get(NAME).ready


def test_a_name_comes_once(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, first=True)
    shelf.put(put()[0])

    with pytest.raises(DataError, match="here already"):
        shelf.put(put()[0])


def test_what_cannot_be_carried_out_is_not_kept(tmp_path: Path) -> None:
    shelf, (good, _) = Shelf(tmp_path, first=True), put()
    wrong = msgspec.structs.replace(PROGRAM, ring_bits=33)
    share = good.share

    for one, error in (
        (PutModel(msgspec.structs.replace(share, program=wrong), CARD), ConfigError),
        (
            PutModel(msgspec.structs.replace(share, words=share.words[:-1]), CARD),
            RemoteProtocolError,
        ),
        (PutModel(share, b"no JSON"), DataError),
        (PutModel(share, json.dumps({"name": "x"}).encode()), DataError),
    ):
        with pytest.raises(error):
            shelf.put(one)

    assert shelf.all() == Shelf(tmp_path, first=True).all() == ()


def test_material_is_prepared_ahead_and_once(tmp_path: Path) -> None:
    published = ready(tmp_path)

    assert [published.prepare_ahead() for _ in range(3)] == [True, True, False]
    published.prepared((0,))
    published.materials.mark((0,))
    assert not published.prepare_ahead()
    with pytest.raises(DataError, match="was used; take another"):
        published.prepared((0,))
    with pytest.raises(DataError, match="without material"):
        published.prepared(())


@pytest.mark.parametrize("kind", ["a short seed", "damaged", "gone"])
def test_material_that_cannot_be_used_is_put_away(tmp_path: Path, kind: str) -> None:
    published = ready(tmp_path, count=0)
    store, good = published.materials, dealt(1)[2][0]
    store.keep(msgspec.structs.replace(good, seed=b"short") if kind == "a short seed" else good)
    if kind == "damaged":
        store._path(0).write_bytes(b"\x01damaged")
    if kind == "gone":
        store._path(0).unlink()

    with pytest.raises(DataError, match="damaged and was put away"):
        published.prepared((0,))

    assert store.numbers() == ()
    with pytest.raises(DataError, match="dealt before"):
        store.keep(good)
