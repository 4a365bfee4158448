# SPDX-License-Identifier: Apache-2.0
"""The commands of the log: options and help. What they do is imported when they run."""

from pathlib import Path
from typing import Annotated

import typer

from consilium.cli.office import Json, OfficeFolder, governing

log = typer.Typer(
    name="log", no_args_is_help=True, rich_markup_mode=None, help="What happened, provably."
)


@log.command()
def show(
    office: OfficeFolder = Path(),
    actor: Annotated[str | None, typer.Option(help="Id of a person or office.")] = None,
    action: Annotated[str | None, typer.Option(help="As approve-project.")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="Newest so many.")] = 50,
    json: Json = False,
) -> None:
    """Shows entries, newest first.

    Example: consilium log show --action approve-project --most 10
    """
    governing().show_log(office, (actor, action), most, as_json=json)


@log.command()
def verify(
    office: OfficeFolder = Path(),
    heads: Annotated[
        list[Path] | None, typer.Option(help="What other offices hold of this log; repeat.")
    ] = None,
    json: Json = False,
) -> None:
    """Checks every entry; names what was changed, removed or forged. Exit code 2 then.

    Example: consilium log verify --heads heads-of-tum.json
    """
    governing().verify_log(office, tuple(heads or ()), as_json=json)


@log.command()
def export(
    out: Annotated[Path, typer.Option(help="New file.", metavar="FILE")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Writes every entry and every witness's signature to a file of JSON lines.

    Example: consilium log export --out log.jsonl
    """
    governing().export_log(office, out, as_json=json)


@log.command()
def held(
    other: Annotated[str, typer.Argument(help="Name of another office.", metavar="OFFICE")],
    out: Annotated[Path, typer.Option(help="New file.", metavar="FILE")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Writes what this office holds of another's log, for its `log verify --heads`.

    Example: consilium log held charite --out heads.json
    """
    governing().held(office, other, out, as_json=json)
