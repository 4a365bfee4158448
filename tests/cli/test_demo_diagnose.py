# SPDX-License-Identifier: Apache-2.0
"""The whole of a private diagnosis on this machine: training, three processes, a patient."""

from pathlib import Path

import pytest

from consilium.cli import demo_diagnose

pytestmark = pytest.mark.timeout(300)


def test_answers_are_those_of_the_model_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("CONSILIUM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no cache"))
    changes = {**demo_diagnose.CHANGES, "training.rounds": "2", "training.evaluate_every": "2"}
    monkeypatch.setattr(demo_diagnose, "CHANGES", changes)

    demo_diagnose.run_diagnose(tmp_path / "demo", offline=True, seed=0)

    said = capsys.readouterr().out
    rows = [line.split() for line in said.splitlines() if ".png" in line]
    assert len(rows) == 8
    assert all(encrypted == clear for _, encrypted, clear, *_ in rows)
    assert all(float(error) < 0.05 for *_, error, _, _ in rows)
    assert "No operator saw a picture" in said
    assert {path.name for path in (tmp_path / "demo-diagnosis").iterdir()} >= {"run", "kits"}
