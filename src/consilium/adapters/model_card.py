# SPDX-License-Identifier: Apache-2.0
"""What travels with an exported model: all that is needed to use it, and to judge it.

The card lies beside MODEL.onnx as MODEL.json. It holds the SHA-256 of the model's bytes, so that
whoever has the card from a trusted place can check the model; within the model itself is the rest
of it. Guarantees: strict (unknown keys and other formats are refused), no private data.
"""

import hashlib
from pathlib import Path
from typing import Final, Literal

import msgspec

from consilium.data.framing import Frame
from consilium.errors import ConfigError, DataError
from consilium.federation.statement import Statement
from consilium.learning.certainty import Certainty

FORMAT: Final = "consilium-model/1"
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
    """

    format: Literal["consilium-model/1"] = FORMAT
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
    """Returns the card in `written`.

    Raises:
        DataError: It is not one.
    """
    try:
        if len(written) > _LARGEST:
            raise DataError(f"a card of {len(written)} bytes; expected at most {_LARGEST}")
        return msgspec.json.decode(written, type=ModelCard)
    except msgspec.MsgspecError as error:
        raise DataError(
            f"card cannot be read ({error}); expected format {FORMAT}, as `consilium export` "
            "writes it: export the model again"
        ) from None
