# SPDX-License-Identifier: Apache-2.0
"""An office's model on its way out: permits, folders that export reads, and the command line."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from safetensors.torch import save
from tests.adapters.office.conftest import Federation
from tests.adapters.office.test_projects import approved_everywhere
from tests.web.conftest import result

from consilium.adapters.finished_models import load_finished, read_papers
from consilium.adapters.office.terms import project_of
from consilium.adapters.office.values import LogFilter, NewModel, Page
from consilium.adapters.released_models import MODELS, release, result_name
from consilium.adapters.releasing import Wanted, release_of
from consilium.cli import app
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.governance.access import Actor
from consilium.governance.model_permissions import HOLDING, ModelVersion, Use, permissions_of
from consilium.governance.model_permits import PERMIT, Signer
from consilium.learning.models.registry import build

FILE: Final = "heart-1.safetensors"
CLASSES: Final = ("healthy", "diseased")
OWN: Final = Signer("Dr Weber", bytes(32))


@pytest.fixture
def published(federation: Federation) -> ModelVersion:
    """A model of an approved project, as a hosted run leaves it in the office's folder."""
    project = approved_everywhere(federation)
    office = federation.centre.office
    contract = office.projects.get(federation.centre.owner, project).contract
    terms = project_of(contract).terms(contract.arm).hex()
    facts = {
        "terms": terms,
        "model": "logistic",
        "classes": CLASSES,
        "shape": (13,),
        "office": office.models.signer().publisher,
    }
    network = build("logistic", shape=(13,), classes=2, seed=0, label_maps=False)
    weights = save(network.state_dict(), {"consilium": msgspec.json.encode(facts).decode()})
    found = msgspec.structs.replace(result(contract.arm, classes=CLASSES), terms=terms)
    folder = federation.centre.folder / MODELS
    folder.mkdir()
    (folder / FILE).write_bytes(weights)
    (folder / result_name(FILE)).write_bytes(msgspec.json.encode(found))
    new = NewModel(
        name="heart",
        digest=hashlib.sha256(weights).hexdigest(),
        file=FILE,
        project=project,
        run="heart-1",
        epsilon=2.5901,
        delta=1e-4,
    )
    return office.models.publish(federation.researcher, new)


def permit(federation: Federation, model: ModelVersion, *words: str) -> None:
    federation.centre.office.models.permit(federation.centre.owner, model.id, permissions_of(words))


def written(federation: Federation, out: Path, actor: Actor | None = None) -> Path:
    centre, asks = federation.centre, actor or federation.researcher
    release(centre.office, asks, centre.folder / MODELS, ("heart", "latest"), out)
    return out


@pytest.mark.usefixtures("published")
def test_what_nobody_opened_is_not_released(federation: Federation, tmp_path: Path) -> None:
    with pytest.raises(AccessDenied, match="has not opened"):
        federation.centre.office.models.statement(federation.researcher, "heart", "latest")
    with pytest.raises(AccessDenied):
        written(federation, tmp_path / "out", federation.centre.owner)
    assert not (tmp_path / "out").exists()


def test_a_released_model_goes_on_under_the_offices_permit(
    federation: Federation, published: ModelVersion, tmp_path: Path
) -> None:
    permit(federation, published, "device")

    folder = written(federation, tmp_path / "out")

    papers, finished = read_papers(folder), load_finished(folder)
    wanted = Wanted(uses=HOLDING, words=(), narrowest="device")
    found = release_of(finished, papers, wanted, OWN, federation.centre.clock.now).permit
    assert found.publisher == federation.centre.office.models.signer().publisher
    assert (found.model, found.version, found.weights) == ("heart", 1, published.digest)
    assert found.permissions.words() == ("device",)


def test_weights_that_nobody_may_hold_leave_by_who_decides_alone(
    federation: Federation, published: ModelVersion, tmp_path: Path
) -> None:
    permit(federation, published, "encrypted-only")

    with pytest.raises(AccessDenied):
        written(federation, tmp_path / "author")
    folder = written(federation, tmp_path / "owner", federation.centre.owner)

    finished, papers = load_finished(folder), read_papers(folder)
    now = federation.centre.clock.now
    encrypted = Wanted(uses=(Use.ENCRYPTED_INFERENCE,), words=(), narrowest="encrypted-only")
    assert release_of(finished, papers, encrypted, OWN, now).permit.weights == published.digest
    with pytest.raises(AccessDenied, match="only encrypted inference"):
        release_of(finished, papers, Wanted(uses=HOLDING, words=(), narrowest="device"), OWN, now)


def test_a_lost_permit_is_a_refusal(
    federation: Federation, published: ModelVersion, tmp_path: Path
) -> None:
    permit(federation, published, "device")
    folder = written(federation, tmp_path / "out")
    next(folder.rglob(PERMIT)).unlink()

    with pytest.raises(AccessDenied, match="belongs to office 'centre'"):
        release_of(
            load_finished(folder),
            read_papers(folder),
            Wanted(uses=HOLDING, words=("device",), narrowest="device"),
            OWN,
            federation.centre.clock.now,
        )


