# SPDX-License-Identifier: Apache-2.0
"""The commands of people who run machines: federation, coordinator, site. Options and help only."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, TypeAlias

import typer

from consilium.errors import ConfigError

Kit: TypeAlias = Annotated[Path, typer.Argument(help="A start-up kit's folder.", metavar="KIT")]
Folder: TypeAlias = Annotated[
    Path, typer.Argument(help="What init made; it holds the authority.", metavar="FOLDER")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Records: TypeAlias = Annotated[
    Path | None, typer.Option("--data", help="Folder of this machine's own records.", metavar="DIR")
]
MetricsPort: TypeAlias = Annotated[
    int,
    typer.Option(
        min=0, max=65535, help="Serve Prometheus numbers at this port; 0, the default, does not."
    ),
]
MetricsHost: TypeAlias = Annotated[
    str,
    typer.Option(help="Where; by default this machine alone. Whoever reaches it can read them."),
]
LogFormat: TypeAlias = Annotated[
    Literal["text", "json"], typer.Option(help="Lines for people, or for a log collector.")
]

federation = typer.Typer(
    name="federation", no_args_is_help=True, rich_markup_mode=None, help="Makes federations."
)
coordinator = typer.Typer(
    name="coordinator", no_args_is_help=True, rich_markup_mode=None, help="Runs the coordinator."
)
site = typer.Typer(
    name="site", no_args_is_help=True, rich_markup_mode=None, help="Runs a hospital's site."
)


@federation.callback()
@coordinator.callback()
@site.callback()
def _several() -> None:
    """Keeps the name of a command that is alone in its group."""


def _operations() -> ModuleType:
    try:
        return import_module("consilium.cli.operations")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"package {error.name} is missing; expected the extra for federations: "
            "pip install 'consilium[federation]'"
        ) from None


@federation.command()
def init(
    name: Annotated[str, typer.Argument(help="Of the federation.")],
    sites: Annotated[str, typer.Option(help="Names of the hospitals: a,b,c.")],
    host: Annotated[
        str, typer.Option(help="Name under which sites reach the coordinator.")
    ] = "localhost",
    port: Annotated[int, typer.Option(help="The coordinator's one port.")] = 8002,
    driver: Annotated[
        Literal["grpc", "http"],
        typer.Option(help="http: websockets, for networks that let only HTTPS out (--port 443)."),
    ] = "grpc",
    out: Annotated[Path | None, typer.Option(help="New folder. Default NAME.")] = None,
    json: Json = False,
) -> None:
    """Makes a start-up kit for the coordinator, the researcher and each hospital.

    Example: consilium federation init chest --sites charite,tum,lmu --host fl.example.org
    """
    operations = _operations()
    says = operations.kits.Federation(
        name=name,
        role="authority",
        sites=tuple(sorted(sites.split(","))),
        host=host,
        port=port,
        driver=driver,
    )
    operations.init(says, out or Path(name), as_json=json)


@federation.command()
def renew(
    folder: Folder,
    party: Annotated[
        list[str] | None, typer.Option(help="Whose; repeat for more. Default everybody's.")
    ] = None,
    json: Json = False,
) -> None:
    """Makes new certificates and TLS keys of the same authority; nothing else changes.

    Example: consilium federation renew chest --party charite
    """
    _operations().renew(folder, tuple(party or ()), as_json=json)


@federation.command()
def add(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="Of the new site.", metavar="SITE")],
    json: Json = False,
) -> None:
    """Makes the kit of one more site, and what the others must know of it.

    Example: consilium federation add chest ukhd
    """
    _operations().add(folder, name, as_json=json)


@federation.command()
def remove(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="Of the site that leaves.", metavar="SITE")],
    json: Json = False,
) -> None:
    """Shuts a site out: the coordinator refuses its certificate once it has this change.

    Example: consilium federation remove chest lmu
    """
    _operations().remove(folder, name, as_json=json)


@coordinator.command("serve")
def serve_coordinator(
    kit: Kit,
    data: Records = None,
    quorum_seconds: Annotated[
        float, typer.Option(help="How long a phase waits for sites that are missing.")
    ] = 60.0,
    metrics_port: MetricsPort = 0,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
) -> None:
    """Runs the coordinator until it is stopped; --data holds validation and test records.

    Example: consilium coordinator serve chest/kits/coordinator --data /srv/public
    --metrics-port 9464
    """
    operations = _operations()
    watching = operations.watching(metrics_host, metrics_port, log_format)
    operations.serve_coordinator(kit, data, quorum_seconds, watching)


@site.command()
def join(
    kit: Kit,
    data: Records = None,
    part_of_shared_source: Annotated[
        bool, typer.Option(help="Demonstration: take this site's part of a source that all have.")
    ] = False,
    approve_every_project: Annotated[
        bool, typer.Option(help="Demonstration: the researcher decides what runs here.")
    ] = False,
    trust_first_roster: Annotated[
        bool, typer.Option(help="Demonstration: believe the coordinator who the others are.")
    ] = False,
    processes: Annotated[
        int, typer.Option(min=1, help="That share this site's computing; with GPUs, one for each.")
    ] = 1,
    process_seconds: Annotated[
        float, typer.Option(min=1, help="How long a round may take these processes.")
    ] = 600.0,
    database: Annotated[
        str | None,
        typer.Option(
            help="This office's ledger pays: sqlite:///FILE or postgresql://...", metavar="URL"
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the records in that ledger.", metavar="NAME")
    ] = None,
    office: Annotated[
        Path | None,
        typer.Option(help="This hospital's office decides and pays.", metavar="DIR"),
    ] = None,
    metrics_port: MetricsPort = 0,
    metrics_host: MetricsHost = "127.0.0.1",
    log_format: LogFormat = "text",
) -> None:
    """Checks this machine, makes this hospital's key, and serves until it is stopped.

    Example: consilium site join kits/charite --data /srv/hospital --processes 4 --metrics-port 9464
    """
    holds = "its-part-of-a-shared-source" if part_of_shared_source else "its-own-records"
    approves = (
        "every-project-and-the-researcher-decides" if approve_every_project else "listed-projects"
    )
    trusts = (
        "the-first-roster-that-the-coordinator-shows" if trust_first_roster else "compared-rosters"
    )
    operations = _operations()
    watching = operations.watching(metrics_host, metrics_port, log_format)
    choices = {"holds": holds, "approves": approves, "trusts": trusts}
    sharing = {"processes": processes, "process_seconds": process_seconds}
    paying = {"database": database, "dataset": dataset} if database else {}
    paying |= {} if office is None else {"office": str(office.resolve())}
    operations.join(kit, data, choices | sharing | paying, watching)


@site.command()
def doctor(kit: Kit, data: Records = None, json: Json = False) -> None:
    """Checks certificate, disk, ledger, records, GPU, name, proxy, port, TLS and clock.

    Each finding says how to mend it; SOON is well today.

    Example: consilium site doctor kits/charite --data /srv/hospital
    """
    _operations().doctor(kit, data, as_json=json)


@site.command()
def approve(
    kit: Kit,
    project: Annotated[Path, typer.Argument(help="The project file, as it was agreed.")],
    json: Json = False,
) -> None:
    """Says yes, as this site's steward, to a project: only what was approved runs here.

    Example: consilium site approve kits/charite recipes/heart.toml
    """
    _operations().approve(kit, project, as_json=json)


@site.command()
def trust(
    kit: Kit,
    fingerprint: Annotated[
        str | None, typer.Argument(help="As compared with the other stewards; none shows it.")
    ] = None,
    json: Json = False,
) -> None:
    """Shows the roster that was refused, or accepts it once stewards have compared it.

    Example: consilium site trust kits/charite "b72c 0d2a 531e ..."
    """
    _operations().trust(kit, fingerprint, as_json=json)
