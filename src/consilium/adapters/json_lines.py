# SPDX-License-Identifier: Apache-2.0
"""Log lines as JSON objects whose fields are on a list. Needs the extra `federation`."""

import time
from typing import Final, final

from pythonjsonlogger.json import JsonFormatter

from consilium.adapters.logs import FIELDS, TIME, Trouble, without_text

_SHOWN: Final = frozenset({"time", "level", "event", "logger", "role", *FIELDS, "why", "error"})


@final
class Objects(JsonFormatter):
    """A JSON object a line."""

    def __init__(self, role: str) -> None:
        super().__init__(
            ["asctime", "levelname", "message", "name", *FIELDS],
            rename_fields={
                "asctime": "time", "levelname": "level", "message": "event", "name": "logger",
                "exc_info": "error",
            },
            static_fields={"role": role},
            reserved_attrs=None,
        )  # fmt: skip
        self.converter, self.datefmt = time.gmtime, TIME + "Z"

    def formatException(self, ei: Trouble) -> str:  # noqa: N802
        """Returns the type and the place of an error."""
        return without_text(ei)

    def process_log_record(self, log_data: dict[str, object]) -> dict[str, object]:
        """Returns what is on the list and known: no library adds a field of its own."""
        return {k: v for k, v in log_data.items() if k in _SHOWN and v is not None}
