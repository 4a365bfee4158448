# SPDX-License-Identifier: Apache-2.0
"""One picture looked at by an exported model on this machine: what the phone page does, in Python.

It is the oracle of the page (same bytes, same answer) and the way to use an exported model without
a browser. Guarantees: a picture that is too large, damaged or of another kind is refused by name
before the model sees it; nothing is stored or sent.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from consilium.adapters.model_card import INPUT, ModelCard, read_model
from consilium.adapters.onnx_export import session_of
from consilium.adapters.picture_input import Verdict, judge, levels_of, read_plane
from consilium.errors import ConfigError
from consilium.governance.model_permissions import HOLDING
from consilium.governance.model_permits import require


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a model says of one picture.

    Attributes:
        verdict: Whether the picture is of the kind that the model knows.
        strangeness: See `Kind`; 0 where the model has no kind.
        probabilities: One a class; empty of a picture that is not known.
        levels: What the model saw, uint8 (channels, size, size).
    """

    verdict: Verdict
    strangeness: float
    probabilities: NDArray[np.float32] = field(repr=False)
    levels: NDArray[np.uint8] = field(repr=False)


@final
@dataclass(frozen=True, slots=True)
class DeviceModel:
    """An exported model, ready to look."""

    card: ModelCard
    session: onnxruntime.InferenceSession = field(repr=False)

    @classmethod
    def load(cls, model: Path) -> "DeviceModel":
        """Returns the model in MODEL.onnx.

        Raises:
            ConfigError: It is not what its card says, or tells no classes.
            AccessDenied: Nobody may hold it, or its card was changed.
        """
        data, card = read_model(model)
        require(card.permit, *HOLDING)
        if card.task != "classification":
            raise ConfigError(
                f"{model.name} draws label maps; expected a model that tells classes: use another"
            )
        return cls(card, session_of(data))

    def look(self, data: bytes, name: str) -> Seen:
        """Returns what the model says of the picture in `data`, the content of a file `name`.

        Raises:
            DataError: It cannot be read, has several planes, or is too small or too large.
        """
        plane = read_plane(data, name, self.card.input)
        levels = levels_of(plane, self.card.input)
        verdict, strangeness = judge(plane, self.card.kind)
        if verdict != "known":
            return Seen(
                verdict=verdict,
                strangeness=strangeness,
                probabilities=np.zeros(0, np.float32),
                levels=levels,
            )
        _, probabilities = self.session.run(None, {INPUT: levels[None]})
        return Seen(
            verdict=verdict,
            strangeness=strangeness,
            probabilities=np.asarray(probabilities[0], np.float32),
            levels=levels,
        )
