# SPDX-License-Identifier: Apache-2.0
"""The front door: six lines train a model, the folder holds what was promised, nothing is lost."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest
from safetensors.numpy import load_file
from tests.adapters.conftest import PROJECT, At, Note, interrupt, make_project

import consilium
from consilium.errors import ConfigError, DataError
from consilium.federation.project import parse_project
from consilium.federation.results import RunResult
from consilium.federation.statement import Statement
from consilium.sdk import Options, Trained, default_data_folder, load_project, load_run, train

SMALL = make_project({"training.rounds": "2"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two arms with two seeds of a small project."""
    folder = tmp_path_factory.mktemp("sdk") / "out"
    return train(SMALL, folder, Options(arms=("federated-dp", "central"), seeds=(0, 1)))


# -- Six lines ------------------------------------------------------------------------


def test_the_lines_of_the_readme_train_a_model(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(PROJECT)

    project = consilium.load_project(tmp_path / "digits.toml", {"training.rounds": "2"})
    trained = consilium.train(project, tmp_path / "runs" / "digits")
    result = trained.result()

    assert trained.arms() == ("federated-dp",)
    assert [g.view for g in result.statement.guarantees] == ["outsider", "participant"]
    assert 0 < result.test.accuracy <= 1


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = consilium.trian


# -- The folder -----------------------------------------------------------------------


def test_every_arm_and_seed_has_its_line(trained: Trained) -> None:
    lines = (trained.folder / "results.jsonl").read_bytes().splitlines()

    results = [msgspec.json.decode(line, type=RunResult) for line in lines]

    assert tuple(results) == trained.results
    assert [(one.arm, one.seed) for one in results] == [
        ("federated-dp", 0),
        ("central", 0),
        ("federated-dp", 1),
        ("central", 1),
    ]


def test_the_statement_is_that_of_the_main_arm(trained: Trained) -> None:
    text = (trained.folder / "privacy.json").read_bytes()

    assert msgspec.json.decode(text, type=Statement) == trained.result().statement


def test_the_project_is_kept_with_every_setting(trained: Trained) -> None:
    kept = parse_project((trained.folder / "project.toml").read_text())

    assert kept == load_run(trained.folder)
    assert kept == msgspec.structs.replace(SMALL, seeds=(0, 1))


def test_the_model_is_that_of_the_main_arm(trained: Trained) -> None:
    own = trained.folder / "runs" / "federated-dp-seed0" / "model.safetensors"

    assert (trained.folder / "model.safetensors").read_bytes() == own.read_bytes()
    assert sum(tensor.size for tensor in load_file(own).values()) == trained.result().parameters


def test_the_curves_are_a_drawing(trained: Trained) -> None:
    drawing = ET.fromstring((trained.folder / "curves.svg").read_bytes())  # noqa: S314 - ours

    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"


def test_the_report_opens_offline(trained: Trained) -> None:
    page = (trained.folder / "report.html").read_text(encoding="utf-8")

    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "digits-test" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_no_half_written_file_is_left(trained: Trained) -> None:
    assert list(trained.folder.rglob("*.part")) == []


# -- Results --------------------------------------------------------------------------


def test_results_are_found_by_arm(trained: Trained) -> None:
    assert trained.arms() == ("federated-dp", "central")
    assert (trained.result("central").arm, trained.result("central").seed) == ("central", 0)


def test_an_arm_that_was_not_trained_is_named(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"arm 'federated' was not trained; expected one of"):
        trained.result("federated")


# -- Going on -------------------------------------------------------------------------


def test_a_finished_folder_is_not_trained_again(trained: Trained) -> None:
    seen = Note()
    options = Options(arms=trained.arms(), seeds=(0, 1), resume=True)

    again = train(SMALL, trained.folder, options, seen)

    assert again == trained
    assert (seen.began, seen.rounds) == ([], [])


def test_an_interrupted_folder_goes_on_with_its_arms(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train(SMALL, folder, Options(arms=("federated", "central")), At(1, interrupt))

    done = train(load_run(folder), folder, Options(resume=True))

    assert done.arms() == ("federated", "central")
    assert [one.rounds for one in done.results] == [2, 2]


# -- Refusals -------------------------------------------------------------------------


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")

    with pytest.raises(ConfigError, match=r"is not empty; expected a new one: choose another --o"):
        train(SMALL, tmp_path)

    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run to resume; expected project\.toml"):
        train(SMALL, tmp_path, Options(resume=True))


def test_another_project_does_not_go_on_in_a_folder(trained: Trained) -> None:
    with pytest.raises(ConfigError, match=r"holds a run of another project; expected the one in"):
        train(make_project(), trained.folder, Options(resume=True))


@pytest.mark.parametrize("arms", [("federated-pd",), ("all", "central")])
def test_an_unknown_arm_leaves_nothing(tmp_path: Path, arms: Sequence[str]) -> None:
    with pytest.raises(ConfigError, match=r"is unknown; expected "):
        train(SMALL, tmp_path / "out", Options(arms=arms))

    assert not (tmp_path / "out").exists()


def test_missing_data_leave_nothing(tmp_path: Path) -> None:
    project = make_project({"data.source": "mnist"})

    with pytest.raises(DataError, match="found no file"):
        train(project, tmp_path / "out", Options(data_folder=tmp_path))

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = ", b"nmae = 3"])
def test_a_project_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError, match=r"project file[^\n]*$"):
        load_project(path)


def test_a_project_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read .*expected a TOML file"):
        load_project(tmp_path / "p.toml")


# -- The data folder ------------------------------------------------------------------


def test_the_variable_names_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSILIUM_DATA", "/somewhere")

    assert default_data_folder() == Path("/somewhere")


def test_without_the_variable_there_is_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONSILIUM_DATA", raising=False)

    assert default_data_folder() is None
