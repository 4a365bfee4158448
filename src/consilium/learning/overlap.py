# SPDX-License-Identifier: Apache-2.0
"""How well label maps agree, patient by patient: counts of pixels, and what follows from them.

All records of a patient are judged together, as the slices of a volume are: a slice without
the organ is part of the answer, and is no answer of its own. What is undefined (the Dice of a
class that neither truth nor prediction of a patient has) is NaN here and counts nowhere.
"""

import warnings
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError
from consilium.learning.resampling import Floats

FARTHEST: Final = 95  # percent of the distances that Hausdorff-95 is above
_MARGIN: Final = 1  # pixel around what is compared, so that nothing touches the border
_OF_VOLUMES: Final = 4  # axes of label maps: records, depth, height, width
_LEAST: Final = 1e-12  # probability, as for records


@final
@dataclass(frozen=True, slots=True)
class Shares:
    """A number between 0 and 1 for each patient and class, shape (patients, classes)."""

    values: Floats = field(repr=False)

    def foreground(self) -> Floats:
        """Returns each patient's mean over the classes after the first that are defined."""
        classes = self.values[:, 1:]
        defined = (~np.isnan(classes)).sum(axis=1)
        sums = np.nansum(classes, axis=1)
        return np.where(defined > 0, sums / np.maximum(defined, 1), np.nan)


def pixel_counts(
    predicted: NDArray[np.integer],
    maps: NDArray[np.uint8],
    patients: NDArray[np.str_],
    classes: int,
) -> NDArray[np.int64]:
    """Returns a confusion of pixels for each patient, sorted; (patients, classes, classes).

    Args:
        predicted: The most probable class of each pixel, shape (n, [d,] h, w).
        maps: The true one.
        patients: Whose each record is, shape (n,).
        classes: How many; rows are true classes, columns predictions.

    Raises:
        DataError: The shapes differ, or a class is not below `classes`.
    """
    if predicted.shape != maps.shape or len(maps) != len(patients) or not len(maps):
        raise DataError(
            f"found predictions {predicted.shape}, label maps {maps.shape} and "
            f"{len(patients)} patients; expected one shape and a patient for each record"
        )
    if max(int(maps.max()), int(predicted.max())) >= classes:
        raise DataError(f"found class {maps.max()}; expected 0 to {classes - 1}; name every class")
    names, patient_of = np.unique(patients, return_inverse=True)
    cells = classes * classes
    places = maps.astype(np.int64) * classes + predicted
    places += patient_of.reshape(-1, *[1] * (maps.ndim - 1)) * cells
    counts = np.bincount(places.ravel(), minlength=len(names) * cells)
    return counts.reshape(len(names), classes, classes).astype(np.int64)


def dices(counts: NDArray[np.int64]) -> Shares:
    """Returns 2 |truth and prediction| / (|truth| + |prediction|) from `pixel_counts`."""
    both, either = _sizes(counts)
    return _quotient(2 * both, either)


def ious(counts: NDArray[np.int64]) -> Shares:
    """Returns |truth and prediction| / |truth or prediction| from `pixel_counts`."""
    both, either = _sizes(counts)
    return _quotient(both, either - both)


def _sizes(counts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    both = np.diagonal(counts, axis1=1, axis2=2).astype(np.float64)
    return both, (counts.sum(axis=1) + counts.sum(axis=2)).astype(np.float64)


def _quotient(above: Floats, below: Floats) -> Shares:
    return Shares(np.where(below > 0, above / np.maximum(below, 1), np.nan))


def hausdorffs(
    predicted: NDArray[np.integer],
    maps: NDArray[np.uint8],
    patients: NDArray[np.str_],
    classes: int,
) -> Floats:
    """Returns the 95 % Hausdorff distance of each patient and foreground class, in pixels.

    MONAI's, between surfaces: the larger of both directions' 95th percentile. A patient's
    records are taken for the parallel slices of one volume, in their order and one pixel
    apart; for other records the number means nothing. Of volumes, each is judged alone, and a
    patient has the largest distance.

    Returns:
        Shape (patients, classes - 1), patients sorted; NaN where the truth or the prediction
        lacks the class.
    """
    names, patient_of = np.unique(patients, return_inverse=True)
    found = np.full((len(names), classes - 1), np.nan)
    for patient in range(len(names)):
        rows = patient_of == patient
        for label in range(1, classes):
            pair = (predicted[rows] == label, maps[rows] == label)
            volumes = zip(*pair, strict=True) if maps.ndim == _OF_VOLUMES else [pair]
            distances = [
                _hausdorff(*_cropped(*each)) for each in volumes if each[0].any() and each[1].any()
            ]
            found[patient, label - 1] = max(distances, default=np.nan)
    return found


def _cropped(
    first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns both in the smallest box that holds them, with a margin: the distance is the same."""
    places = np.argwhere(first | second)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return np.pad(first[box], _MARGIN), np.pad(second[box], _MARGIN)


def _hausdorff(predicted: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    import torch  # noqa: PLC0415
    from monai.metrics.hausdorff_distance import (  # noqa: PLC0415 - two seconds to load
        compute_hausdorff_distance,
    )

    found, expected = (torch.from_numpy(side[None, None] * 1.0) for side in (predicted, truth))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of its own call
        distance = compute_hausdorff_distance(
            found, expected, include_background=True, percentile=FARTHEST
        )
    return float(distance)


def pixel_losses(probabilities: NDArray[np.floating], maps: NDArray[np.uint8]) -> Floats:
    """Returns the cross-entropy of each pixel, in nats, shape (n, h, w)."""
    chosen = maps[:, None].astype(np.int64)
    own = np.take_along_axis(probabilities, chosen, axis=1)[:, 0].astype(np.float64)
    return np.asarray(-np.log(np.maximum(own, _LEAST)))
