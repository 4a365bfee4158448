# SPDX-License-Identifier: Apache-2.0
"""The same pictures at several runtimes, from the command line."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from tests.adapters.inference.parties import owned, publish_small, three_operators
from tests.adapters.inference.runtimes import spu_python

from consilium.cli import comparing
from consilium.cli.comparing import run_compare
from consilium.cli.inferring import CompareRequest
from consilium.errors import AccessDenied, ConfigError


@pytest.fixture
def request_for_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CompareRequest:
    monkeypatch.setattr(comparing, "read_owned", lambda _: owned())
    monkeypatch.setattr(comparing, "use_threads", lambda _: None)
    folder = tmp_path / "pictures"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(draw.integers(0, 256, (28, 28), np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return CompareRequest(
        model=tmp_path / "run",
        images=folder,
        calibrate=None,
        ring=40,
        operators=None,
        spu_python=None,
        spu_protocol="aby3",
        json=False,
    )


def test_a_table_names_pictures_runtimes_and_what_was_left_out(
    request_for_two: CompareRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run_compare(request_for_two)

    said = capsys.readouterr().out
    assert said.startswith("a.png: ")
    assert "notes" not in said
    assert said.count("2/2") == 2
    assert "SPU: left out, no interpreter that has it was named (--spu-python PYTHON)" in said
    assert "operators: left out, none were named (--operators DIR)" in said


def test_json_has_every_figure(
    request_for_two: CompareRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run_compare(replace(request_for_two, json=True))

    said = json.loads(capsys.readouterr().out)
    clear, ours = said["runtimes"]
    assert said["files"] == ["a.png", "b.png"]
    assert clear["labels"] == ours["labels"]
    assert clear["from_oracle"] == 0
    assert 0 < ours["from_oracle"] < 1e-3
    assert ours["sent_bytes"] > 0
    assert sorted(said["left_out"]) == ["SPU", "operators"]


def test_operators_are_asked_about_the_same_model(
    request_for_two: CompareRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(typer, "echo", said.append)  # servers keep what capsys closes
    with three_operators(tmp_path) as parties:
        asked = replace(request_for_two, operators=parties.kits, json=True)
        with pytest.raises(AccessDenied, match="offer 0 models named digits; expected one"):
            run_compare(asked)
        publish_small(parties)

        run_compare(asked)

    row = json.loads(said[0])["runtimes"][-1]
    assert row["runtime"] == "operators"
    assert row["labels_agree"] == 2
    assert row["from_oracle"] < 1e-3


@pytest.mark.spu
@pytest.mark.timeout(300)
def test_spu_is_asked_about_the_same_model(
    request_for_two: CompareRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run_compare(replace(request_for_two, spu_python=spu_python(), json=True))

    row = json.loads(capsys.readouterr().out)["runtimes"][-1]
    assert row["runtime"] == "SPU ABY3"
    assert row["labels_agree"] == 2
    assert row["from_oracle"] < 1e-3


def test_an_interpreter_without_spu_is_refused(request_for_two: CompareRequest) -> None:
    with pytest.raises(ConfigError, match="cannot import spu"):
        run_compare(replace(request_for_two, spu_python=Path(sys.executable)))


def test_a_folder_without_pictures_is_refused(
    request_for_two: CompareRequest, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="empty has no pictures; expected a folder of them"):
        run_compare(replace(request_for_two, images=tmp_path / "empty"))
