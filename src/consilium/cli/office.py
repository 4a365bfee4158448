# SPDX-License-Identifier: Apache-2.0
"""The commands of an office and its datasets: options and help. The rest is imported when run.

Whoever runs them acts as the person to whom their account of the operating system is linked.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, TypeAlias

import typer

office = typer.Typer(
    name="office", no_args_is_help=True, rich_markup_mode=None, help="A hospital's own office."
)
dataset = typer.Typer(
    name="dataset", no_args_is_help=True, rich_markup_mode=None, help="Datasets of an office."
)

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
OfficeFolder: TypeAlias = Annotated[
    Path,
    typer.Option("--office", envvar="CONSILIUM_OFFICE", help="The office's folder.", metavar="DIR"),
]
Email: TypeAlias = Annotated[str, typer.Argument(help="A person's address.", metavar="EMAIL")]
Reason: TypeAlias = Annotated[str, typer.Option(help="For the log, and for whom it concerns.")]


def governing() -> ModuleType:
    """Returns what the commands do."""
    return import_module("consilium.cli.governing")


@office.command()
def init(
    folder: Annotated[Path, typer.Argument(help="New folder.", metavar="DIR")],
    name: Annotated[str, typer.Option(help="Of the hospital or coordinator, as in contracts.")],
    kind: Annotated[Literal["site", "coordinator"], typer.Option(help="What it is.")] = "site",
    policy: Annotated[
        Literal["strict", "standard", "demo"], typer.Option(help="See docs/governance.md.")
    ] = "standard",
    owner: Annotated[
        str | None, typer.Option(help="EMAIL=NAME of the first Owner: you; else by a link.")
    ] = None,
    json: Json = False,
) -> None:
    """Makes an office: its key, its database, its roles; no password is made.

    Example: consilium office init /srv/office --name charite --owner anna@x.org=Anna
    """
    governing().init(folder, (name, kind, policy), owner, as_json=json)


@office.command()
def users(
    office: OfficeFolder = Path(),
    words: Annotated[str, typer.Option(help="In name, address, role or group.")] = "",
    json: Json = False,
) -> None:
    """Lists persons.

    Example: consilium office users --office /srv/office --words steward
    """
    governing().users(office, words, as_json=json)


@office.command()
def invite(
    email: Email,
    name: Annotated[str, typer.Option(help="As others read it.")],
    role: Annotated[list[str] | None, typer.Option(help="Repeat for more. Default User.")] = None,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Prints a one-time word by which somebody makes their account; it is kept nowhere.

    Example: consilium office invite weber@x.org --name "Dr Weber" --role "Data Steward"
    """
    governing().invite(office, email, name, tuple(role or ("User",)), as_json=json)


@office.command()
def link(
    email: Email,
    login: Annotated[str, typer.Argument(help="Account of this machine's operating system.")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Lets an account of this machine act as somebody else, on the command line.

    Example: consilium office link weber@x.org weber
    """
    governing().link(office, email, login, as_json=json)


@office.command()
def revoke(
    email: Email,
    reason: Reason,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Ends an account for good, with its grants and unfinished projects.

    Example: consilium office revoke rossi@x.org --reason "left the institute"
    """
    governing().revoke_person(office, email, reason, as_json=json)


@dataset.command()
def register(
    name: Annotated[str, typer.Argument(help="Unique in this office.")],
    folder: Annotated[Path, typer.Argument(help="That `consilium data import` made.")],
    description: Annotated[str, typer.Option(help="For people.")],
    tag: Annotated[list[str] | None, typer.Option(help="To find it by; repeat.")] = None,
    cap: Annotated[float | None, typer.Option(help="Epsilon. Default: the policy's.")] = None,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Makes a card of an imported folder and opens its budget; no row leaves.

    Example: consilium dataset register hearts imported/hearts --description "Heart disease"
    """
    governing().register(office, (name, folder, description, tuple(tag or ()), cap), as_json=json)


@dataset.command("list")
def list_datasets(
    office: OfficeFolder = Path(),
    words: Annotated[str, typer.Option(help="Somewhere on the card.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="All of them.")] = None,
    json: Json = False,
) -> None:
    """Lists datasets of this office and of those that it knows.

    Example: consilium dataset list --tag heart --json
    """
    governing().datasets(office, words, tuple(tag or ()), as_json=json)


@dataset.command()
def freeze(
    name: Annotated[str, typer.Argument(help="Of a dataset here.")],
    reason: Reason,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Stops every new charge at once; to go on takes two people.

    Example: consilium dataset freeze hearts --reason "an audit"
    """
    governing().end_dataset(office, name, reason, for_good=False, as_json=json)


@dataset.command()
def withdraw(
    name: Annotated[str, typer.Argument(help="Of a dataset here.")],
    reason: Reason,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Ends its use for good; projects on it are revoked, its ledger is kept.

    Example: consilium dataset withdraw hearts --reason "consent ended"
    """
    governing().end_dataset(office, name, reason, for_good=True, as_json=json)


@dataset.command("lower-cap")
def lower_cap(
    name: Annotated[str, typer.Argument(help="Of a dataset here.")],
    epsilon: Annotated[float, typer.Option(help="The most that may ever be learnt.")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Lowers a dataset's cap; one person may.

    Example: consilium dataset lower-cap hearts --epsilon 2
    """
    governing().lower_cap(office, name, epsilon, as_json=json)


@dataset.command()
def propose(
    name: Annotated[str, typer.Argument(help="Of a dataset here.")],
    reason: Reason,
    epsilon: Annotated[
        float | None, typer.Option(help="A higher cap; without it: to unfreeze.")
    ] = None,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Proposes a higher cap, or to unfreeze; a second person confirms it.

    Example: consilium dataset propose hearts --epsilon 8 --reason "the ethics board agreed"
    """
    governing().propose(office, name, epsilon, reason, as_json=json)


@dataset.command()
def confirm(
    proposal: Annotated[str, typer.Argument(help="Its id, as `propose` printed it.")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Makes a proposal of somebody else true.

    Example: consilium dataset confirm 01JD...
    """
    governing().confirm(office, proposal, as_json=json)


@dataset.command("opt-out")
def opt_out(
    pseudonym: Annotated[str, typer.Argument(help="As in the dataset's records.csv.")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Leaves a patient out of every round and query from now on.

    Example: consilium dataset opt-out 4f1d...
    """
    governing().opt_out(office, pseudonym, as_json=json)
