# SPDX-License-Identifier: Apache-2.0
"""Plays the recorded sessions beside this file: what a user types, and what must come back.

A session is text: lines that start with `$ ` are commands, the lines after one are its output,
`[n]` at the end is its exit code where that is not 0. `...` stands for anything. Each session
runs in an empty folder, without data and without the network.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from consilium.cli.app import main

SESSIONS = sorted(Path(__file__).parent.glob("*.txt"))
DIGITS = """
name = "digits"
[data]
source = "digits"
privacy_unit = "record"
[sites]
count = 3
[model]
name = "logistic"
[training]
rounds = 3
[dp]
target_epsilon = 8.0
delta = 1e-4
expected_batch = 200
"""


@dataclass(frozen=True)
class Exchange:
    command: str
    output: str
    code: int


def read_session(path: Path) -> list[Exchange]:
    blocks = re.split(r"^\$ ", path.read_text(), flags=re.MULTILINE)[1:]
    exchanges = []
    for block in blocks:
        command, _, output = block.partition("\n")
        code = re.search(r"^\[(\d+)\]$", output, flags=re.MULTILINE)
        plain = re.sub(r"^\[\d+\]\n?", "", output, flags=re.MULTILINE)
        exchanges.append(Exchange(command, plain.strip(), int(code[1]) if code else 0))
    return exchanges


def pattern(expected: str) -> str:
    return "[\\s\\S]*".join(re.escape(part) for part in expected.split("..."))


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_session_goes_as_recorded(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CONSILIUM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("COLUMNS", "120")
    Path("digits.toml").write_text(DIGITS)

    for exchange in read_session(path):
        monkeypatch.setattr(sys, "argv", shlex.split(exchange.command))
        with pytest.raises(SystemExit) as stopped:
            main()
        seen = capsys.readouterr()
        said = (seen.out + seen.err).strip()

        assert (stopped.value.code or 0) == exchange.code, said
        assert re.fullmatch(pattern(exchange.output), said), said
