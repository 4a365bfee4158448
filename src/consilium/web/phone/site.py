# SPDX-License-Identifier: Apache-2.0
"""The phone page with one model in it, for any web server: the picture stays on the phone.

Guarantees: only a model whose privacy statement makes a promise is handed out.
"""

from pathlib import Path
from typing import Final

import msgspec

from consilium.adapters.model_card import ModelCard, read_model
from consilium.errors import ConfigError
from consilium.web.phone.pages import PAGE, PhoneSite, assemble

_BUILT: Final = {name: name for name in ("app.js", PAGE, "ort.wasm", "worker.js")}


def make_site(model: Path) -> PhoneSite:
    """Returns the page for MODEL.onnx and the card beside it.

    Raises:
        ConfigError: The model is not its card's, makes no promise of privacy, tells no classes,
            or the page's scripts were not made.
    """
    data, card = read_model(model)
    _check(card)
    # The card goes on as it was read: what the page shows is what was checked.
    return assemble(_BUILT, {"model.onnx": data, "card.json": msgspec.json.encode(card)})


def _check(card: ModelCard) -> None:
    if not card.privacy.private:
        raise ConfigError(
            f"model {card.name} was trained by arm {card.arm!r}, which makes no promise to "
            "patients; expected a private one: a page hands the model to everybody"
        )
    if card.task != "classification":
        raise ConfigError(f"model {card.name} draws label maps; expected one that tells classes")
