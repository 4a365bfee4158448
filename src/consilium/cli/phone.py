# SPDX-License-Identifier: Apache-2.0
"""The commands of the phone page: options and help. What they do is imported when they run."""

from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

phone = typer.Typer(
    name="phone",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="A page that looks at a picture on the phone itself, or asks operators on shares of it.",
)

Model = Annotated[
    Path | None, typer.Argument(help="MODEL.onnx, with MODEL.json beside it; or --operators.")
]
Operators = Annotated[
    Path | None,
    typer.Option(
        help="For the encrypted mode: folder of operators.json and authority.pem.", metavar="DIR"
    ),
]
Name = Annotated[
    str | None,
    typer.Option("--model", help="Name or publication, where the operators offer several."),
]


@phone.command()
def build(
    out: Annotated[Path, typer.Option(help="A new folder.")],
    model: Model = None,
    operators: Operators = None,
    name: Name = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")] = False,
) -> None:
    """Makes a folder that any web server can offer as it is.

    Example: consilium phone build chest.onnx --out phone/
    """
    page = import_module("consilium.cli.phone_page")
    page.build(page.Wanted(model=model, operators=operators, name=name), out, as_json=json)


@phone.command()
def serve(
    model: Model = None,
    operators: Operators = None,
    name: Name = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8443,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS certificate, PEM; needed beyond this machine.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
) -> None:
    """Offers the page on this machine, or with a certificate to phones.

    Example: consilium phone serve chest.onnx
    """
    page = import_module("consilium.cli.phone_page")
    wanted = page.Wanted(model=model, operators=operators, name=name)
    page.serve(wanted, (host, port), certificate=certificate, key=key)
