# SPDX-License-Identifier: Apache-2.0
"""From a file to what a trained model sees, and whether it is of the kind that the model knows.

The same for a model on the device and for one that is asked encrypted: the picture is judged here,
before anything of it is computed on or shared. Guarantees: what is too large, damaged or of several
planes is refused by name. Not here: the model.
"""

from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from consilium.adapters.model_card import Input, PictureKind
from consilium.data.dicom_files import looks_like_dicom, open_dicom, sample_of
from consilium.data.framing import framed
from consilium.data.image_files import FORMATS, read_image, suffix_of
from consilium.data.rendering import in_channels, windowed
from consilium.data.samples import RejectedFile, Sample
from consilium.errors import DataError
from consilium.learning.familiarity import Kind, colourfulness

Verdict: TypeAlias = Literal["known", "strange", "in colour"]
KIND_WORDS: Final = {
    "chest-x-ray": "a chest X-ray",
    "fundus": "a photograph of the back of an eye",
}


def read_plane(data: bytes, name: str, rule: Input) -> NDArray[np.uint8]:
    """Returns grey levels (channels, height, width) of the picture in `data`, a file `name`.

    Raises:
        DataError: It cannot be read, has several planes, or is too large.
    """
    return plane_of(_sample(data, name), rule)


def plane_of(sample: Sample, rule: Input) -> NDArray[np.uint8]:
    """Returns grey levels (channels, height, width) of a picture that was read.

    Raises:
        DataError: It has several planes, or other channels.
    """
    channels, depth = sample.pixels.shape[:2]
    if depth != 1 or channels not in (1, 3):
        raise DataError(
            f"picture with {depth} planes of {channels} channels; expected one plane: choose "
            "one frame of it"
        )
    window = rule.window or sample.window
    values = sample.pixels[:, 0]
    if values.dtype == np.uint8 and window == (0.0, 255.0):
        return np.asarray(values, np.uint8)
    return windowed(values, window)


def levels_of(plane: NDArray[np.uint8], rule: Input) -> NDArray[np.uint8]:
    """Returns what the model sees of a picture, (channels, size, size).

    Raises:
        DataError: It is too small.
    """
    return framed(in_channels(plane, rule.channels), rule.size, rule.frame)


def judge(plane: NDArray[np.uint8], numbers: PictureKind | None) -> tuple[Verdict, float]:
    """Returns whether a picture is of a kind, and its strangeness; 0 where there is no kind."""
    if numbers is None:
        return "known", 0.0
    kind = kind_of(numbers)
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


def kind_numbers(kind: Kind) -> PictureKind:
    """Returns the kind as numbers of a card."""
    return PictureKind(
        name=kind.name,
        frame=kind.frame,
        grid=kind.grid,
        channels=kind.channels,
        centre=tuple(kind.centre.tolist()),
        directions=tuple(tuple(row) for row in kind.directions.tolist()),
        limit=kind.limit,
        most_colour=kind.most_colour,
    )
