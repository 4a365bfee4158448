# SPDX-License-Identifier: Apache-2.0
"""Files of pictures as a published model sees them, and why a file is none.

PNG, JPEG, BMP, TIFF, WebP, PNM and DICOM of one frame; by the same rules as at training.
Guarantees: sizes are checked before a pixel is decoded; a refusal names the file and what was
expected, and quotes nothing of what is in it.
"""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.adapters.model_card import Input, PictureKind
from consilium.adapters.picture_input import KIND_WORDS, judge, levels_of, plane_of
from consilium.data.dicom_files import looks_like_dicom, open_dicom, sample_of
from consilium.data.framing import Frame
from consilium.data.image_files import FORMATS, read_image, suffix_of
from consilium.data.samples import MAX_FILE_BYTES, MAX_VALUES, Reason, RejectedFile, Sample
from consilium.errors import ConfigError, DataError
from consilium.learning.preprocessing import Preprocessing

_DICOM_NAMES: Final = (".dcm", ".dicom")
_KINDS: Final = f"one of {', '.join(FORMATS)}, or DICOM"
_EXPECTED: Final[dict[Reason, str]] = {
    "damaged": "a whole picture: copy it again",
    "no pixels": "an object with an image: choose another",
    "not a format that is read": f"{_KINDS}, grey or colour: save it as such",
    "not a regular file": "a file: give its own path",
    "several pages": "one picture a file: save the one that you mean alone",
    "too large": f"at most {MAX_FILE_BYTES} bytes and {MAX_VALUES} values: give a smaller one",
    "wrong extension": f"{_KINDS}, named as what it is: rename it, or save it anew",
}


@final
@dataclass(frozen=True, slots=True)
class Unanswered:
    """A file, and why there is no answer for it."""

    file: Path
    reason: str


def find_pictures(places: Iterable[Path]) -> list[Path]:
    """Returns the files at `places`: each as it is named; of a folder, those named as pictures.

    Raises:
        ConfigError: There are none.
    """
    files = []
    for place in places:
        if place.is_dir():
            names = (*FORMATS, *_DICOM_NAMES)
            files += [one for one in sorted(place.iterdir()) if suffix_of(one.name) in names]
        else:
            files.append(place)
    if not files:
        raise ConfigError("no pictures there; expected files, or folders of them")
    return files


def sort_pictures(
    files: Sequence[Path],
    rule: Input,
    preprocessing: Preprocessing,
    kind: PictureKind | None = None,
) -> tuple[list[Path], NDArray[np.float32], list[Unanswered]]:
    """Returns the files that are pictures of the kind that the model knows, as it sees them
    (n, channels, height, width), and those that are none.
    """
    good, pixels, bad = [], [], []
    for file in files:
        try:
            pixels.append(_levels(file, rule, kind))
            good.append(file)
        except DataError as error:
            bad.append(Unanswered(file, str(error)))
    shape = (0, rule.channels, rule.size, rule.size)
    images: NDArray[np.float32] = np.empty(shape, np.float32)
    if pixels:
        images = preprocessing.inputs(np.stack(pixels)).numpy()
    return good, images, bad


def read_pictures(
    files: Sequence[Path], rule: Input, preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """Returns pictures as the model sees them, (n, channels, height, width).

    Raises:
        DataError: A file that is no picture, or too large, by name.
    """
    stored = np.stack([_levels(file, rule, None) for file in files])
    images: NDArray[np.float32] = preprocessing.inputs(stored).numpy()
    return images


def square(
    shape: tuple[int, ...], frame: Frame = "pad", window: tuple[float, float] | None = None
) -> Input:
    """Returns how a picture becomes a record (channels, height, width).

    Raises:
        DataError: The record is no square.
    """
    channels, height, width = shape
    if height != width:
        raise DataError(f"the model takes {height}x{width}; pictures are made square only")
    return Input(channels=1 if channels == 1 else 3, size=height, frame=frame, window=window)


def _levels(file: Path, rule: Input, kind: PictureKind | None) -> NDArray[np.uint8]:
    try:
        plane = plane_of(_sample(file), rule)
        verdict, _ = judge(plane, kind)
        levels = levels_of(plane, rule)
    except RejectedFile as error:
        expected = _EXPECTED.get(error.reason, "a picture")
        raise DataError(f"{file.name}: {error.reason}; expected {expected}") from None
    except OSError as error:
        why = error.strerror or "damaged"
        raise DataError(f"{file.name} cannot be read ({why}); expected a whole picture") from None
    except DataError as error:
        raise DataError(f"{file.name}: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on damage
        what = type(error).__name__
        raise DataError(f"{file.name} is damaged ({what}); give a whole one") from None
    if kind is not None and verdict != "known":
        what = KIND_WORDS.get(kind.name, f"a picture of kind {kind.name}")
        colour = " (it is in colour)" if verdict == "in colour" else ""
        raise DataError(
            f"{file.name} does not look like {what}{colour}; nothing of it was sent: choose "
            "another picture, or another model"
        )
    return levels


def _sample(file: Path) -> Sample:
    about = file.stat()
    if not stat.S_ISREG(about.st_mode):
        raise RejectedFile("not a regular file", "")
    if about.st_size > MAX_FILE_BYTES:
        raise RejectedFile("too large", "")
    data = file.read_bytes()
    if looks_like_dicom(data):
        return _single(sample_of(open_dicom(data)))
    if suffix_of(file.name) not in FORMATS:
        raise RejectedFile("not a format that is read", "")
    return _single(read_image(data, file.name))


def _single(sample: Sample) -> Sample:
    if sample.pixels.shape[1] > 1:
        raise RejectedFile("several pages", "")
    return sample
