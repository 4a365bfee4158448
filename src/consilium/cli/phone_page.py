# SPDX-License-Identifier: Apache-2.0
"""`consilium phone`: makes the page of a model, and offers it."""

from pathlib import Path

import msgspec
import typer

from consilium.web.phone.serving import make_server
from consilium.web.phone.site import make_site, write_site


def build(model: Path, out: Path, *, as_json: bool) -> None:
    """Writes the page.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    site = make_site(model)
    write_site(site, out)
    if as_json:
        facts = {"folder": str(out), "files": len(site.files), "download": site.download}
        typer.echo(msgspec.json.encode(facts).decode())
        return
    typer.echo(f"{out}: {len(site.files)} files, {site.download / 1e6:.1f} MB to load, once")
    typer.echo("offer it over TLS from a path of its own; NAME.gz are the same files, compressed")


def serve(model: Path, *, host: str, port: int, certificate: Path | None, key: Path | None) -> None:
    """Offers the page until it is interrupted.

    Raises:
        ConsiliumError: What was asked for is refused.
    """
    with make_server(make_site(model), (host, port), certificate=certificate, key=key) as server:
        scheme = "http" if certificate is None else "https"
        typer.echo(f"{scheme}://{host}:{server.server_address[1]}/ (end with Ctrl-C)")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            typer.echo("ended")
