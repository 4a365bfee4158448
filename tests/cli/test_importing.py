# SPDX-License-Identifier: Apache-2.0
"""`consilium data import`, then `consilium train`, on generated pictures and DICOM objects."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.made import dicom, encoded, saved, write

from consilium.cli.app import main

PROJECT = """
name = "imported"
[data]
source = "chest"
[sites]
count = 3
[model]
name = "logistic"
[training]
rounds = 2
[dp]
target_epsilon = 8.0
delta = 1e-4
expected_batch = 20
"""
PATIENTS = 90


def pixels(k: int) -> Image.Image:
    rng = np.random.default_rng(k)
    return Image.fromarray(rng.integers(60 * (k % 2), 120 + 60 * (k % 2), (16, 16), dtype=np.uint8))


def as_pngs() -> list[str]:
    rows = ["file,patient,label"]
    for k in range(PATIENTS):
        write(Path(f"export/{k}.png"), encoded(pixels(k), "PNG"))
        rows.append(f"{k}.png,P{k},{'ill' if k % 2 else 'well'}")
    write(Path("labels.csv"), "\n".join(rows).encode())
    return ["--labels", "labels.csv", "--patient-id", "patient"]


def as_dicom() -> list[str]:
    for k in range(PATIENTS):
        one = dicom(np.asarray(pixels(k)), PatientID=f"P{k}", Modality="DX")
        write(Path(f"export/{'ill' if k % 2 else 'well'}/IM{k:04d}"), saved(one))
    return []


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["consilium", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(str(stopped.value.code or 0))


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSILIUM_DATA", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # The secret decides who is in which split; with this one each has patients enough.
    write(tmp_path / "config/consilium/pseudonym.key", bytes(32)).chmod(0o600)


@pytest.mark.parametrize("export", [as_pngs, as_dicom])
def test_what_was_imported_can_be_trained_on(
    export: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = export()
    write(Path("project.toml"), PROJECT.encode())

    words = ("data", "import", "export", *options, "--size", "16", "--out", "chest")
    imported = run(monkeypatch, *words)
    shown = capsys.readouterr().out
    trained = run(monkeypatch, "train", "project.toml", "--out", "run", "--json")

    assert imported == trained == 0
    assert 'data.source = "chest"' in shown
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["arm"] == "federated-dp"
    assert Path("run/report.html").is_file()


def test_the_summary_can_be_read_by_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = as_pngs()
    write(Path("export/Eva Müller.png"), b"broken")

    code = run(
        monkeypatch,
        "data",
        "import",
        "export",
        *options,
        "--size",
        "16",
        "--out",
        "chest",
        "--json",
    )

    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert code == 0
    assert summary["rejected"] == {"wrong extension": 1}
    assert summary["classes"] == ["ill", "well"]
    assert "ller" not in shown.out + shown.err


def test_an_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("consilium.cli.importing.run_import", interrupted)

    assert run(monkeypatch, "data", "import", "export", "--out", "chest") == 130
    assert "the same command goes on" in capsys.readouterr().err
