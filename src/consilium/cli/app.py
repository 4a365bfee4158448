# SPDX-License-Identifier: Apache-2.0
"""The commands, their options and their help. What they do is imported when they run.

Exit codes: 0 done; 2 refused, with one line that says what was found, what was expected and
what to do; 130 interrupted.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from consilium import __version__
from consilium.cli import data as datasets
from consilium.cli import inference as encrypted
from consilium.cli import ledger, machines
from consilium.cli import log as logs
from consilium.cli import model as models
from consilium.cli import office as offices
from consilium.cli import phone as phones
from consilium.cli import project as projects
from consilium.errors import ConsiliumError

app = typer.Typer(
    name="consilium",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(machines.federation)
app.add_typer(machines.coordinator)
app.add_typer(machines.site)
app.add_typer(datasets.data)
app.add_typer(offices.office)
app.add_typer(offices.dataset)
app.add_typer(projects.project)
app.add_typer(logs.log)
app.add_typer(ledger.ledger)
app.add_typer(encrypted.inference)
app.command("infer")(encrypted.infer)
app.add_typer(phones.phone)
app.add_typer(models.model)

INTERRUPTED: Final = 130
REFUSED: Final = 2

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Probability: TypeAlias = Annotated[
    float, typer.Option(help="q: chance of each patient to be drawn in a step.")
]
Delta: TypeAlias = Annotated[float, typer.Option(help="Below 1 over the number of patients.")]
Steps: TypeAlias = Annotated[int, typer.Option(help="Number of steps.")]
AccountantOption: TypeAlias = Annotated[
    Literal["pld", "rdp"], typer.Option(help="pld is tight; rdp is for comparison.")
]


def main() -> None:
    """Runs the command line and exits."""
    try:
        app(standalone_mode=True)
    except ConsiliumError as error:
        _leave(f"{error}", REFUSED)
    except OSError as error:
        if error.errno is None:
            raise
        name = f" ({error.filename})" if error.filename else ""
        _leave(
            f"{error.strerror}{name}; expected a place to read and write: free some disk or choose "
            "another --out; whole files so far are kept",
            REFUSED,
        )
    except KeyboardInterrupt:
        _leave("interrupted; go on with the same command and --resume", INTERRUPTED)


def _leave(message: str, code: int) -> None:
    typer.echo(f"consilium: {message}", err=True)
    sys.stdout.flush()
    os._exit(code) if code == INTERRUPTED else sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"consilium {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Privacy-preserving machine learning for hospitals.

    Start with: consilium demo
    """


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for report and model.")] = Path(
        "consilium-demo"
    ),
    offline: Annotated[bool, typer.Option(help="Never use the network.")] = False,
    seed: Annotated[int, typer.Option(help="Of the experiment, not of any noise.")] = 0,
    serve: Annotated[
        bool, typer.Option("--serve", help="Open a coordinator and three hospitals with pages.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --serve: nobody clicks; ends with the model.")
    ] = False,
) -> None:
    """Ten hospitals train a pneumonia classifier under patient-level privacy, in a minute.

    With --serve you are the data steward: the first click is a decision, then the model trains.

    Example: consilium demo --out /tmp/demo
    Example: consilium demo --serve
    """
    if serve:
        request = {"offline": offline, "seed": seed, "yes": yes}
        import_module("consilium.cli.demo_serve").run_serve(out, **request)
    else:
        import_module("consilium.cli.demo").run_demo(out, offline=offline, seed=seed)


