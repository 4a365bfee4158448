# SPDX-License-Identifier: Apache-2.0
"""Shares, seeds and tokens come from the operating system, anew each time; from nothing else."""

import ast
import random
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tests.adapters.inference.parties import (
    card_of,
    owned,
    publish_small,
    some_images,
    three_operators,
)

import consilium
from consilium.adapters.inference import asking, publishing
from consilium.adapters.inference.asking import Offered, Patient
from consilium.adapters.inference.dealing import Dealer
from consilium.adapters.inference.kit import Address, Operators, make_kits
from consilium.adapters.inference.publishing import compile_owned, publish
from consilium.adapters.inference.talk import Held, PutModel
from consilium.errors import DataError, RoundAborted
from consilium.inference.messages import InputShare, MaskSeed, Material
from consilium.wire import Message

SOURCE = Path(consilium.__file__).parent
FOLDERS = ("inference", "adapters/inference")
FALSE = {"random", "numpy.random", "torch.random", "uuid"}


class Stopped(Exception):
    """The source of randomness was asked, and has none."""


def stop(*_: object) -> bytes:
    raise Stopped


@pytest.fixture
def kits(tmp_path: Path) -> Path:
    first, second = (Address("127.0.0.1", 1 + 2 * k, 2 + 2 * k) for k in (0, 1))
    make_kits(tmp_path / "kits", Operators((first, second)))
    return tmp_path / "kits"


@pytest.fixture
def patient(kits: Path) -> Iterator[Patient]:
    made = Patient(kits)
    yield made
    made.close()


def offered() -> Offered:
    compiled = compile_owned(owned(), None)
    card = card_of(owned(), compiled)
    return Offered("ab" * 32, card, ready=True, images=1, program=compiled.program)


# -- The source -----------------------------------------------------------------------


