# SPDX-License-Identifier: Apache-2.0
"""The commands of trained models: options and help. What they do is imported when they run."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated, Final, TypeAlias, final

import typer

from consilium.cli.office import Json, OfficeFolder
from consilium.governance.model_permissions import permissions_of

model = typer.Typer(
    name="model",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="What may be done with a trained model, and who says so.",
)

Permission: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Of one's own model: device, download, ... Repeat. See `model permit`."),
]
Key: TypeAlias = Annotated[
    Path | None, typer.Option(help="File of the key that signs. Default: this account's.")
]
Name: TypeAlias = Annotated[str, typer.Argument(help="Of the model.")]
Version: TypeAlias = Annotated[str, typer.Option(help="A number, or latest.")]
_LATEST: Final = "latest"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What somebody allows of their own model, and who signs it.

    Attributes:
        permission: Words of what is allowed; () takes the narrowest.
        key: File of the key that signs; None: the account's own.
    """

    permission: tuple[str, ...] = ()
    key: Path | None = None


def signing(permission: list[str] | None, key: Path | None) -> Signing:
    """Returns the two options as one value.

    Raises:
        ConfigError: A word is none.
    """
    return Signing(permission=permissions_of(permission or ()).words(), key=key)


def releasing() -> ModuleType:
    """Returns what the commands do."""
    return import_module("consilium.cli.releasing")


@model.command("list")
def list_models(office: OfficeFolder = Path(), json: Json = False) -> None:
    """Lists the models of an office, and what may be done with each.

    Example: consilium model list --office /srv/office
    """
    releasing().show(office, as_json=json)


@model.command()
def permit(
    name: Name,
    permission: Annotated[
        list[str] | None,
        typer.Option(
            help="download, device, remote-inference, or encrypted-only. Repeat. None: nothing."
        ),
    ] = None,
    version: Version = _LATEST,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Replaces what may be done with a version; its author may not.

    Example: consilium model permit heart --permission device --office /srv/office
    """
    releasing().permit(office, (name, version), tuple(permission or ()), as_json=json)


@model.command()
def release(
    name: Name,
    out: Annotated[Path, typer.Option(help="A new folder.")],
    version: Version = _LATEST,
    office: OfficeFolder = Path(),
    json: Json = False,
) -> None:
    """Writes a version and its signed permit, for `export` and `inference publish`.

    Example: consilium model release heart --out heart/ --office /srv/office
    """
    releasing().release(office, (name, version), out, as_json=json)


@model.command()
def key(
    name: Annotated[
        str | None, typer.Option(help="Of whoever signs, for people; where the key is made now.")
    ] = None,
    key: Key = None,
    json: Json = False,
) -> None:
    """Prints the words of the key that signs on this account; makes it if there is none.

    Example: consilium model key --name "Dr Weber, Charite"
    """
    releasing().key(name, key, as_json=json)


@model.command()
def verify(
    file: Annotated[Path, typer.Argument(help="MODEL.onnx, its card, or a permit.")],
    publisher: Annotated[
        str | None,
        typer.Option(help="Six words of whom you expect, or a card or permit of theirs."),
    ] = None,
    json: Json = False,
) -> None:
    """Checks signatures and digests, and says who allows what.

    Example: consilium model verify chest.onnx --publisher "lohon mopas fuluz vukit furir laluz"
    """
    releasing().verify(file, publisher, as_json=json)