@app.command()
def train(
    project: Annotated[
        Path | None, typer.Argument(help="A project file, see recipes/. Not needed to resume.")
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="An arm; repeat for more. Default federated-dp.")
    ] = None,
    arms: Annotated[str | None, typer.Option(help="Several: all, or a,b,c.")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="section.key=value; repeat for more.")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Train with seeds 0 .. N-1.")] = None,
    out: Annotated[Path | None, typer.Option(help="New folder. Default runs/NAME.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Folder of a run to go on with.", metavar="DIR")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Datasets. Default $CONSILIUM_DATA.")] = None,
    processes: Annotated[bool, typer.Option(help="Every site is a real process.")] = False,
    federation: Annotated[
        Path | None,
        typer.Option(
            help="The researcher's kit: train at the sites of a federation.", metavar="KIT"
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Trains arms of a project and writes a report.

    Example: consilium train recipes/heart.toml --arms all --seeds 5 --out runs/heart
    """
    training = import_module("consilium.cli.train")
    request = training.Request(
        project=project,
        arms=tuple(arm or ()) + tuple(arms.split(",") if arms else ()),
        changes=tuple(change or ()),
        seeds=seeds,
        out=out,
        resume=resume,
        data=data,
        processes=processes,
        federation=federation,
        json=json,
    )
    training.run_training(request)


@app.command()
def search(
    project: Annotated[Path, typer.Argument(help="A project file, see recipes/.")],
    space: Annotated[
        list[str],
        typer.Option(help="section.key=low..high, log:low..high, int:low..high or a|b|c; repeat."),
    ],
    trials: Annotated[int, typer.Option(help="To end with; those of before count.")] = 20,
    arm: Annotated[str, typer.Option(help="Which arm.")] = "federated-dp",
    public_twin: Annotated[
        str | None,
        typer.Option(help="Public data to search on, as data.source. Needed by arms with dp."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; the same goes on. Default searches/NAME.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Datasets. Default $CONSILIUM_DATA.")] = None,
    seed: Annotated[int, typer.Option(help="Of the search, not of any noise.")] = 0,
    json: Json = False,
) -> None:
    """Searches for settings, on public data where the arm is private.

    Example: consilium search recipes/pneumonia64.toml --space learning_rate.initial=log:0.01..1
    --public-twin digits --trials 20
    """
    searching = import_module("consilium.cli.search")
    request = searching.Request(
        project=project,
        space=tuple(space),
        trials=trials,
        arm=arm,
        public_twin=public_twin,
        out=out,
        data=data,
        seed=seed,
        json=json,
    )
    searching.run_search(request)


@app.command()
def serve(
    folder: Annotated[Path, typer.Argument(help="Of an office that was made.", metavar="FOLDER")],
    database: Annotated[
        str | None, typer.Option(help="Default FOLDER/office.db, or $CONSILIUM_DATABASE.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address of this machine to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate chain, PEM. Needed off this machine.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    a_proxy_in_front_ends_tls_at: Annotated[
        str | None, typer.Option(help="https://... as people reach it; this speaks plain HTTP.")
    ] = None,
    courier_seconds: Annotated[
        float, typer.Option(min=0, help="Between visits at coordinators; 0: never.")
    ] = 15.0,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="On standard error.")
    ] = "text",
) -> None:
    """Serves an office's pages and API; the first time, prints the link that sets it up.

    Example: consilium serve /srv/consilium --host office.hospital.example --port 443
    --tls-cert chain.pem --tls-key key.pem
    """
    listening = import_module("consilium.web.serving").Listening(
        host=host,
        port=port,
        certificate=tls_cert,
        key=tls_key,
        proxied_as=a_proxy_in_front_ends_tls_at,
    )
    serving = import_module("consilium.cli.serving")
    request = serving.Request(
        folder=folder,
        database=database,
        listening=listening,
        courier_seconds=courier_seconds,
        log_format=log_format,
    )
    serving.run_serve(request)


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="MODEL_OR_RUN", help="Folder of `consilium train`, or its model."),
    ],
    onnx: Annotated[Path, typer.Option(help="File to write; its card goes beside it.")],
    arm: Annotated[str, typer.Option(help="Which, of several.")] = "federated-dp",
    kind: Annotated[
        str | None,
        typer.Option(help="Of picture: chest-x-ray, fundus, or none. Default by the source."),
    ] = None,
    frame: Annotated[
        Literal["pad", "squash", "crop"] | None,
        typer.Option(help="How pictures become squares, if the source does not say it."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Datasets. Default $CONSILIUM_DATA.")] = None,
    permission: models.Permission = None,
    key: models.Key = None,
    json: Json = False,
) -> None:
    """Writes a trained model as one ONNX file, checked against PyTorch.

    Example: consilium export runs/pneumonia64 --onnx chest.onnx
    """
    signing = models.signing(permission, key)
    import_module("consilium.cli.export").export(
        source, onnx, arm=arm, kind=kind, frame=frame, data=data, signing=signing, as_json=json
    )


@app.command()
def epsilon(
    sampling_probability: Probability,
    noise_multiplier: Annotated[float, typer.Option(help="Noise deviation over clip norm.")],
    steps: Steps,
    delta: Delta,
    accountant: AccountantOption = "pld",
    json: Json = False,
) -> None:
    """Says what epsilon a training costs (Poisson sampling, add or remove one).

    Example: consilium epsilon --sampling-probability .03425 --noise-multiplier 1.15
    --steps 3001 --delta 1e-4
    """
    accounting = import_module("consilium.cli.accounting")
    asked = accounting.Steps(
        sampling_probability=sampling_probability, steps=steps, delta=delta, accountant=accountant
    )
    accounting.show_epsilon(asked, noise_multiplier, as_json=json)


@app.command()
def calibrate(
    target_epsilon: Annotated[float, typer.Option(help="Most that the training may cost.")],
    sampling_probability: Probability,
    steps: Steps,
    delta: Delta,
    accountant: AccountantOption = "pld",
    json: Json = False,
) -> None:
    """Says how much noise keeps a training within an epsilon.

    Example: consilium calibrate --target-epsilon 3 --sampling-probability .01 --steps 1000
    --delta 1e-5
    """
    accounting = import_module("consilium.cli.accounting")
    asked = accounting.Steps(
        sampling_probability=sampling_probability, steps=steps, delta=delta, accountant=accountant
    )
    accounting.show_noise(asked, target_epsilon, as_json=json)
