# SPDX-License-Identifier: Apache-2.0
"""One process a kit: the second is refused by name, the lock ends with its holder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from consilium.adapters.nvflare import lock
from consilium.errors import ConfigError

HOLD = "import sys, pathlib; from consilium.adapters.nvflare import lock; "
HOLD += "lock.hold(pathlib.Path(sys.argv[1])); "


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.delenv("CONSILIUM_KIT_LOCK", raising=False)
    (tmp_path / "consilium").mkdir()
    return tmp_path


def play(kit: Path, words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", HOLD + words, str(kit)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_second_process_is_refused_by_the_number_of_the_first(kit: Path) -> None:
    first = play(kit, "print('held', flush=True); input()")
    assert heard(first) == "held"

    with pytest.raises(ConfigError, match=f"served by process {first.pid}; expected one"):
        lock.hold(kit)

    end(first)
    lock.hold(kit)
    lock.keep_lock_here()


def test_the_lock_stays_when_the_command_becomes_another_program(kit: Path) -> None:
    other = "print('other', flush=True); input()"
    first = play(kit, f"import os; os.execv(sys.executable, [sys.executable, '-c', {other!r}])")
    assert heard(first) == "other"

    with pytest.raises(ConfigError, match="already served"):
        lock.hold(kit)

    end(first)


def test_what_a_party_starts_does_not_keep_its_lock(kit: Path) -> None:
    child = "import os; lock.keep_lock_here(); "
    child += "n = os.posix_spawn('/bin/sleep', ['sleep', '30'], {}); print(n, flush=True); input()"
    first = play(kit, child)
    sleeper = int(heard(first))

    end(first)
    lock.hold(kit)
    lock.keep_lock_here()

    os.kill(sleeper, 9)
