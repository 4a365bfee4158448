# SPDX-License-Identifier: Apache-2.0
"""Answers that are files to keep: named, never shown in a page, never guessed at."""

from typing import Final

from starlette.responses import Response

OCTETS: Final = "application/octet-stream"
FILE: Final[dict[int | str, dict[str, object]]] = {
    200: {
        "description": "A file.",
        "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def file_answer(data: bytes, name: str) -> Response:
    """Returns `data` as a file that a browser saves under `name`."""
    plain = "".join(one if one.isalnum() or one in "._-" else "-" for one in name)
    return Response(
        data, media_type=OCTETS, headers={"Content-Disposition": f'attachment; filename="{plain}"'}
    )
