# SPDX-License-Identifier: Apache-2.0
"""One picture looked at by an exported model on this machine: what the phone page does, in Python.

It is the oracle of the page (same bytes, same answer) and the way to use an exported model without
a browser. Guarantees: a picture that is too large, damaged or of another kind is refused by name
before the model sees it; nothing is stored or sent.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from consilium.adapters.model_card import INPUT, ModelCard, PictureKind, read_model
from consilium.adapters.onnx_export import session_of
from consilium.data.dicom_files import looks_like_dicom, open_dicom, sample_of
from consilium.data.framing import framed
from consilium.data.image_files import FORMATS, read_image, suffix_of
from consilium.data.rendering import in_channels, windowed
from consilium.data.samples import RejectedFile, Sample
from consilium.errors import ConfigError, DataError
from consilium.learning.familiarity import Kind, colourfulness

Verdict: TypeAlias = Literal["known", "strange", "in colour"]


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
        """
        data, card = read_model(model)
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
        plane = self._plane(_sample(data, name))
        levels = framed(
            in_channels(plane, self.card.input.channels),
            self.card.input.size,
            self.card.input.frame,
        )
        verdict, strangeness = self._verdict(plane)
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

    def _plane(self, sample: Sample) -> NDArray[np.uint8]:
        channels, depth = sample.pixels.shape[:2]
        if depth != 1 or channels not in (1, 3):
            raise DataError(
                f"picture with {depth} planes of {channels} channels; expected one plane: choose "
                "one frame of it"
            )
        window = self.card.input.window or sample.window
        values = sample.pixels[:, 0]
        if values.dtype == np.uint8 and window == (0.0, 255.0):
            return np.asarray(values, np.uint8)
        return windowed(values, window)

    def _verdict(self, plane: NDArray[np.uint8]) -> tuple[Verdict, float]:
        if self.card.kind is None:
            return "known", 0.0
        kind = kind_of(self.card.kind)
        if colourfulness(plane) > kind.most_colour:
            return "in colour", 0.0
        strangeness = kind.strangeness(in_channels(plane, 3 if kind.channels == 3 else 1))
        return ("known" if strangeness <= kind.limit else "strange"), strangeness


def kind_of(numbers: PictureKind) -> Kind:
    """Returns the kind that a card holds as numbers."""
    return Kind(
        name=numbers.name,
        frame=numbers.frame,
        grid=numbers.grid,
        channels=numbers.channels,
        centre=np.array(numbers.centre),
        directions=np.array(numbers.directions),
        limit=numbers.limit,
        most_colour=numbers.most_colour,
    )


def _sample(data: bytes, name: str) -> Sample:
    dicom = looks_like_dicom(data)
    if not dicom and suffix_of(name) not in FORMATS:
        raise RejectedFile("not a format that is read", "expected PNG, JPEG or DICOM")
    try:
        return sample_of(open_dicom(data)) if dicom else read_image(data, name)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on damage
        raise RejectedFile("damaged", type(error).__name__) from None
