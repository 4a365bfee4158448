# SPDX-License-Identifier: Apache-2.0
"""What the commands of trained models do."""

from pathlib import Path
from typing import Final

import msgspec
import typer

from consilium.adapters.model_card import card_path, decode_card, read_model
from consilium.adapters.publisher_key import NAMELESS, default_publisher_file, signer_of
from consilium.adapters.released_models import MODELS
from consilium.adapters.released_models import release as write_release
from consilium.cli.governing import acting, show_json, tell
from consilium.errors import AccessDenied, ConfigError
from consilium.governance.model_permissions import Use, may_use, permissions_of
from consilium.governance.model_permits import Permit, Publisher, may_use_under, read_permit

_LARGEST: Final = 1 << 22  # bytes of a card


def show(folder: Path, *, as_json: bool) -> None:
    """Lists versions."""
    with acting(folder) as (office, actor):
        found = office.models.versions(actor)
    if as_json:
        show_json(found)
        return
    for one in found:
        uses = ", ".join(use for use in Use if may_use(one, use).allowed) or "kept in the office"
        epsilon = "none" if one.epsilon is None else f"{one.epsilon:.4f}"
        typer.echo(f"{one.name:24} {one.version:3} epsilon {epsilon:8} {uses}")


def permit(folder: Path, named: tuple[str, str], words: tuple[str, ...], *, as_json: bool) -> None:
    """Replaces permissions."""
    with acting(folder) as (office, actor):
        found = office.models.resolve(actor, *named)
        changed = office.models.permit(actor, found.id, permissions_of(words))
    said = ", ".join(changed.permissions.words()) or "nothing"
    tell(changed, f"{changed.name} {changed.version}: {said}", as_json=as_json)


def release(folder: Path, named: tuple[str, str], out: Path, *, as_json: bool) -> None:
    """Writes a version with its permit."""
    with acting(folder) as (office, actor):
        made = write_release(office, actor, folder / MODELS, named, out)
    if as_json:
        show_json({"folder": str(out), "permit": made})
        return
    typer.echo(f"{out}: {made.model} {made.version}, the weights and the office's permit")
    _say_permit(made)


def key(name: str | None, file: Path | None, *, as_json: bool) -> None:
    """Prints a key's words.

    Raises:
        ConfigError: A name for a key that has one.
    """
    place = file or default_publisher_file()
    if name is not None and place.exists():
        raise ConfigError(
            f"--name {name!r}, and {place.name} has a key with a name; expected none of one's own: "
            "leave --name out, or choose another --key"
        )
    signs = signer_of(place, name=name or NAMELESS).publisher
    words = {"file": str(place), "name": signs.name, "words": signs.words(), "key": signs.key}
    tell(words, f"{signs.name}: {signs.words()}", as_json=as_json)


# -- Verification ---------------------------------------------------------------------


def verify(file: Path, expected: str | None, *, as_json: bool) -> None:
    """Checks a model with its card, a card, or a permit.

    Raises:
        ConsiliumError: Something was changed, or is not of whom was expected.
    """
    made_by, permit = _checked(file)
    wanted = None if expected is None else _words_of(expected)
    if wanted not in (None, made_by.words()):
        raise AccessDenied(
            f"{file.name} is signed by {made_by.name!r} ({made_by.words()}); expected {wanted}: it "
            "is not theirs, do not use it"
        )
    if as_json:
        known = {"publisher": made_by, "words": made_by.words(), "permit": permit}
        show_json(known | {"owner_words": permit.publisher.words(), "pinned": wanted is not None})
        return
    typer.echo(f"{file.name}: unchanged since {made_by.name} signed it: {made_by.words()}")
    _say_permit(permit)
    if wanted is None:
        typer.echo("Compare the words with those that the publisher told you another way.")


def _checked(file: Path) -> tuple[Publisher, Permit]:
    if file.suffix == ".onnx":
        _, card = read_model(file)
        return card.publisher, card.permit
    data = _read(file)
    if _format_of(data).startswith("consilium-permit/"):
        permit = read_permit(data)
        return permit.publisher, permit
    card = decode_card(data)
    if (model := card_path(file).with_suffix(".onnx")).exists():
        read_model(model)
    return card.publisher, card.permit


def _words_of(expected: str) -> str:
    """Returns six words, or those of whoever signed the file that is named."""
    words = " ".join(expected.split())
    if len(words.split(" ")) > 1:
        return words
    return _checked(Path(expected))[0].words()


def _say_permit(permit: Permit) -> None:
    owner, allowed = permit.publisher, [u for u in Use if may_use_under(permit, u).allowed]
    epsilon = "no guarantee" if permit.epsilon is None else f"epsilon {permit.epsilon:.4f}"
    typer.echo(f"weights {permit.weights[:16]}..., {epsilon}")
    typer.echo(f"allowed by {owner.name}: {', '.join(allowed) or 'nothing'}; {owner.words()}")


class _Formatted(msgspec.Struct):
    format: str = ""


def _format_of(data: bytes) -> str:
    try:
        return msgspec.json.decode(data, type=_Formatted).format
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST + 1)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read ({type(error).__name__}); expected a model, a card or a permit"
        ) from None
