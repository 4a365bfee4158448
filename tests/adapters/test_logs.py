# SPDX-License-Identifier: Apache-2.0
"""Lines of a party: their fields, and that an unexpected error says where, never what."""

import json
import logging
import logging.config
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.adapters import logs
from consilium.adapters.logs import log_settings, note_where
from consilium.errors import DataError

NAME = "Erika Mustermann 1964-08-12"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    logs._WHERE.clear()
    yield
    logs._WHERE.clear()
    for one in set(root.handlers) - set(before):
        one.close()
    root.handlers[:] = before
    root.setLevel(level)


def said(folder: Path, style: logs.Format, error: Exception | None = None) -> str:
    """Returns what one warning, and an error, look like in the file."""
    settings = log_settings(style, "charite")
    for name, file in (("file", "log.txt"), ("errors", "error_log.txt")):
        settings["handlers"][name]["filename"] = str(folder / file)  # type: ignore[index]
    logging.config.dictConfig(settings)
    logger = logging.getLogger("consilium.adapters.test")
    if error is None:
        logger.warning("site lost: %s", "why", extra={"site": 2, "passenger": NAME})
    else:
        try:
            raise error
        except (ValueError, DataError):
            logger.exception("failed")
    return (folder / "log.txt").read_text()


def test_json_lines_have_named_fields(tmp_path: Path) -> None:
    note_where(run="chest-1", round=3)

    line = json.loads(said(tmp_path, "json"))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "event": "site lost: why",
        "logger": "consilium.adapters.test",
        "role": "charite",
        "run": "chest-1",
        "round": 3,
        "site": 2,
    }


def test_text_lines_say_the_same(tmp_path: Path) -> None:
    note_where(run="chest-1", round=3)

    assert "Z WARNING charite run=chest-1 round=3 site=2: site lost: why\n" in said(
        tmp_path, "text"
    )


def test_only_places_are_noted(tmp_path: Path) -> None:
    note_where(patient=NAME)

    assert NAME not in said(tmp_path, "json")


@pytest.mark.parametrize("style", ["text", "json"])
def test_an_unexpected_error_does_not_quote_a_record(tmp_path: Path, style: logs.Format) -> None:
    text = said(tmp_path, style, ValueError(f"could not convert {NAME!r}"))

    assert NAME not in text
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert NAME not in (tmp_path / "error_log.txt").read_text()


@pytest.mark.parametrize("style", ["text", "json"])
def test_our_own_refusals_are_shown(tmp_path: Path, style: logs.Format) -> None:
    assert "line 7 is damaged" in said(tmp_path, style, DataError("line 7 is damaged"))
