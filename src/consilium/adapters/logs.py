# SPDX-License-Identifier: Apache-2.0
"""How a party's lines look: text for people, or one JSON object a line for machines.

    {"time": ..., "level": ..., "event": ..., "logger": ..., "role": ..., "run": ..., "round": ...}

Guarantees: of an unexpected error a line shows its type and where it arose, never its text,
which may quote a record. Our own refusals say no value (`errors`). `run`, `round` and `site` are
noted once by the process of a run and stand in each of its lines, also in NVFlare's.
"""

import logging
import time
import traceback
from types import TracebackType
from typing import Final, Literal, TypeAlias, final

from consilium.errors import ConsiliumError

Format: TypeAlias = Literal["text", "json"]
Trouble: TypeAlias = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)
_WHERE: Final[dict[str, str | int]] = {}  # of the run that this process serves
FIELDS: Final = ("run", "round", "site")
TIME: Final = "%Y-%m-%dT%H:%M:%S"
_SIZE: Final = 20 << 20  # bytes of a file, after which another begins
_FILES: Final = 10


def note_where(**where: str | int) -> None:
    """Lets every later line of this process say its run, round or site."""
    _WHERE.update({name: value for name, value in where.items() if name in FIELDS})


@final
class Where(logging.Filter):
    """Adds what was noted to a line; what a line says itself stays."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns that the line may pass."""
        for name in FIELDS:
            if not hasattr(record, name):
                setattr(record, name, _WHERE.get(name))
        return True


@final
class Lines(logging.Formatter):
    """Text, a line an event."""

    def __init__(self, role: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03dZ %(levelname)s {role}%(place)s: %(message)s")
        self.converter, self.datefmt = time.gmtime, TIME

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line."""
        seen = [f" {name}={value}" for name in FIELDS if (value := getattr(record, name, None))]
        record.place = "".join(seen)
        return super().format(record)

    def formatException(self, ei: Trouble) -> str:  # noqa: N802 - the library's name
        """Returns the type and the place of an error."""
        return without_text(ei)


def without_text(trouble: Trouble) -> str:
    """Returns the type of an error and where it arose; of ours also what it says."""
    kind, error, trace = trouble
    if kind is None or error is None:
        return ""
    said = f": {error}" if isinstance(error, ConsiliumError) else ""
    return "".join(traceback.format_tb(trace)) + kind.__name__ + said


def log_settings(style: Format, role: str) -> dict[str, object]:
    """Returns what `logging.config.dictConfig` needs: the console, and two files that rotate."""
    kind = "consilium.adapters.json_lines.Objects" if style == "json" else f"{__name__}.Lines"
    file = {
        "class": "logging.handlers.RotatingFileHandler", "formatter": "ours", "filters": ["where"],
        "mode": "a", "maxBytes": _SIZE, "backupCount": _FILES,
    }  # fmt: skip
    console = {
        "class": "logging.StreamHandler", "formatter": "ours", "filters": ["where"],
        "stream": "ext://sys.stdout",
    }  # fmt: skip
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ours": {"()": kind, "role": role}},
        "filters": {"where": {"()": f"{__name__}.{Where.__name__}"}},
        "handlers": {
            "console": console,
            "file": file | {"filename": "log.txt"},
            "errors": file | {"filename": "error_log.txt", "level": "ERROR"},
        },
        "root": {"level": "INFO", "handlers": ["console", "file", "errors"]},
    }
