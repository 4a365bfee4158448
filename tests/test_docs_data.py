# SPDX-License-Identifier: Apache-2.0
"""The steward's page is complete: every option, every reason, every kept kind of file."""

import re
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from consilium.cli.app import app
from consilium.data.deidentification import KEPT
from consilium.data.samples import Reason

PAGE = (Path(__file__).parent.parent / "docs/data.md").read_text()
COMMAND = get_command(app).commands["data"].commands["import"]  # type: ignore[attr-defined]  # groups
OPTIONS = [word for one in COMMAND.params for word in one.opts if word.startswith("--")]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_described(option: str) -> None:
    table = PAGE.split("## Options")[1]

    assert option == "--help" or f"`{option}`" in table


@pytest.mark.parametrize("reason", get_args(Reason))
def test_every_reason_says_what_to_do(reason: str) -> None:
    assert re.search(rf"^\| {re.escape(reason)} \| .+ \|$", PAGE, flags=re.MULTILINE)


def test_the_number_of_kept_tags_is_right() -> None:
    assert f"list of {len(KEPT)} go on" in PAGE
