# SPDX-License-Identifier: Apache-2.0
"""The commands of projects: options and help. What they do is imported when they run."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from consilium.cli.office import Json, OfficeFolder, Reason, governing

project = typer.Typer(
    name="project",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Contracts: written, reviewed, carried.",
)

Name: TypeAlias = Annotated[str, typer.Argument(help="Name or id of a project.", metavar="PROJECT")]
Digest: TypeAlias = Annotated[
    str, typer.Option(help="Of the terms that you read: `consilium project show`.")
]
Words: TypeAlias = Annotated[str, typer.Option(help="What the author reads.")]


@project.command()
def submit(
    file: Annotated[Path, typer.Argument(help="The project file.", metavar="PROJECT.toml")],
    dataset: Annotated[list[str], typer.Option(help="SITE=DATASET; one of each site.")],
    purpose: Annotated[str, typer.Option(help="What for, in plain words.")],
    arm: Annotated[str, typer.Option(help="Of the project file.")] = "federated-dp",
    ethics: Annotated[str, typer.Option(help="Reference of the ethics vote.")] = "",
    days: Annotated[int, typer.Option(help="Until it expires.")] = 90,
    runs: Annotated[int, typer.Option(help="How often it may be trained.")] = 1,
    dry_run: Annotated[bool, typer.Option(help="Show the contract; keep nothing.")] = False,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Makes a contract of a project file and hands it to the reviewers.

    Example: consilium project submit heart.toml --dataset charite=hearts --dataset tum=hearts
    --dataset lmu=hearts --purpose "Tell who is ill"
    """
    asked = governing().Asked(
        file=file,
        datasets=tuple(dataset),
        arm=arm,
        purpose=purpose,
        ethics=ethics,
        days=days,
        runs=runs,
    )
    governing().submit(office, asked, dry_run=dry_run, as_json=json)


@project.command("list")
def list_projects(
    office: OfficeFolder = Path(),
    state: Annotated[list[str] | None, typer.Option(help="Only these; repeat.")] = None,
    json: Json = False,
) -> None:
    """Lists projects, newest first, and whose turn it is.

    Example: consilium project list --state under-review
    """
    governing().projects(office, tuple(state or ()), as_json=json)


@project.command()
def show(
    project: Name,
    office: OfficeFolder = Path(),
    toml: Annotated[bool, typer.Option(help="Print the project file that a run plays.")] = False,
    json: Json = False,
) -> None:
    """Shows purpose, price, terms and who said what.

    Example: consilium project show heart --json
    """
    governing().show(office, project, toml=toml, as_json=json)


@project.command()
def review(project: Name, office: OfficeFolder = Path(), json: Json = False) -> None:
    """Begins a review, so that others see it.

    Example: consilium project review heart
    """
    governing().begin_review(office, project, as_json=json)


@project.command()
def approve(
    project: Name,
    digest: Digest,
    expires_days: Annotated[
        int | None, typer.Option(help="A condition: no longer than so many days.")
    ] = None,
    runs: Annotated[int | None, typer.Option(help="A condition: fewer runs.")] = None,
    reviewers: Annotated[int, typer.Option(help="A condition: so many of us must agree.")] = 1,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Says yes to exactly the terms with this digest.

    Example: consilium project approve heart --digest 4f2a... --reviewers 2
    """
    conditions = (expires_days, runs, reviewers)
    governing().approve(office, project, digest, conditions, as_json=json)


@project.command()
def ask(
    project: Name, digest: Digest, words: Words, office: OfficeFolder = Path(), json: Json = False
) -> None:
    """Asks the author a question; the project is theirs until they answer.

    Example: consilium project ask heart --digest 4f2a... --words "Why 60 rounds?"
    """
    governing().object_to(office, project, (digest, words), refuse=False, as_json=json)


@project.command()
def refuse(
    project: Name, digest: Digest, words: Words, office: OfficeFolder = Path(), json: Json = False
) -> None:
    """Says no, for good, with a reason.

    Example: consilium project refuse heart --digest 4f2a... --words "No consent for this use"
    """
    governing().object_to(office, project, (digest, words), refuse=True, as_json=json)


@project.command()
def revoke(
    project: Name, reason: Reason, office: OfficeFolder = Path(), json: Json = False
) -> None:
    """Ends it at its next step. What was released cannot be called back.

    Example: consilium project revoke heart --reason "a patient withdrew"
    """
    governing().revoke_project(office, project, reason, as_json=json)


@project.command()
def diff(
    project: Name,
    before: Annotated[int, typer.Argument(help="A revision.")],
    after: Annotated[int, typer.Argument(help="Another.")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Shows what changed between two revisions, one setting a line.

    Example: consilium project diff heart 1 2
    """
    governing().diff(office, project, before, after, as_json=json)


@project.command()
def export(
    project: Name,
    out: Annotated[Path, typer.Option(help="New file.", metavar="FILE")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Writes contract and signed words to a file for other offices.

    Example: consilium project export heart --out heart.json
    """
    governing().export(office, project, out, as_json=json)


@project.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="That another office exported.", metavar="FILE")],
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Takes such a file: a new project, a new revision, or what an office said.

    Example: consilium project import heart.json
    """
    governing().take(office, file, as_json=json)
