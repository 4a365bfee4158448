# SPDX-License-Identifier: Apache-2.0
"""What travels with an exported model: all that is needed to use it, and to judge it.

The card lies beside MODEL.onnx as MODEL.json. It holds the SHA-256 of the model's bytes and the
owner's permit, and is signed by whoever made it; within the model itself are its essentials.
Guarantees: a card that is not as it was signed, holds a permit that is not, or lies beside another
model is refused; so are unknown keys and other formats. No private data.
"""

import hashlib
from pathlib import Path
from typing import Final, Literal

import msgspec

from consilium.data.framing import Frame
from consilium.errors import AccessDenied, ConfigError, DataError
from consilium.federation.statement import Statement
from consilium.governance.model_permits import Permit, Publisher, check_signature
from consilium.learning.certainty import Certainty

FORMAT: Final = "consilium-model/2"
INPUT: Final = "image"
OUTPUTS: Final = ("logits", "probabilities")
_LARGEST: Final = 1 << 22


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a picture becomes the model's input, uint8 of shape (1, channels, size, size).

    Attributes:
        channels: 1 for grey, 3 for colour.
        size: Pixels on a side.
        frame: See `consilium.data.framing`.
        window: Black and white in the unit of the file; None takes each file's own.
    """

    channels: Literal[1, 3]
    size: int
    frame: Frame
    window: tuple[float, float] | None = None


class PictureKind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `consilium.learning.familiarity.Kind` as numbers."""

    name: str
    frame: Frame
    grid: int
    channels: int
    centre: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    limit: float
    most_colour: float


class Checked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the file was compared with PyTorch before it was written.

    Attributes:
        pictures: How many, made up, so that the comparison tells nothing of a patient.
        tolerance: No logit and no probability differed by more.
        versions: Of the software that compared.
    """

    pictures: int
    tolerance: float
    versions: dict[str, str]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything worth knowing of an exported model.

    Attributes:
        format: Of this card.
        name: Of the project.
        arm: How it was trained, and in words:
        sentence: what that means.
        network: Of the registry.
        task: What it tells.
        classes: In the order of the outputs.
        sites: How many trained it.
        terms: Digest of the project that it was trained under.
        input: What it takes.
        preprocessing: Constants of `learning.preprocessing`; inside the graph.
        temperature: That logits are divided by; inside the graph.
        certainties: What its confidences were worth on test records; () where not measured.
        kind: Of picture that it knows; None where nobody can tell.
        privacy: The statement, exact.
        sha256: Of the model's bytes.
        size: Of the model, bytes.
        opset: Of ONNX.
        checked: Against PyTorch.
        permit: What its owner allows, of the weights that it was made from.
        publisher: Who made and signed this.
        signature: Of all of this, hexadecimal.
    """

    format: Literal["consilium-model/2"] = FORMAT
    name: str
    arm: str
    sentence: str
    network: str
    task: Literal["classification", "segmentation"]
    classes: tuple[str, ...]
    sites: int
    terms: str
    input: Input
    preprocessing: dict[str, float | bool | int]
    temperature: float
    certainties: tuple[Certainty, ...]
    kind: PictureKind | None
    privacy: Statement
    sha256: str
    size: int
    opset: int
    checked: Checked
    permit: Permit
    publisher: Publisher
    signature: str


def card_path(model: Path) -> Path:
    """Returns where the card of a model lies.

    >>> str(card_path(Path("out/chest.onnx")))
    'out/chest.json'
    """
    return model.with_suffix(".json")


def encode_card(card: ModelCard) -> bytes:
    """Returns the card as its file holds it."""
    return msgspec.json.format(msgspec.json.encode(card), indent=1) + b"\n"


def read_model(model: Path) -> tuple[bytes, ModelCard]:
    """Returns the bytes of an exported model and its card, if they belong together.

    Raises:
        ConfigError: One of them cannot be read, or the model is not the card's.
        DataError: The card is none.
        AccessDenied: The card, or the permit in it, is not as it was signed.
    """
    try:
        data = model.read_bytes()
        written = card_path(model).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{Path(str(error.filename)).name} cannot be read ({type(error).__name__}); expected "
            "MODEL.onnx and MODEL.json beside it, as `consilium export` writes them"
        ) from None
    card = decode_card(written)
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise ConfigError(
            f"{model.name} has the digest {found[:16]}...; its card says {card.sha256[:16]}...: "
            "export it again, or fetch both from who published them"
        )
    return data, card


def decode_card(written: bytes) -> ModelCard:
    """Returns the card in `written`, if it and its permit are as they were signed.

    Raises:
        DataError: It is not one.
        AccessDenied: It was changed.
    """
    try:
        if len(written) > _LARGEST:
            raise DataError(f"a card of {len(written)} bytes; expected at most {_LARGEST}")
        card = msgspec.json.decode(written, type=ModelCard)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"card cannot be read ({error}); expected format {FORMAT}, as `consilium export` "
            "writes it: export the model again"
        ) from None
    check_signature(card, f"the card of model {card.name!r}")
    check_permit(card.permit, card.privacy)
    return card


def check_permit(permit: Permit, privacy: Statement) -> None:
    """Refuses a permit that is not as it was signed, or promises what the statement does not.

    Raises:
        AccessDenied: It is so.
    """
    check_signature(permit, f"the permit of model {permit.model!r}")
    found = worst_epsilon(privacy)
    if permit.epsilon is not None and (found is None or found > permit.epsilon):
        said = "none" if found is None else f"{found:g}"
        raise AccessDenied(
            f"the permit of {permit.publisher.name!r} says epsilon {permit.epsilon:g}, and the "
            f"privacy statement {said}; expected a permit that promises no more: do not use it"
        )


def worst_epsilon(privacy: Statement) -> float | None:
    """Returns epsilon of the view that learns most; None without a guarantee."""
    if not privacy.private:
        return None
    return max((one.epsilon for one in privacy.guarantees), default=None)
