# SPDX-License-Identifier: Apache-2.0
"""What the commands of `machines` do. Needs the extra `federation`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import typer

from consilium.adapters.logs import Format
from consilium.adapters.metrics import check_free
from consilium.adapters.nvflare import kits, lock, members
from consilium.adapters.nvflare.doctor import examine
from consilium.adapters.nvflare.finding import Finding
from consilium.adapters.office.office import open_office
from consilium.adapters.site_folder import SiteFolder, SiteSettings
from consilium.adapters.site_team import check_devices, gpus
from consilium.adapters.store.database import lasting_url, open_database
from consilium.errors import ConfigError
from consilium.federation.enrolment import roster_fingerprint
from consilium.sdk import default_data_folder, load_project

_LOST: Final = 10  # times the quorum's time-out: a site that computes longer counts as lost


def init(federation: kits.Federation, out: Path, *, as_json: bool) -> None:
    """Makes the kits and says what to do with them."""
    made = kits.provision(federation, out)
    if as_json:
        _print({"kits": made, "host": federation.host, "port": federation.port})
        return
    typer.echo(f"Kits of {federation.name}, one a party, each with its own private key:")
    for kit in made:
        typer.echo(f"  {kit}")
    typer.echo(f"Move each to its machine by a safe way and delete it here. {out}/authority makes")
    typer.echo("new members: keep it offline.")
    typer.echo(f"Next:   consilium coordinator serve {out}/kits/{kits.COORDINATOR}")


def renew(folder: Path, parties: tuple[str, ...], *, as_json: bool) -> None:
    """Makes new certificates."""
    _show_changes(members.renew(folder, parties), as_json=as_json)


def add(folder: Path, site: str, *, as_json: bool) -> None:
    """Makes one more site."""
    _show_changes(members.add(folder, site), as_json=as_json)


def remove(folder: Path, site: str, *, as_json: bool) -> None:
    """Shuts a site out."""
    _show_changes(members.remove(folder, site), as_json=as_json)


def _show_changes(made: list[Path], *, as_json: bool) -> None:
    if as_json:
        _print({"changes": made})
        return
    for one in made:
        typer.echo(f"  {one}")
    typer.echo("Move each to its party by a safe way, stop the party, copy it over the kit,")
    typer.echo(f"start the party again, and delete it here: cp -r {made[-1].name}/. KIT/")


def watching(host: str, port: int, log_format: Format) -> kits.Watching:
    """Returns how a party's process can be watched."""
    return kits.Watching(metrics_host=host, metrics_port=port, log_format=log_format)


def serve_coordinator(
    kit: Path, data: Path | None, quorum_seconds: float, watching: kits.Watching
) -> None:
    """Becomes the coordinator.

    Raises:
        ConfigError: The kit is served already, or an address is taken.
    """
    kit = kit.resolve()
    says = kits.federation_of(kit, kits.COORDINATOR)
    lock.hold(kit)
    check_free(watching.metrics_host, watching.metrics_port)
    folder = data or default_data_folder()
    settings = kits.CoordinatorSettings(
        data_folder=None if folder is None else str(folder.resolve()),
        quorum_seconds=quorum_seconds,
        lost_seconds=_LOST * quorum_seconds,
    )
    kits.settle_coordinator(kit, settings)
    kits.prepare(kit, kits.COORDINATOR_LINK, says, watching)
    kits.serve(kit, kits.COORDINATOR)


def join(
    kit: Path, data: Path | None, choices: Mapping[str, object], watching: kits.Watching
) -> None:
    """Checks the machine, then becomes the site.

    Raises:
        ConfigError: A check fails, GPUs are fewer than processes, or the kit is served already.
    """
    kit = kit.resolve()
    says, folder = kits.federation_of(kit), data or default_data_folder()
    lock.hold(kit)
    check_free(watching.metrics_host, watching.metrics_port)
    findings = examine(kit, says, folder)
    _show(findings)
    if not all(finding.well for finding in findings):
        raise ConfigError("this machine is not ready; expected every check above to be well")
    settings = {"name": says.role, "sites": says.sites, **choices}
    settings |= {} if folder is None else {"data_folder": str(folder.resolve())}
    own = msgspec.convert(settings, SiteSettings)
    if own.office is not None:
        open_office(Path(own.office)).close()
    if own.database is not None:
        open_database(lasting_url(own.database)).close()
        own = msgspec.structs.replace(own, database=lasting_url(own.database))
    check_devices(own.processes, gpus())
    SiteFolder(kit).settle(own)
    kits.prepare(kit, kits.SITE_LINK, says, watching)
    kits.serve(kit, says.role)


def doctor(kit: Path, data: Path | None, *, as_json: bool) -> None:
    """Shows every check; exit code 2 if one is not well."""
    kit = kit.resolve()
    findings = examine(kit, kits.federation_of(kit), data or default_data_folder())
    if as_json:
        _print(findings)
    else:
        _show(findings)
    if not all(finding.well for finding in findings):
        raise typer.Exit(2)


def approve(kit: Path, project: Path, *, as_json: bool) -> None:
    """Writes the steward's yes."""
    kits.federation_of(kit)
    path = SiteFolder(kit).approve(load_project(project))
    _print({"approved": str(path)}) if as_json else typer.echo(f"Approved: {path}")


def trust(kit: Path, fingerprint: str | None, *, as_json: bool) -> None:
    """Shows the refused roster, or accepts it."""
    kits.federation_of(kit)
    folder = SiteFolder(kit)
    if fingerprint is not None:
        folder.trust(fingerprint)
    offered = folder.offered()
    found = None if offered is None else roster_fingerprint(offered)
    if as_json:
        _print({"roster": sorted(offered or ()), "fingerprint": found})
        return
    if offered is None or found is None:
        typer.echo("No roster was refused here. It is shown once a run has been asked for.")
        return
    typer.echo(f"Roster: {', '.join(sorted(offered))}\n{found}")


def _show(findings: list[Finding]) -> None:
    for one in findings:
        word = "MEND" if not one.well else "SOON" if one.mend else "well"
        typer.echo(f"{word}  {one.check}: {one.found}", err=True)
        if one.mend:
            typer.echo(f"      {one.mend}", err=True)


def _print(value: object) -> None:
    typer.echo(msgspec.json.encode(value, enc_hook=str).decode())