def test_a_withdrawn_version_has_no_permit(federation: Federation, published: ModelVersion) -> None:
    permit(federation, published, "device")
    models, owner = federation.centre.office.models, federation.centre.owner
    models.withdraw(owner, published.id, "a bug")

    with pytest.raises(AccessDenied, match="was withdrawn"):
        models.statement(owner, "heart", "1")


def test_every_permit_is_in_the_log(federation: Federation, published: ModelVersion) -> None:
    permit(federation, published, "device")
    office, owner = federation.centre.office, federation.centre.owner

    office.models.statement(federation.researcher, "heart", "latest")

    last = office.log.latest(owner, LogFilter(), Page())[0]
    assert (last.action, last.actor_name) == ("see-model", "rossi")
    assert "device" in last.facts


@pytest.mark.parametrize("name", [FILE, result_name(FILE)])
def test_a_missing_file_is_named(
    federation: Federation, published: ModelVersion, tmp_path: Path, name: str
) -> None:
    permit(federation, published, "device")
    (federation.centre.folder / MODELS / name).unlink()

    with pytest.raises(DataError, match=f"{name} cannot be read"):
        written(federation, tmp_path / "out")


def test_swapped_weights_are_not_released(
    federation: Federation, published: ModelVersion, tmp_path: Path
) -> None:
    permit(federation, published, "device")
    (federation.centre.folder / MODELS / FILE).write_bytes(b"others")

    with pytest.raises(DataError, match="is not the file that was published"):
        written(federation, tmp_path / "out")


@pytest.mark.usefixtures("published")
def test_a_folder_in_use_is_not_written_into(federation: Federation) -> None:
    with pytest.raises(ConfigError, match="is not empty"):
        written(federation, federation.centre.folder)


# -- The command line -------------------------------------------------------------------

Say = Callable[..., str]


@pytest.fixture
def say(
    federation: Federation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Say:
    """Runs a command on the coordinator's office as its Owner; returns what it said."""
    monkeypatch.setattr("consilium.cli.governing.login", lambda: "root")
    monkeypatch.setenv("CONSILIUM_OFFICE", str(federation.centre.folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["consilium", *words])
        with pytest.raises(SystemExit):
            app.main()
        heard = capsys.readouterr()
        return heard.out + heard.err

    return said


@pytest.mark.usefixtures("published")
def test_a_model_is_permitted_released_and_verified(say: Say, tmp_path: Path) -> None:
    out = tmp_path / "heart"
    assert "kept in the office" in say("model", "list")
    assert "heart 1: device" in say("model", "permit", "heart", "--permission", "device")
    assert "device, encrypted-inference" in say("model", "list")

    said = say("model", "release", "heart", "--out", str(out))
    verified = say("model", "verify", str(next(out.rglob(PERMIT))))

    assert "heart 1, the weights and the office's permit" in said
    assert "unchanged since centre signed it" in verified
    assert "allowed by centre: device, encrypted-inference" in verified
    assert "Compare the words" in verified


def test_the_expected_publisher_is_pinned(
    published: ModelVersion, say: Say, federation: Federation, tmp_path: Path
) -> None:
    permit(federation, published, "device")
    file = next(written(federation, tmp_path / "out").rglob(PERMIT))
    words = federation.centre.office.models.signer().publisher.words()

    assert "Compare" not in say("model", "verify", str(file), "--publisher", words)
    assert "Compare" not in say("model", "verify", str(file), "--publisher", str(file))
    others = OWN.publisher.words()
    refused = say("model", "verify", str(file), "--publisher", others)
    assert f"expected {others}: it is not theirs, do not use it" in refused


def test_a_key_is_made_once_and_keeps_its_name(say: Say, tmp_path: Path) -> None:
    file = str(tmp_path / "key.json")

    first = say("model", "key", "--name", "Dr Weber", "--key", file)
    again: Any = msgspec.json.decode(say("model", "key", "--key", file, "--json"))

    assert first == f"Dr Weber: {again['words']}\n"
    assert "--name 'Else'" in say("model", "key", "--name", "Else", "--key", file)


def test_an_open_key_is_refused(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "key.json"
    say("model", "key", "--key", str(file))
    file.chmod(0o644)

    assert "is open to others; expected mode 600" in say("model", "key", "--key", str(file))


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{}", "card cannot be read"), (b'{"format": "consilium-permit/1"}', "no permit")],
)
def test_what_cannot_be_verified_is_named(
    say: Say, tmp_path: Path, content: bytes, words: str
) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)

    assert words in say("model", "verify", str(file))
    assert "cannot be read" in say("model", "verify", str(tmp_path / "nothing.json"))
