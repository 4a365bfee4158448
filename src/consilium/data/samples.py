# SPDX-License-Identifier: Apache-2.0
"""One picture as a reader hands it on, and why a file was not read.

Not here: identifiers become pseudonyms in `deidentification`, values become bytes of one shape in
`rendering`. A `Sample` is private data: its `repr` shows a shape and nothing else.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
SourceKind: TypeAlias = Literal["image", "dicom", "nifti", "table"]
Reason: TypeAlias = Literal[
    "ambiguous name",
    "burned-in text not ruled out",
    "damaged",
    "face not ruled out",
    "label map does not fit",
    "no label",
    "no patient identifier",
    "no pixels",
    "not a format that is read",
    "not a regular file",
    "not finite",
    "series does not make a volume",
    "several pages",
    "too large",
    "unsafe path",
    "wrong extension",
]

MAX_FILE_BYTES: Final = 256 << 20
MAX_VALUES: Final = 1 << 26  # of one picture or volume: 512 x 512 x 256, 256 MiB as float32


@final
class RejectedFile(DataError):
    """This file is left out. The text may quote it, so it goes to the steward's report alone."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = " ".join(detail.split())[:200]


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class Sample:
    """A picture, a stack of frames, or a volume.

    Attributes:
        pixels: Shape (channels, depth, height, width); depth is 1 for a plain picture. uint8 or
            uint16 grey levels, or float32 in the unit of the source (Hounsfield for CT).
        window: The values shown as black and as white, in the unit of `pixels`.
        kind: What it was read from.
        patient: The identifier as the source has it, None where it names nobody.
        label: The class as the source has it, None where it has none.
        label_map: Shape (depth, height, width), uint8 class numbers, None where there is none.
        spacing: Millimetres between planes, rows and columns; None where unknown.
        orientation: Where the indices of planes, rows and columns grow to: "SPL" is superior,
            posterior, left; empty where unknown.
    """

    pixels: Pixels
    window: tuple[float, float]
    kind: SourceKind
    patient: str | None = None
    label: str | None = None
    label_map: NDArray[np.uint8] | None = None
    spacing: tuple[float, float, float] | None = None
    orientation: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.size == 0:
            raise ValueError(f"{self.pixels.shape=} must be (channels, depth, height, width)")
        low, high = self.window
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise RejectedFile("not finite", f"window from {low} to {high}")
        if self.label_map is not None and self.label_map.shape != self.pixels.shape[1:]:
            raise RejectedFile(
                "label map does not fit", f"{self.label_map.shape} on {self.pixels.shape[1:]}"
            )

    def __repr__(self) -> str:
        return f"Sample({self.kind}, {self.pixels.dtype} {self.pixels.shape})"


def check_size(*lengths: int) -> None:
    """Refuses a picture by the lengths that its header states, before anything is allocated.

    Raises:
        RejectedFile: A length is below 1, or their product is above `MAX_VALUES`.
    """
    values = 1
    for length in lengths:
        if length < 1:
            raise RejectedFile("damaged", f"a side of {length}")
        values *= length
    if values > MAX_VALUES:
        raise RejectedFile("too large", f"{values} values; at most {MAX_VALUES}")


def own_window(pixels: Pixels) -> tuple[float, float]:
    """Returns the 0.5 and 99.5 percentiles of this picture's own values, apart at least a little.

    A rule that looks at one record alone: nothing of one patient reaches another's picture.
    """
    low, high = (float(edge) for edge in np.percentile(pixels, (0.5, 99.5)))
    return (low, high) if low < high else (low, low + 1.0)
