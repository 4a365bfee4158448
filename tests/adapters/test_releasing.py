# SPDX-License-Identifier: Apache-2.0
"""A permission is obeyed wherever a model goes: every permission against every way out."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
import pytest
from tests.adapters.conftest import make_run
from tests.adapters.inference.parties import card_of, owned
from tests.governance.test_model_permits import COMBINATIONS
from tests.phone.made import CHEST, NOW, exported, finished, released

from consilium.adapters.dataset import Dataset
from consilium.adapters.device import DeviceModel
from consilium.adapters.finished_models import FinishedModel, Papers, load_finished, read_papers
from consilium.adapters.inference.public_card import Card, read_card
from consilium.adapters.inference.publishing import compile_owned, make_card
from consilium.adapters.inference.shelf import Shelf
from consilium.adapters.inference.talk import PutModel
from consilium.adapters.model_card import ModelCard, card_path, decode_card, encode_card, read_model
from consilium.adapters.onnx_export import Wishes, export_model
from consilium.adapters.releasing import Release, Wanted, release_of
from consilium.adapters.stage import NobodyWatches
from consilium.adapters.training import train_arm
from consilium.cli import phone_page
from consilium.errors import AccessDenied, ConfigError
from consilium.governance.model_permissions import HOLDING, Use, permissions_of
from consilium.governance.model_permits import (
    PERMIT,
    Permit,
    Signer,
    encode_permit,
    may_use_under,
    sign_permit,
)
from consilium.inference.compiler import Compiled
from consilium.inference.messages import ModelShare
from consilium.inference.weights import pack_weights, split, split_size

OWNER: Final = Signer("Dr Weber", bytes(32))
OFFICE: Final = Signer("centre", bytes([7] * 32))
STRANGER: Final = Signer("centre", bytes([8] * 32))


def permit_for(*words: str, signer: Signer = OWNER, weights: str = "0" * 64) -> Permit:
    own = released(finished(), "device").permit
    claim = msgspec.structs.replace(own, permissions=permissions_of(words), weights=weights)
    return sign_permit(claim, signer)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("once"), finished("logistic", shape=(1, 28, 28)))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_owned(owned(), None)


@pytest.fixture(scope="module")
def public(compiled: Compiled) -> Card:
    return card_of(owned(), compiled, CHEST)


def with_permit(model: Path, folder: Path, permit: Permit, signer: Signer = OWNER) -> Path:
    """Returns a copy of an exported model whose card holds another permit, signed."""
    _, card = read_model(model)
    changed = msgspec.structs.replace(card, permit=permit, publisher=signer.publisher)
    shutil.copy(model, folder)
    signature = signer.sign(changed)
    written = encode_card(msgspec.structs.replace(changed, signature=signature))
    card_path(folder / model.name).write_bytes(written)
    return folder / model.name


# -- Every permission against every way out -----------------------------------------------

WAYS: Final[dict[str, tuple[Use, ...]]] = {
    "export": HOLDING,
    "phone build": (Use.DEVICE,),
    "phone serve": (Use.DEVICE,),
    "in Python": HOLDING,
    "publish": (Use.ENCRYPTED_INFERENCE,),
    "operator": (Use.ENCRYPTED_INFERENCE,),
}


class Reached(Exception):
    """The command did what comes after the question."""


def reach(*_arguments: object, **_named: object) -> None:
    raise Reached


@pytest.fixture
def ways(
    model: Path,
    tmp_path: Path,
    compiled: Compiled,
    public: Card,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Callable[[Permit], object]]:
    """What each command does with a permit; past the question it stops."""
    monkeypatch.setattr("consilium.adapters.onnx_export.picture_rule", reach)
    monkeypatch.setattr("consilium.adapters.device.session_of", reach)
    monkeypatch.setattr("consilium.web.phone.pages._built", reach)
    monkeypatch.setattr("consilium.adapters.inference.publishing.Card", reach)
    made = finished("logistic", shape=(1, 28, 28))
    out, page = tmp_path / "m.onnx", tmp_path / "page"

    def operate(permit: Permit) -> None:
        changed = msgspec.structs.replace(public, permit=permit)
        signed = msgspec.structs.replace(changed, signature=OWNER.sign(changed))
        read_card(msgspec.json.encode(signed))
        raise Reached

    def changed_model(permit: Permit) -> Path:
        return with_permit(model, tmp_path, permit)

    def on_page(permit: Permit) -> phone_page.Wanted:
        return phone_page.Wanted(model=changed_model(permit), operators=None, name=None)

    def wishes(permit: Permit) -> Wishes:
        return Wishes(release=Release(permit=permit, signer=OWNER))

    return {
        "export": lambda permit: export_model(made, out, wishes(permit)),
        "phone build": lambda permit: phone_page.build(on_page(permit), page, as_json=False),
        "phone serve": lambda permit: phone_page.serve(
            on_page(permit), ("127.0.0.1", 0), certificate=None, key=None
        ),
        "in Python": lambda permit: DeviceModel.load(changed_model(permit)),
        "publish": lambda permit: make_card(
            owned(), compiled, public.about, Release(permit=permit, signer=OWNER)
        ),
        "operator": operate,
    }


@pytest.mark.parametrize("promise", [True, False], ids=["private", "no guarantee"])
@pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_out_obeys(
    ways: dict[str, Callable[[Permit], object]], way: str, words: tuple[str, ...], *, promise: bool
) -> None:
    permit = permit_for(*words)
    if not promise:
        permit = sign_permit(msgspec.structs.replace(permit, epsilon=None), OWNER)
    allowed = any(may_use_under(permit, use).allowed for use in WAYS[way])

    with pytest.raises(
        Reached if allowed else AccessDenied, match=None if allowed else "its owner"
    ):
        ways[way](permit)


# -- What was changed on the way ----------------------------------------------------------


def test_a_permit_that_promises_more_than_the_run_is_refused(model: Path, tmp_path: Path) -> None:
    wide = sign_permit(msgspec.structs.replace(permit_for("device"), epsilon=0.01), OWNER)

    with pytest.raises(AccessDenied, match=r"says epsilon 0\.01, and the privacy statement 2\.59"):
        read_model(with_permit(model, tmp_path, wide))


@pytest.mark.parametrize("path", ["name", "sha256", "classes", "privacy", "sentence", "signature"])
def test_a_changed_card_is_refused(model: Path, path: str) -> None:
    card = json.loads(card_path(model).read_text())
    card[path] = _another(card[path])

    with pytest.raises(AccessDenied, match=r"the card of model .* is not as 'Dr Weber' signed it"):
        decode_card(json.dumps(card).encode())


def _another(value: object) -> object:
    match value:
        case str():
            return value[::-1] + "0"
        case list():
            return value[::-1]
        case dict():
            return value | {"trusted": "everybody"}
        case _:
            raise TypeError(type(value).__name__)


def test_a_widened_permit_in_a_card_signed_anew_is_refused(model: Path, tmp_path: Path) -> None:
    wide = msgspec.structs.replace(
        permit_for("device"), permissions=permissions_of(["device", "download"])
    )

    with pytest.raises(AccessDenied, match="the permit of model 'made-up' is not as"):
        read_model(with_permit(model, tmp_path, wide, STRANGER))


def test_who_signs_a_card_anew_has_other_words(model: Path, tmp_path: Path) -> None:
    again = with_permit(model, tmp_path, permit_for("device"), STRANGER)

    assert read_model(again)[1].publisher.words() != read_model(model)[1].publisher.words()


def test_other_weights_under_a_card_are_refused(model: Path, tmp_path: Path) -> None:
    copy = with_permit(model, tmp_path, permit_for("device"))
    copy.write_bytes(copy.read_bytes() + b"\0")

    with pytest.raises(ConfigError, match="has the digest"):
        read_model(copy)


def test_an_operator_keeps_nothing_of_a_forged_card(
    tmp_path: Path, compiled: Compiled, public: Card
) -> None:
    program, name = compiled.program, bytes(32)
    part = split(program, compiled.weights, bytes(split_size(program)))[0]
    forged = msgspec.structs.replace(public, name="another")
    share = ModelShare(name, program, pack_weights(program, part))
    shelf = Shelf(tmp_path, first=True)

    with pytest.raises(AccessDenied, match="is not as 'Dr Weber' signed it"):
        shelf.put(PutModel(share, msgspec.json.encode(forged)))

    assert shelf.all() == ()
    assert Shelf(tmp_path, first=True).all() == ()


# -- Whose model it is --------------------------------------------------------------------


@pytest.fixture(scope="module")
def office_run(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> Path:
    """What a run for an office leaves behind."""
    folder = tmp_path_factory.mktemp("office")
    run = make_run(folder / "runs" / "federated-dp-seed0", "federated-dp", {"training.rounds": "1"})
    run.folder.mkdir(parents=True)
    train_arm(replace(run, office=OFFICE.publisher), digits, NobodyWatches())
    (folder / "project.toml").write_text(run.project.resolved())
    return folder


@pytest.fixture
def office_copy(office_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(office_run, tmp_path / "office"))


def lay(folder: Path, permit: Permit) -> None:
    (folder / "runs/federated-dp-seed0" / PERMIT).write_bytes(encode_permit(permit))


def weights_of(folder: Path) -> str:
    return read_papers(folder).weights


def ask(folder: Path, *words: str, uses: tuple[Use, ...] = HOLDING) -> Release:
    wanted = Wanted(uses=uses, words=words, narrowest="device")
    return release_of(load_finished(folder), read_papers(folder), wanted, OWNER, NOW)


def office_permit(folder: Path, *words: str, signer: Signer = OFFICE) -> Permit:
    claim = permit_for(*words, signer=signer, weights=weights_of(folder))
    epsilon = max(one.epsilon for one in load_finished(folder).result.statement.guarantees)
    return sign_permit(msgspec.structs.replace(claim, epsilon=epsilon), signer)


def test_an_office_that_said_nothing_said_no(office_copy: Path) -> None:
    with pytest.raises(AccessDenied, match=r"belongs to office 'centre' .* ask there for `consil"):
        ask(office_copy)
    with pytest.raises(AccessDenied, match="belongs to office"):
        ask(office_copy, "download")


def test_an_office_decides(office_copy: Path) -> None:
    permit = office_permit(office_copy, "device")
    lay(office_copy, permit)

    release = ask(office_copy)

    assert release.permit == permit
    assert release.signer.publisher == OWNER.publisher


def test_encrypted_only_is_not_exported_and_is_published(office_copy: Path) -> None:
    lay(office_copy, office_permit(office_copy, "encrypted-only"))

    with pytest.raises(AccessDenied, match="only encrypted inference is allowed"):
        ask(office_copy)
    assert ask(office_copy, uses=(Use.ENCRYPTED_INFERENCE,)).permit.publisher == OFFICE.publisher


def test_an_exporter_does_not_widen_what_an_office_said(office_copy: Path) -> None:
    lay(office_copy, office_permit(office_copy, "device"))

    with pytest.raises(ConfigError, match="decides already; expected one of them"):
        ask(office_copy, "download")


def test_a_permit_of_a_stranger_is_refused(office_copy: Path) -> None:
    lay(office_copy, office_permit(office_copy, "download", signer=STRANGER))

    with pytest.raises(AccessDenied, match="expected that office's own"):
        read_papers(office_copy)


def test_a_permit_of_other_weights_is_refused(office_copy: Path) -> None:
    lay(office_copy, permit_for("device", signer=OFFICE))

    with pytest.raises(AccessDenied, match="expected those that belong together"):
        read_papers(office_copy)


def test_an_own_model_is_its_holders_to_decide() -> None:
    made = finished()

    assert released(made).permit.permissions.words() == ("device",)
    assert released(made, "download").permit.permissions.words() == ("download",)


def test_an_own_model_without_a_guarantee_stays() -> None:
    made: FinishedModel = finished(arm="federated")
    papers = Papers(weights="0" * 64, office=None, permit=None)
    everything = ("download", "device", "remote-inference")

    with pytest.raises(AccessDenied, match="carries no privacy guarantee"):
        release_of(
            made,
            papers,
            Wanted(uses=HOLDING, words=everything, narrowest="device"),
            OWNER,
            NOW,
        )


def test_a_card_says_who_allowed_it(model: Path) -> None:
    card: ModelCard = read_model(model)[1]

    assert card.permit.permissions.words() == ("device",)
    assert (card.publisher, card.permit.publisher) == (OWNER.publisher, OWNER.publisher)
