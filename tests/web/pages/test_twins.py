# SPDX-License-Identifier: Apache-2.0
"""Every command at the foot of a page is one that exists."""

import re
from pathlib import Path

import pytest
import typer

from consilium.cli.app import app
from consilium.web import pages

SOURCES = Path(pages.__file__).parent.glob("*.py")
TWINS = sorted(
    {
        twin
        for path in SOURCES
        for twin in re.findall(r'cli=f?"consilium (\w+ \w+)', path.read_text())
    }
)


def test_twins_are_found() -> None:
    assert len(TWINS) > 10


@pytest.mark.parametrize("twin", TWINS)
def test_a_twin_exists(twin: str) -> None:
    group, command = twin.split()
    groups = typer.main.get_command(app).commands  # type: ignore[attr-defined]

    assert command in groups[group].commands
