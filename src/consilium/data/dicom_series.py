# SPDX-License-Identifier: Apache-2.0
"""The slices of one DICOM series as one volume, in the order of their position in the patient.

Guarantees: the order is by position along the normal of the planes, never by file name or
instance number; slices of another orientation, shape or patient, two at one position, and gaps
are refused, because a volume with a missing slice looks whole.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from consilium.data.dicom_files import direction, orientation_of, patient_of, sample_of
from consilium.data.samples import RejectedFile, Sample, check_size

_UNEVEN: Final = 0.1  # of the median distance
_PARALLEL: Final = 1e-3


def volume_of(slices: Sequence[Dataset]) -> Sample:
    """Returns the volume of a series; the middle slice's window serves all of it.

    Raises:
        RejectedFile: The slices do not make one volume of one patient, or it is too large.
    """
    if len(slices) == 1:
        return sample_of(slices[0])
    check_size(len(slices), int(slices[0].Rows), int(slices[0].Columns))
    if len({patient_of(one) for one in slices}) != 1:
        raise RejectedFile("series does not make a volume", "slices of several patients")
    axes = _common_direction(slices)
    places = np.array([_place(one, axes[0]) for one in slices])
    order = np.argsort(places, kind="stable")
    between = _distance(places[order])
    samples = [sample_of(slices[k]) for k in order]
    if len({sample.pixels.shape for sample in samples}) != 1 or samples[0].pixels.shape[1] != 1:
        raise RejectedFile("series does not make a volume", "slices of different shapes")
    middle = samples[len(samples) // 2]
    plane = middle.spacing or (0.0, 1.0, 1.0)
    return Sample(
        pixels=np.concatenate([sample.pixels for sample in samples], axis=1),
        window=middle.window,
        kind="dicom",
        patient=middle.patient,
        spacing=(between, plane[1], plane[2]),
        orientation=orientation_of(axes),
    )


def _common_direction(slices: Sequence[Dataset]) -> NDArray[np.float64]:
    found = [direction(one) for one in slices]
    first = found[0]
    if first is None or any(
        axes is None or np.abs(axes - first).max() > _PARALLEL for axes in found
    ):
        raise RejectedFile("series does not make a volume", "planes that are not parallel")
    return first


def _place(one: Dataset, normal: NDArray[np.float64]) -> float:
    position = one.get("ImagePositionPatient")
    if not position or len(position) != 3 or not np.isfinite(np.array(position, float)).all():
        raise RejectedFile("series does not make a volume", "a slice without a position")
    return float(normal @ np.array(position, np.float64))


def _distance(places: NDArray[np.float64]) -> float:
    gaps = np.diff(places)
    between = float(np.median(gaps))
    if between <= 0 or np.abs(gaps - between).max() > _UNEVEN * between:
        raise RejectedFile("series does not make a volume", "slices missing, doubled or uneven")
    return between
