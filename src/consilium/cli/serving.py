# SPDX-License-Identifier: Apache-2.0
"""`consilium serve`: an office's pages and API until it is stopped."""

import logging.config
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import typer

from consilium.adapters.identity.settings import read_settings
from consilium.adapters.logs import Format, log_settings
from consilium.adapters.office.office import DATABASE, open_office
from consilium.adapters.released_models import MODELS
from consilium.web.app import WebSettings, make_app
from consilium.web.serving import Listening, bind, place_of_office, serve


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks for."""

    folder: Path
    database: str | None
    listening: Listening
    courier_seconds: float
    log_format: Format


def run_serve(request: Request) -> None:
    """Serves the office in a folder; on its first run prints the link for its Owner."""
    if request.database is not None:
        os.environ[DATABASE] = request.database
    office = open_office(request.folder)
    try:
        bound = bind(request.listening)
        place = place_of_office(office, request.listening, bound.getsockname()[1])
        app = make_app(
            office,
            WebSettings(
                place=place,
                identity=read_settings(request.folder, office.desk.name),
                models_folder=request.folder / MODELS,
                courier_seconds=request.courier_seconds or None,
            ),
        )
        logging.config.dictConfig(_lines(request.log_format))
        typer.echo(f"{office.desk.name}: {place.origins[0]}")
        word = app.state.accounts.first_link()
        if word is not None:
            typer.echo(f"Set up this office, once, within a day: {place.origins[0]}/links/{word}")
        serve(app, bound, request.listening)
    finally:
        office.close()


def _lines(style: Format) -> dict[str, Any]:
    """Returns log settings for one stream, standard error; other libraries say warnings alone."""
    settings: dict[str, Any] = log_settings(style, "office")
    console = settings["handlers"]["console"] | {"stream": "ext://sys.stderr"}
    quiet = {"level": "WARNING"}
    return settings | {
        "handlers": {"console": console},
        "root": {"level": "INFO", "handlers": ["console"]},
        "loggers": dict.fromkeys(("httpx", "uvicorn", "alembic"), quiet),
    }
