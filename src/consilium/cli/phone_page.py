# SPDX-License-Identifier: Apache-2.0
"""`consilium phone`: makes the page of a model or of a publication, and offers it."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import final

import msgspec
import typer

from consilium.cli.inferring import imported
from consilium.errors import ConfigError
from consilium.web.phone.pages import PhoneSite, write_site
from consilium.web.phone.serving import make_server


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which page: of a model that goes to the phone, or of one that operators keep secret.

    Attributes:
        model: MODEL.onnx.
        operators: The public folder of operators.
        name: Of the model that they offer.
    """

    model: Path | None
    operators: Path | None
    name: str | None


def build(wanted: Wanted, out: Path, *, as_json: bool) -> None:
    """Writes the page.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    site = _site(wanted)
    write_site(site, out)
    if as_json:
        facts = {"folder": str(out), "files": len(site.files), "download": site.download}
        typer.echo(msgspec.json.encode(facts).decode())
        return
    typer.echo(f"{out}: {len(site.files)} files, {site.download / 1e6:.1f} MB to load, once")
    typer.echo("offer it over TLS from a path of its own; NAME.gz are the same files, compressed")
    if site.operators:
        typer.echo("start both operators with --origin and the origin that it is offered from")


def serve(
    wanted: Wanted, address: tuple[str, int], *, certificate: Path | None, key: Path | None
) -> None:
    """Offers the page until it is interrupted.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    site = _site(wanted)
    with make_server(site, address, certificate=certificate, key=key) as server:
        scheme = "http" if certificate is None else "https"
        origin = f"{scheme}://{address[0]}:{server.server_address[1]}"
        typer.echo(f"{origin}/ (end with Ctrl-C)")
        if site.operators:
            typer.echo(f"both operators must run with --origin {origin}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")


def _site(wanted: Wanted) -> PhoneSite:
    if (wanted.model is None) == (wanted.operators is None):
        raise ConfigError("expected MODEL.onnx, or --operators for the encrypted mode; give one")
    if wanted.operators is None and wanted.name is not None:
        raise ConfigError("--model names what operators offer; expected --operators with it")
    # Each mode imports what it needs alone: one an extra of operators, the other of export.
    if wanted.operators is None:
        made: PhoneSite = import_module("consilium.web.phone.site").make_site(wanted.model)
        return made
    imported()
    asked: PhoneSite = import_module("consilium.web.phone.encrypted_site").ask_and_make_site(
        wanted.operators, wanted.name
    )
    return asked
