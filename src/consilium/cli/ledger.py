# SPDX-License-Identifier: Apache-2.0
"""The commands of the privacy ledger: options and help. What they do is imported when they run.

Those that change something are for a ledger without an office: the names given by `--by` are
written down and not proved. Where there is an office they are refused, and its own commands
(`consilium dataset`), pages and API know who acts.
"""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

ledger = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What this hospital's patients have given away, and the most that they may.",
)

Url: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="CONSILIUM_DATABASE", help="sqlite:///FILE or postgresql://...", metavar="URL"
    ),
]
By: TypeAlias = Annotated[
    list[str], typer.Option(help="Who stands for it; repeat for a second person.", metavar="NAME")
]
Dataset: TypeAlias = Annotated[str, typer.Argument(help="Name of the dataset in the ledger.")]
Pseudonym: TypeAlias = Annotated[str, typer.Argument(help="As in the dataset's records.csv.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def _keeping() -> Any:  # noqa: ANN401 - a module, imported when a command runs
    return import_module("consilium.cli.keeping")


@ledger.command()
def show(
    database: Url,
    dataset: Annotated[str | None, typer.Argument(help="One dataset; without it all.")] = None,
    json: Json = False,
) -> None:
    """Shows what was given away, by project, month and patient, and what is left.

    Example: consilium ledger show cxr-2024 --database sqlite:///office.db
    """
    _keeping().show(database, dataset, as_json=json)


@ledger.command()
def verify(database: Url, json: Json = False) -> None:
    """Checks every entry, rule and table; names the first row that is wrong. Exit code 2 then.

    Example: consilium ledger verify --database sqlite:///office.db
    """
    _keeping().verify(database, as_json=json)


@ledger.command()
def export(
    database: Url,
    out: Annotated[Path, typer.Option(help="A new file: one entry a line, JSON.")],
    json: Json = False,
) -> None:
    """Writes all entries with their links, for an auditor. Patients are numbers in it.

    Example: consilium ledger export --out ledger.jsonl --database sqlite:///office.db
    """
    _keeping().export(database, out, as_json=json)


@ledger.command()
def cap(
    database: Url,
    by: By,
    epsilon: Annotated[float, typer.Option(help="The most that may ever be learnt.")],
    delta: Annotated[float, typer.Option(help="Below 1 over the number of patients.")],
    dataset: Annotated[
        str | None, typer.Argument(help="Name of a dataset; a new one gets an account.")
    ] = None,
    patients: Annotated[
        bool, typer.Option("--patients", help="Of every patient, over all datasets here.")
    ] = False,
    json: Json = False,
) -> None:
    """Sets the cap of a dataset, or of every patient. One person lowers, two raise.

    Example: consilium ledger cap cxr-2024 --epsilon 8 --delta 1e-6 --by weber
    """
    _keeping().cap(database, (dataset, patients), (epsilon, delta), by, as_json=json)


@ledger.command()
def freeze(dataset: Dataset, database: Url, by: By, json: Json = False) -> None:
    """Refuses every charge on a dataset, also of runs that go on; their next step fails.

    Example: consilium ledger freeze cxr-2024 --by weber --database sqlite:///office.db
    """
    _keeping().change(database, "freeze", dataset, by, as_json=json)


@ledger.command()
def thaw(dataset: Dataset, database: Url, by: By, json: Json = False) -> None:
    """Allows charges again; two people stand for it.

    Example: consilium ledger thaw cxr-2024 --by weber --by khan --database sqlite:///office.db
    """
    _keeping().change(database, "thaw", dataset, by, as_json=json)


@ledger.command("opt-out")
def opt_out(pseudonym: Pseudonym, database: Url, by: By, json: Json = False) -> None:
    """Leaves a patient out of every round and query that is computed from now on.

    Example: consilium ledger opt-out 4f1d... --by weber --database sqlite:///office.db
    """
    _keeping().change(database, "opt_out", pseudonym, by, as_json=json)


@ledger.command("opt-in")
def opt_in(pseudonym: Pseudonym, database: Url, by: By, json: Json = False) -> None:
    """Lets a patient who opted out take part again.

    Example: consilium ledger opt-in 4f1d... --by weber --database sqlite:///office.db
    """
    _keeping().change(database, "opt_in", pseudonym, by, as_json=json)


@ledger.command("return")
def return_(
    reservation: Annotated[int, typer.Argument(help="Its number, as `show --json` lists it.")],
    database: Url,
    reason: Annotated[str, typer.Option(help="Why the run will not go on.")],
    json: Json = False,
) -> None:
    """Returns what a run that ended early still holds; what it released stays charged.

    Example: consilium ledger return 7 --reason "run stopped" --database sqlite:///office.db
    """
    _keeping().give_back(database, reservation, reason, as_json=json)
