# SPDX-License-Identifier: Apache-2.0
"""What of a model that is asked encrypted is public, signed by whoever published it.

Guarantees: a card that is not as it was signed, or whose permit is not, or does not allow this, is
refused: by the operators before they hold a share, and by the patient before a picture is shared.
Not bound by it: that the operators compute with the weights that were shared (`inference`).
"""

from typing import Final, Literal, final

import msgspec

from consilium.adapters.model_card import Input, PictureKind, check_permit
from consilium.errors import DataError
from consilium.federation.statement import Statement
from consilium.governance.model_permissions import Use
from consilium.governance.model_permits import Permit, Publisher, check_signature, require
from consilium.learning.certainty import Certainty

FORMAT: Final = "consilium-encrypted/1"


@final
class About(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told of a trained model; see `adapters.model_card.ModelCard`.

    Attributes:
        input: How a picture becomes grey levels, before preprocessing.
        temperature: To divide opened logits by, before confidences.
        certainties: What such confidences were worth on test records.
        kind: Of picture that it knows; None where nobody can tell.
    """

    arm: str
    sentence: str
    network: str
    task: Literal["classification", "segmentation"]
    sites: int
    terms: str
    input: Input
    temperature: float
    certainties: tuple[Certainty, ...]
    kind: PictureKind | None
    privacy: Statement


@final
class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of a published model is public.

    Attributes:
        format: Of this card.
        name: For people.
        classes: In the order of the logits.
        shape: Of one record, (channels, height, width).
        mean, std, standardise_each_image: Of `learning.preprocessing`.
        ranges: What they rest on, "proved" or "calibrated", and on how many images.
        about: The model.
        permit: What its owner allows, of the weights that were shared.
        publisher: Who published and signed this.
        signature: Of all of this, hexadecimal.
    """

    format: Literal["consilium-encrypted/1"] = FORMAT
    name: str
    classes: tuple[str, ...]
    shape: tuple[int, ...]
    mean: float
    std: float
    standardise_each_image: bool
    ranges: str
    calibrated_on: int
    about: About
    permit: Permit
    publisher: Publisher
    signature: str


def check_card(card: Card) -> Card:
    """Returns the card if it was signed so, under a permit for this.

    Raises:
        AccessDenied: It was not.
    """
    check_signature(card, f"the card of model {card.name!r}")
    check_permit(card.permit, card.about.privacy)
    require(card.permit, Use.ENCRYPTED_INFERENCE)
    return card


def read_card(written: bytes) -> Card:
    """Returns the card in `written`, checked.

    Raises:
        DataError: It is none.
        AccessDenied: It was changed, or its permit forbids this.
    """
    try:
        card = msgspec.json.decode(written, type=Card)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataError(
            f"the public card cannot be read ({error}); expected format {FORMAT}: publish the "
            "model again, with this release"
        ) from None
    return check_card(card)
