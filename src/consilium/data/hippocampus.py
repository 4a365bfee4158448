# SPDX-License-Identifier: Apache-2.0
"""MSD Task04: 260 MR volumes of the hippocampus as sagittal slices with label maps.

A patient is a volume: all of its slices are one privacy unit. A record is one sagittal slice
of 48 x 64 pixels (height from the feet up, width from back to front, 1 mm each) with the
slices to its left and right as second and third channel, and a label map of the same size:
0 background, 1 anterior, 2 posterior.

Guarantees: every step is public and fixed, and looks at one volume alone. Intensities run from
uint8 to 1.7e6; those of a volume are cut at its own 1st and 99th percentile and stretched to
0..255. Volumes lie in the middle of the frame, which none exceeds. Division by a digest of the
file's name: 208 volumes to train, 26 to validate, 26 to test. Training takes every third
slice, whose neighbours are its channels; the others take all. `sites` are ten groups of volumes
by their raw intensity, which tells scanners apart: the axis along which sites may differ.

Source: Simpson et al. 2019, Medical Segmentation Decathlon (arXiv:1902.09063), CC BY-SA 4.0.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.archives import missing_file
from consilium.data.preparation import Raw, RawPart
from consilium.data.quiet import quietly
from consilium.data.records import SplitName
from consilium.errors import DataError
from consilium.wire import digest

CLASSES: Final = ("background", "anterior", "posterior")
FRAME: Final = (48, 64)  # of a slice: height and width, pixels of 1 mm
EVERY: Final = 3  # of the slices of a training volume, this many make one record
GROUPS: Final = 10  # by raw intensity
_HELD_OUT: Final = 10  # one volume in so many validates, and as many test
_PERCENTILES: Final = (1, 99)
_ENDING: Final = ".nii.gz"


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Volume:
    """One patient: grey levels and label map, shape (slices, height, width), uint8."""

    name: str
    brightest: float  # raw
    grey: NDArray[np.uint8] = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)


def read_hippocampus(folder: Path) -> Raw:
    """Returns the slices of all volumes, with the volume as the patient.

    Raises:
        DataError: Files are missing or damaged, or are not the public ones.
    """
    root = folder / "hippocampus"
    paths = sorted((root / "images").glob(f"*{_ENDING}"))
    if not paths:
        raise missing_file(root / "images" / f"*{_ENDING}")
    volumes = [_read(path, root / "labels" / path.name) for path in paths]
    order = sorted(volumes, key=lambda volume: digest("hippocampus-split", volume.name))
    few = len(order) // _HELD_OUT
    divided: dict[SplitName, Sequence[_Volume]] = {
        "train": order[: len(order) - 2 * few],
        "validation": order[len(order) - 2 * few : len(order) - few],
        "test": order[len(order) - few :],
    }
    groups = _groups(volumes)
    return Raw(
        parts={
            name: _part(part, groups, every=EVERY if name == "train" else 1)
            for name, part in divided.items()
        },
        classes=CLASSES,
        origin=f"MSD Task04 hippocampus, {len(volumes)} MR volumes, each one patient, as sagittal "
        "slices with their two neighbours; every third slice of a training volume",
    )


def _groups(volumes: Sequence[_Volume]) -> dict[str, str]:
    """Returns the group of each volume: tenths of the volumes by their raw intensity."""
    order = sorted(volumes, key=lambda volume: (volume.brightest, volume.name))
    parts = np.array_split(np.arange(len(order)), GROUPS)
    return {order[i].name: f"intensity-{k:02d}" for k, part in enumerate(parts, 1) for i in part}


def _part(volumes: Sequence[_Volume], groups: dict[str, str], *, every: int) -> RawPart:
    counts = [len(volume.grey[::every]) for volume in volumes]
    names = [volume.name for volume in volumes]
    return RawPart(
        inputs=np.concatenate([_with_neighbours(volume.grey)[::every] for volume in volumes]),
        labels=np.concatenate([volume.labels[::every] for volume in volumes]),
        patients=np.repeat(np.array(names, np.str_), counts),
        sites=np.repeat(np.array([groups[name] for name in names], np.str_), counts),
    )


def _with_neighbours(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns (slices, 3, height, width): each slice, the one before, the one after; else black."""
    edge = np.zeros((1, *grey.shape[1:]), np.uint8)
    before, after = np.concatenate([edge, grey[:-1]]), np.concatenate([grey[1:], edge])
    return np.stack([grey, before, after], axis=1)


# -- One volume -----------------------------------------------------------------------


def _read(image: Path, label: Path) -> _Volume:
    grey, labels = _array(image), _array(label)
    name = image.name.removesuffix(_ENDING)
    fits = grey.ndim == 3 and grey.shape == labels.shape and _fits(grey.shape)
    if not fits or not np.isfinite(grey).all() or not np.isin(labels, range(len(CLASSES))).all():
        raise DataError(
            f"{image.name}: found an image {grey.shape} and a label map {labels.shape}; expected "
            f"finite volumes of one shape, slices up to {FRAME[::-1]}, labels 0 to "
            f"{len(CLASSES) - 1}; download both again"
        )
    low, high = (float(np.percentile(grey, q, method="lower")) for q in _PERCENTILES)
    scaled = np.clip((grey - low) / max(high - low, 1e-6), 0, 1) * 255
    return _Volume(
        name=name,
        brightest=high,
        grey=_framed(np.rint(scaled).astype(np.uint8)),
        labels=_framed(labels.astype(np.uint8)),
    )


def _fits(shape: Sequence[int]) -> bool:
    return shape[2] <= FRAME[0] and shape[1] <= FRAME[1]


def _array(path: Path) -> NDArray[np.float64]:
    """Returns a NIfTI volume with axes to the right, to the front and up, float64."""
    import nibabel  # noqa: PLC0415 - only who reads volumes needs it
    from nibabel.filebasedimages import ImageFileError  # noqa: PLC0415

    if not path.is_file():
        raise missing_file(path)
    try:
        with quietly():
            image = nibabel.as_closest_canonical(nibabel.load(path))
            return np.asarray(image.dataobj, np.float64)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError):
        raise DataError(
            f"{path.name}: found a file that is no whole NIfTI volume; expected the public file; "
            "download it again"
        ) from None


def _framed(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns (slices, height, width) in the frame, from above, black around."""
    slices = volume.transpose(0, 2, 1)[:, ::-1]
    spare = [frame - side for frame, side in zip(FRAME, slices.shape[1:], strict=True)]
    around = [(0, 0), *((gap // 2, gap - gap // 2) for gap in spare)]
    return np.pad(slices, around)
