# SPDX-License-Identifier: Apache-2.0
"""How runs stand, from the board of this application; empty in an office that runs nothing."""

from typing import cast

from fastapi import Request

from consilium.adapters.run_board import RunBoard, RunProgress


def board_of(request: Request) -> RunBoard:
    """Returns the application's board; makes an empty one where nothing publishes."""
    state = request.app.state
    if not hasattr(state, "runs"):
        state.runs = RunBoard()
    return cast("RunBoard", state.runs)


def progress_of(request: Request, project: str) -> RunProgress | None:
    """Returns how a project's run stands, or None."""
    return board_of(request).of(project)
