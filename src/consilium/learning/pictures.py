# SPDX-License-Identifier: Apache-2.0
"""Test slices to look at: image, true label map and predicted one, of a few patients.

These are data of patients: they leave a run only where the project says that its test records
are public, and no identifier comes along.
"""

from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from consilium.data.records import Records
from consilium.learning.overlap import dices, pixel_counts

SHOWN: Final = 6  # patients


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """One slice.

    Attributes:
        height: Of image and maps, pixels.
        width: The same.
        image: Grey levels, height * width bytes.
        truth: The class of each pixel, as many bytes.
        predicted: The most probable one.
        classes: Their names.
        dice: Mean foreground Dice of the whole patient; None where it is undefined.
    """

    height: int
    width: int
    image: bytes
    truth: bytes
    predicted: bytes
    classes: tuple[str, ...]
    dice: float | None

    def __repr__(self) -> str:
        return f"Picture({self.height} x {self.width})"


def choose_pictures(
    records: Records, predicted: NDArray[np.integer], classes: tuple[str, ...]
) -> tuple[Picture, ...]:
    """Returns slices of at most `SHOWN` patients, from the lowest Dice to the highest.

    Of each patient the slice (of volumes the plane) that shows most of the true foreground;
    patients at equal steps of rank, the worst and the best among them, so that nobody picks.

    Args:
        records: With label maps.
        predicted: The most probable classes, shape of the label maps.
        classes: Their names.
    """
    maps = records.labels.astype(np.uint8, copy=False)
    counts = pixel_counts(predicted, maps, records.patients, len(classes))
    scores = dices(counts).foreground()
    order = np.argsort(np.nan_to_num(scores, nan=-1.0), kind="stable")
    ranks = np.unique(np.linspace(0, len(order) - 1, SHOWN).round().astype(int))
    of_patient = records.by_patient()
    chosen = [(of_patient[k], float(scores[k])) for k in order[ranks]]
    return tuple(_picture(records, predicted, classes, *one) for one in chosen)


def _picture(
    records: Records,
    predicted: NDArray[np.integer],
    classes: tuple[str, ...],
    rows: NDArray[np.intp],
    score: float,
) -> Picture:
    foreground = (records.labels[rows] > 0).sum(axis=(-2, -1))
    first, *plane = np.unravel_index(np.argmax(foreground), foreground.shape)
    row = (rows[first], *plane)  # of a volume also which plane
    image = records.inputs[(rows[first], 0, *plane)]
    return Picture(
        height=image.shape[0],
        width=image.shape[1],
        image=image.astype(np.uint8).tobytes(),
        truth=records.labels[row].astype(np.uint8).tobytes(),
        predicted=predicted[row].astype(np.uint8).tobytes(),
        classes=classes,
        dice=None if np.isnan(score) else score,
    )
