# SPDX-License-Identifier: Apache-2.0
"""The phone page with one model in it, for any web server: the picture stays on the phone.

Guarantees: only a model that its owner gives to devices, and that makes a promise of privacy, is
handed out.
"""

from pathlib import Path
from typing import Final

import msgspec

from consilium.adapters.model_card import ModelCard, read_model
from consilium.errors import ConfigError
from consilium.governance.model_permissions import Use
from consilium.governance.model_permits import require
from consilium.web.phone.pages import PAGE, PhoneSite, assemble

_BUILT: Final = {name: name for name in ("app.js", PAGE, "ort.wasm", "worker.js")}


def make_site(model: Path) -> PhoneSite:
    """Returns the page for MODEL.onnx and the card beside it.

    Raises:
        ConfigError: The model is not its card's, tells no classes, or the page's scripts were not
            made.
        AccessDenied: It may not be given to a device, or its card was changed.
    """
    data, card = read_model(model)
    _check(card)
    # The card goes on as it was read: what the page shows is what was checked.
    return assemble(_BUILT, {"model.onnx": data, "card.json": msgspec.json.encode(card)})


def _check(card: ModelCard) -> None:
    require(card.permit, Use.DEVICE)
    if card.task != "classification":
        raise ConfigError(f"model {card.name} draws label maps; expected one that tells classes")
