# SPDX-License-Identifier: Apache-2.0
"""Operators, dealer, owner and patient over real TLS on this machine."""

import threading
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec import Struct
from msgspec.msgpack import Decoder
from tests.adapters.inference.parties import (
    owned,
    publish_small,
    some_images,
    start_operator,
    stocked,
    three_operators,
    until,
)

from consilium import wire
from consilium.adapters.inference.asking import Patient
from consilium.adapters.inference.links import Link, LinkBroken, dial
from consilium.adapters.inference.publishing import revoke
from consilium.adapters.inference.talk import REPLY, AskStatus, Done, Refused, Status
from consilium.errors import DataError, RoundAborted
from consilium.inference.messages import InputShare


def test_a_batch_is_answered_and_its_material_is_gone(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        parties.dealing.clear()
        time.sleep(0.5)
        before = parties.operators[1].shelf.get(name).materials.numbers()
        (offered,) = parties.patient.models()

        found = parties.patient.ask(offered, some_images(2).numpy())

        with torch.no_grad():
            plain = owned().model(some_images(2)).numpy()
        assert np.abs(found.logits - plain).max() < 1e-3
        assert found.facts[0]["rounds"] == found.facts[1]["rounds"] > 20
        for operator in parties.operators:
            left = operator.shelf.get(name).materials.numbers()
            assert left == before[2:]


def test_too_many_images_for_the_material_are_refused(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        publish_small(parties)
        (offered,) = parties.patient.models()

        with pytest.raises(DataError, match=r"material for \d+ images is left and 20"):
            parties.patient.ask(offered, some_images(20).numpy())


def test_a_revoked_model_is_refused_and_not_listed(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        (offered,) = parties.patient.models()

        revoke(parties.kits / "owner", name)

        with pytest.raises(DataError, match="revoked by its owner"):
            parties.patient.ask(offered, some_images(1).numpy())
        assert parties.patient.models() == ()


def test_an_operator_that_is_away_is_named(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        publish_small(parties)
        (offered,) = parties.patient.models()
        parties.servers[1].should_exit = True
        time.sleep(0.5)

        with pytest.raises(RoundAborted, match="operator 1 does not answer"):
            parties.patient.ask(offered, some_images(1).numpy())


def test_a_peer_that_is_away_ends_the_session_with_a_reason(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        publish_small(parties)
        (offered,) = parties.patient.models()
        parties.operators[1].close()

        with pytest.raises((DataError, RoundAborted), match="operator"):
            parties.patient.ask(offered, some_images(1).numpy())


def test_a_restarted_operator_reuses_nothing(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        parties.dealing.clear()
        (offered,) = parties.patient.models()
        parties.patient.ask(offered, some_images(1).numpy())
        left = parties.operators[1].shelf.get(name).materials.numbers()
        parties.servers[1].should_exit = True
        parties.operators[1].close()
        time.sleep(0.7)

        parties.operators[1], parties.servers[1] = start_operator(parties.kits, 1)

        assert parties.operators[1].shelf.get(name).materials.numbers() == left
        assert 0 not in left


def test_a_party_may_ask_only_what_is_its_business(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        address = parties.operators[0]._addresses[0]
        with dial(parties.kits / "owner", address, "operator-0") as link:
            link.say(AskStatus())
            reply = link.hear(REPLY)

        assert reply == Refused("owner may not ask for AskStatus")


def test_a_stranger_is_not_an_operator(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        address = parties.operators[1]._addresses[1]
        with pytest.raises(LinkBroken, match="is 'operator-1'; expected operator-0"):
            dial(parties.kits / "dealer", address, "operator-0")


def test_the_dealer_fills_the_stock_again(tmp_path: Path) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        (offered,) = parties.patient.models()
        parties.patient.ask(offered, some_images(2).numpy())

        until(lambda: stocked(parties, name, 3))


def test_operators_that_describe_a_model_differently_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        published = parties.operators[1].shelf.get(name)
        card = msgspec.structs.replace(published.card, classes=("severe", "mild", "none"))
        monkeypatch.setattr(published, "card", card)

        with pytest.raises(DataError, match="describe a model differently"):
            parties.patient.models()


def test_what_is_no_list_of_models_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with three_operators(tmp_path) as parties:
        monkeypatch.setattr(
            "consilium.adapters.inference.public_end._described", lambda _: {"other": 1}
        )
        publish_small(parties)

        with pytest.raises(DataError, match="operator 0 answers with what is no list of models"):
            parties.patient.models()


# -- Who hears what -------------------------------------------------------------------


def test_the_dealer_hears_what_is_missing_and_nothing_of_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[bytes] = []
    plain = Link.hear

    def hear(self: Link, decoder: Decoder[Struct], patience: float = 30.0) -> Struct:
        message = plain(self, decoder, patience)
        if "(_deal)" in threading.current_thread().name:
            heard.append(wire.encode(message))
        return message

    monkeypatch.setattr(Link, "hear", hear)
    with three_operators(tmp_path) as parties:
        name = publish_small(parties)
        (offered,) = parties.patient.models()
        before = len(heard)
        for level in (-2.0, 2.0):
            parties.patient.ask(offered, np.full((1, 1, 28, 28), level, np.float32))
            until(lambda: stocked(parties, name, 3))
        program = wire.encode(offered.program)[1:]

    assert len(heard) > before
    for data in heard:
        said = wire.decode(data, REPLY, limit=1 << 20)
        assert isinstance(said, Done | Status)
        if isinstance(said, Status) and said.held:
            (held,) = said.held
            assert held.publication == name
            rest = data.replace(program, b"").replace(name, b"")
            assert len(rest) < 60  # numbers


def test_nothing_of_a_session_is_logged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(0)
    secret: list[bytes] = []
    plain = Patient._upload

    def upload(self: Patient, operator: int, share: InputShare, token: bytes) -> None:
        secret.extend((share.words[:12], token[:12]))
        plain(self, operator, share, token)

    monkeypatch.setattr(Patient, "_upload", upload)
    with three_operators(tmp_path) as parties:
        publish_small(parties)
        (offered,) = parties.patient.models()
        parties.patient.ask(offered, some_images(1).numpy())
        monkeypatch.setattr(
            "consilium.adapters.inference.computing.operator_step",
            lambda *_: (_ for _ in ()).throw(ValueError("broken")),
        )
        with pytest.raises(DataError, match=r"operator [01] failed; ask again"):
            parties.patient.ask(offered, some_images(1).numpy())

    out = capfd.readouterr()
    said = caplog.text + out.out + out.err
    assert "failed" in said
    assert len(secret) == 8
    for one in secret:
        assert one.hex() not in said
        assert repr(one)[2:-1] not in said
