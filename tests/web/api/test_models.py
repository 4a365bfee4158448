# SPDX-License-Identifier: Apache-2.0
"""A model's permissions through the API: what leaves, what does not, and what `latest` means."""

import hashlib
from pathlib import Path
from typing import Final

import httpx
import msgspec
import pytest
from tests.adapters.inference.parties import (
    card_of,
    owned,
    some_images,
    stocked,
    three_operators,
    until,
)
from tests.adapters.office.made import TOML
from tests.governance.test_model_permits import COMBINATIONS
from tests.phone.made import finished, released
from tests.web.api.conftest import API, Hospital, once

from consilium.adapters.inference.publishing import compile_owned, make_card, publish
from consilium.adapters.office.values import ProjectDraft
from consilium.adapters.releasing import Release
from consilium.governance.contract import Purpose
from consilium.governance.model_permissions import Use, decide_use, permissions_of
from consilium.governance.model_permits import read_permit

PATH: Final = f"{API}/models/heart"
ENCRYPTED: Final = {"encrypted_only": True}


@pytest.fixture(scope="module")
def project(hospital: Hospital, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A project of rossi's; the office keeps its models in a folder."""
    hospital.app.state.models_folder = tmp_path_factory.mktemp("models")
    hospital.register()
    off = 'secure_sum = "off-and-the-coordinator-sees-every-update"'
    draft = ProjectDraft(
        toml=TOML.format(sites=1, rate=0.1, sum=off),
        arm="federated-local-dp",
        datasets={"charite": "hearts"},
        purpose=Purpose(text="Tell who is ill"),
    )
    rossi = hospital.office.people.actor(hospital.ids["rossi"])
    return hospital.office.projects.draft(rossi, draft).id


@pytest.fixture(scope="module", autouse=True)
def versions(hospital: Hospital, project: str) -> list[bytes]:
    """Three versions of one model, published by its author."""
    folder: Path = hospital.app.state.models_folder
    weights = [b"first", b"second", b"third"]
    for number, data in enumerate(weights, start=1):
        (folder / f"{number}.safetensors").write_bytes(data)
        body = {
            "name": "heart",
            "digest": hashlib.sha256(data).hexdigest(),
            "file": f"{number}.safetensors",
            "project": project,
            "run": f"r{number}",
            "epsilon": 2.5901,
            "delta": 1e-4,
        }
        answer = hospital.clients["rossi"].post(f"{API}/models", json=body, headers=once())
        assert answer.status_code == 201, answer.text
    return weights


def allow(hospital: Hospital, version: str, body: dict[str, bool], who: str = "klein") -> int:
    client = hospital.clients[who]
    tag = client.get(f"{PATH}/{version}").headers["etag"]
    path = f"{PATH}/{version}/permissions"
    return client.put(path, json=body, headers={"If-Match": tag}).status_code


def ask(hospital: Hospital, version: str, what: str) -> httpx.Response:
    return hospital.clients["rossi"].get(f"{PATH}/{version}/{what}")


@pytest.mark.parametrize("words", COMBINATIONS, ids=" ".join)
def test_the_file_leaves_where_a_download_is_allowed_and_nowhere_else(
    hospital: Hospital, words: tuple[str, ...]
) -> None:
    permissions = permissions_of(words)
    said = {name: getattr(permissions, name) for name in type(permissions).__slots__}
    assert allow(hospital, "1", said) == 200
    allowed = decide_use(permissions, Use.DOWNLOAD, private=True).allowed

    answer = ask(hospital, "1", "file")

    assert answer.status_code == (200 if allowed else 403)
    assert (answer.content == b"first") is allowed


def test_an_author_does_not_decide(hospital: Hospital) -> None:
    assert allow(hospital, "2", {"allow_download": True}, who="rossi") == 403


def test_latest_is_the_newest_that_was_not_withdrawn(hospital: Hospital) -> None:
    allow(hospital, "2", ENCRYPTED)
    assert ask(hospital, "latest", "permit").status_code == 403  # of version 3, not yet opened
    gone = hospital.clients["klein"].post(f"{PATH}/3/withdrawal", json={"reason": "a bug"})
    assert gone.status_code == 200

    permit = read_permit(ask(hospital, "latest", "permit").content)

    assert (permit.version, permit.weights) == (2, hashlib.sha256(b"second").hexdigest())
    assert permit.publisher == hospital.office.models.signer().publisher
    assert ask(hospital, "3", "permit").status_code == 403


def test_encrypted_only_is_not_downloaded_and_is_asked_encrypted(
    hospital: Hospital, tmp_path: Path
) -> None:
    allow(hospital, "2", ENCRYPTED)
    refused = ask(hospital, "latest", "file")
    permit = read_permit(ask(hospital, "latest", "permit").content)
    model = owned()
    compiled = compile_owned(model, None)
    release = Release(permit=permit, signer=released(finished()).signer)
    card = make_card(model, compiled, card_of(model, compiled).about, release)

    with three_operators(tmp_path, stock=1) as parties:
        name = publish(parties.kits / "owner", compiled, card)
        until(lambda: stocked(parties, name, 1))
        (offered,) = parties.patient.models()
        found = parties.patient.ask(offered, some_images(1).numpy())

    assert (refused.status_code, "only encrypted inference" in refused.text) == (403, True)
    assert found.logits.shape == (1, 3)
    assert msgspec.to_builtins(offered.card.permit.permissions)["encrypted_only"] is True