def test_without_the_operating_system_no_image_is_shared(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consilium.adapters.inference.asking.secrets.token_bytes", stop)

    with pytest.raises(Stopped):
        patient.ask(offered(), some_images(1).numpy())


def test_without_the_operating_system_nothing_is_published(
    kits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = compile_owned(owned(), None)
    monkeypatch.setattr("consilium.adapters.randomness.os.urandom", stop)

    with pytest.raises(Stopped):
        publish(kits / "owner", compiled, card_of(owned(), compiled))


def test_without_the_operating_system_nothing_is_dealt(
    kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealer = Dealer(kits / "dealer", tmp_path / "data", stock=1)
    held = Held(b"p" * 32, compile_owned(owned(), None).program, seeded=False, numbers=())
    monkeypatch.setattr("consilium.adapters.randomness.os.urandom", stop)

    with pytest.raises(Stopped):
        dealer._serve_one(held, held)


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_other_generator_is_in_reach(folder: str) -> None:
    """No module of encrypted inference imports or names a seeded generator."""
    files = sorted((SOURCE / folder).glob("*.py"))
    assert len(files) > 8
    for file in files:
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not FALSE & {one.name for one in node.names}, file
            if isinstance(node, ast.ImportFrom):
                assert node.module not in FALSE, file
                assert "random" not in {one.name for one in node.names}, file
            if isinstance(node, ast.Attribute):
                assert node.attr not in {"random", "default_rng", "manual_seed", "randint"}, file


# -- Anew each time -------------------------------------------------------------------


def shares(patient: Patient, patch: pytest.MonkeyPatch) -> tuple[list[InputShare], list[bytes]]:
    """Returns the shares and tokens of one asking, which goes no further."""
    sent: list[InputShare] = []
    tokens: list[bytes] = []

    def upload(_: Patient, operator: int, share: InputShare, token: bytes) -> None:
        sent.append(share)
        tokens.append(token)
        if operator == 1:
            raise RoundAborted("enough")

    patch.setattr(Patient, "_upload", upload)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    with pytest.raises(RoundAborted):
        patient.ask(offered(), some_images(1).numpy())
    return sent, tokens


def test_one_image_is_shared_anew_each_time(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, tokens = shares(patient, monkeypatch)
    second, others = shares(patient, monkeypatch)

    assert first[0].session == first[1].session != second[0].session
    assert len({*tokens, *others}) == 4
    for one, other in zip(first, second, strict=True):
        alike = np.frombuffer(one.words, np.uint8) == np.frombuffer(other.words, np.uint8)
        assert alike.mean() < 0.05  # 1/256 by chance


def test_one_model_is_shared_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Message] = []
    monkeypatch.setattr(publishing, "_tell", lambda _, messages: told.extend(messages))
    compiled = compile_owned(owned(), None)
    for _ in (0, 1):
        torch.manual_seed(0)
        publish(Path(), compiled, card_of(owned(), compiled))

    parts = [one.share for one in told if isinstance(one, PutModel)]
    assert len(parts) == 4
    assert parts[0].publication == parts[1].publication != parts[2].publication
    for one, other in ((0, 1), (0, 2), (1, 3)):
        pair = (np.frombuffer(parts[k].words, np.uint8) for k in (one, other))
        assert np.equal(*pair).mean() < 0.05


def test_every_seed_of_the_dealer_is_another(
    kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt: list[MaskSeed | Material] = []
    monkeypatch.setattr(Dealer, "_put", lambda _, __, message: dealt.append(message))
    program = compile_owned(owned(), None).program
    for name in (b"p" * 32, b"q" * 32):
        dealer = Dealer(kits / "dealer", tmp_path / "data", stock=3)
        for seeded in (False, True, True):
            held = Held(name, program, seeded=seeded, numbers=())
            dealer._serve_one(held, held)

    seeds = [one.seed for one in dealt]
    assert len(seeds) == len(set(seeds)) == 12
    numbers = [one.number for one in dealt if isinstance(one, Material)]
    assert numbers == [0, 0, 1, 1] * 2


def test_a_dealer_set_back_or_new_deals_no_masks_beside_others(kits: Path, tmp_path: Path) -> None:
    dealer = Dealer(kits / "dealer", tmp_path / "data", stock=3)
    program = compile_owned(owned(), None).program
    one, other = (Held(b"p" * 32, program, seeded=flag, numbers=()) for flag in (True, False))

    for pair in ((one, other), (other, one), (one, one)):
        with pytest.raises(DataError, match="did not adopt this publication"):
            dealer._serve_one(*pair)


def test_a_number_is_on_the_disk_before_its_material_leaves(
    kits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a dealer that is killed meanwhile does not deal it again."""
    written: list[int] = []
    held = Held(b"p" * 32, compile_owned(owned(), None).program, seeded=True, numbers=())
    monkeypatch.setattr(Dealer, "_put", lambda self, _, __: written.append(self._read(held).number))
    dealer = Dealer(kits / "dealer", tmp_path / "data", stock=3)
    dealer._seed(*(msgspec.structs.replace(held, seeded=False),) * 2)
    dealer._serve_one(held, held)

    again = Dealer(kits / "dealer", tmp_path / "data", stock=3)
    again._serve_one(held, held)

    assert written == [0, 0, 1, 1, 2, 2]


@pytest.mark.slow
def test_two_askings_of_one_image_put_nothing_alike_on_the_wire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[list[bytes]] = []
    plain = asking.Patient._upload

    def upload(self: Patient, operator: int, share: InputShare, token: bytes) -> None:
        said[-1].append(share.words)
        plain(self, operator, share, token)

    monkeypatch.setattr(Patient, "_upload", upload)
    with three_operators(tmp_path) as parties:
        publish_small(parties)
        (found,) = parties.patient.models()
        for _ in (0, 1):
            said.append([])
            parties.patient.ask(found, some_images(1).numpy())

    for one, other in zip(*said, strict=True):
        assert (np.frombuffer(one, np.uint8) == np.frombuffer(other, np.uint8)).mean() < 0.05
