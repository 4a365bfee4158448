# SPDX-License-Identifier: Apache-2.0
"""DICOM through pydicom and its decoders: one object to values in the unit that it states.

    in the object                    here
    rescale slope and intercept,     applied: Hounsfield for CT (also where an enhanced object
    modality table                   keeps them among its functional groups)
    MONOCHROME1                      inverted within its window: white is much, as elsewhere
    window (VOI), also as a table    `Sample.window`; without one: 8 bit whole, else the picture's
                                     own 0.5 to 99.5 percentile
    PALETTE COLOR, YBR               RGB
    frames                           the depth axis
    overlays in unused bits          cleared by pydicom

Guarantees: sizes that a header states are checked before pixels are decoded, also those inside a
JPEG or JPEG 2000 stream, and a deflated object is measured before it is inflated. What pydicom
dislikes in a value is neither shown nor logged (`quiet`). Not here: objects without the PS3.10
header, series (`dicom_series`), and what may be kept of the tags (`deidentification`).

Source: DICOM PS3.3 2024, C.7.6.3 (pixels), C.11.1 (modality), C.11.2 (VOI).
"""

import io
import zlib
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom import Dataset, dcmread
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_preamble
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi
from pydicom.pixels.utils import pixel_array
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from consilium.data.quiet import quietly
from consilium.data.samples import RejectedFile, Sample, check_size, own_window

MAX_INFLATED: Final = 256 << 20
_MARK: Final = slice(128, 132)
_PIECE: Final = 1 << 20
_CODED: Final = ("JPEG", "JPEG2000")


def looks_like_dicom(data: bytes) -> bool:
    """Returns whether `data` has the header of PS3.10."""
    return data[_MARK] == b"DICM"


def open_dicom(data: bytes, *, header_only: bool = False) -> Dataset:
    """Returns the object in `data`.

    Args:
        data: A whole file.
        header_only: Leave the pixels where they are.

    Raises:
        RejectedFile: No PS3.10 header, or deflated to more than `MAX_INFLATED` bytes.
        Exception: Whatever pydicom raises on damage; the caller counts it as "damaged".
    """
    if not looks_like_dicom(data):
        raise RejectedFile("wrong extension", "no DICOM header (PS3.10)")
    with quietly():
        _check_inflated(data)
        return dcmread(io.BytesIO(data), stop_before_pixels=header_only)


def _check_inflated(data: bytes) -> None:
    if DeflatedExplicitVRLittleEndian.encode() not in data:
        return  # quicker than reading its header twice
    file = io.BytesIO(data)
    read_preamble(file, False)
    meta = read_dataset(file, False, True, stop_when=_past_meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflater, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    waiting = file.read()
    while waiting and not inflater.eof:
        size += len(inflater.decompress(waiting, _PIECE))
        waiting = inflater.unconsumed_tail
        if size > MAX_INFLATED:
            raise RejectedFile("too large", f"inflates to more than {MAX_INFLATED} bytes")


def _past_meta(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001 - pydicom's
    return tag.group != 2


def sample_of(dataset: Dataset) -> Sample:
    """Returns the pixels of an object with their window, patient, spacing and orientation.

    Raises:
        RejectedFile: No pixels, or more than `MAX_VALUES`.
        Exception: Whatever pydicom or a decoder raises; the caller counts it as "damaged".
    """
    with quietly():
        if "PixelData" not in dataset:
            raise RejectedFile("no pixels", f"{dataset.get('Modality', 'unknown')} object")
        frames = int(dataset.get("NumberOfFrames") or 1)
        channels = int(dataset.get("SamplesPerPixel", 1))
        check_size(int(dataset.Rows), int(dataset.Columns), frames, channels)
        _check_streams(dataset, frames)
        _raise_shared(dataset)
        pixels, window = _colour(dataset) if _is_colour(dataset) else _grey(dataset)
    return Sample(
        pixels=pixels,
        window=window,
        kind="dicom",
        patient=patient_of(dataset),
        spacing=_spacing(dataset),
        orientation=orientation_of(direction(dataset)),
    )


def patient_of(dataset: Dataset) -> str | None:
    """Returns PatientID without space around it, None where it is empty."""
    return str(dataset.get("PatientID") or "").strip() or None


# -- Safety ---------------------------------------------------------------------------


def _check_streams(dataset: Dataset, frames: int) -> None:
    """Refuses a compressed frame whose own header states another size than the object does."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        try:
            with Image.open(io.BytesIO(frame), formats=_CODED) as image:
                size = image.size
        except (UnidentifiedImageError, OSError):
            continue  # RLE, JPEG-LS and lossless JPEG are not Pillow's
        except Image.DecompressionBombError as error:
            raise RejectedFile("too large", str(error)) from None
        if size != (dataset.Columns, dataset.Rows):
            raise RejectedFile("damaged", f"a frame of {size} in {dataset.Columns, dataset.Rows}")


# -- Values ---------------------------------------------------------------------------


def _is_colour(dataset: Dataset) -> bool:
    return bool(
        dataset.get("SamplesPerPixel", 1) == 3
        or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    )


def _colour(
    dataset: Dataset,
) -> tuple[NDArray[np.uint8] | NDArray[np.float32], tuple[float, float]]:
    stored, bits = pixel_array(dataset), int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
        bits = 8 * stored.dtype.itemsize
    frames = stored.reshape(-1, *stored.shape[-3:])  # (frames, height, width, 3)
    pixels = frames.transpose(3, 0, 1, 2)
    window = (0.0, float(2**bits - 1))
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, np.uint8), window
    return pixels.astype(np.float32), window


def _grey(dataset: Dataset) -> tuple[NDArray[np.float32], tuple[float, float]]:
    stored = pixel_array(dataset)
    values = apply_modality_lut(stored, dataset)
    if dataset.get("VOILUTSequence"):
        values = apply_voi(values, dataset)
        window = (0.0, float(2 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1))
    else:
        window = _window(dataset, values)
    pixels = np.asarray(values, np.float32).reshape(1, -1, *stored.shape[-2:])
    if not np.isfinite(pixels).all():
        raise RejectedFile("not finite", "rescaled values")
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = np.float32(window[0] + window[1]) - pixels
    return pixels, window


def _window(dataset: Dataset, values: NDArray[np.generic]) -> tuple[float, float]:
    """Returns the first window of the object as its black and its white value."""
    centre, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    exact = dataset.get("VOILUTFunction") == "LINEAR_EXACT"
    if centre is not None and width is not None and width > (0 if exact else 1):
        if exact:  # PS3.3 C.11.2.1.3.2
            return centre - width / 2, centre + width / 2
        half = (width - 1) / 2  # PS3.3 C.11.2.1.2.1
        return centre - 0.5 - half, centre - 0.5 + half
    plain = "RescaleSlope" not in dataset and not dataset.get("PixelRepresentation", 0)
    if int(dataset.BitsStored) <= 8 and plain:
        return 0.0, float(2 ** int(dataset.BitsStored) - 1)
    return own_window(np.asarray(values, np.float32))


def _first(value: object) -> float | None:
    """Returns a decimal string, or the first of several."""
    if value is None or value == "":
        return None
    many = isinstance(value, (list, tuple)) or hasattr(value, "__getitem__")
    return float(value[0] if many and not isinstance(value, str) else value)  # type: ignore[index, arg-type]  # pydicom's values are untyped


# -- Geometry -------------------------------------------------------------------------


def _raise_shared(dataset: Dataset) -> None:
    """Copies what an enhanced object says of all its frames to where a plain object says it."""
    for group, keywords in _SHARED.items():
        source = _functional(dataset, group)
        for keyword in keywords:
            if source is not None and keyword in source and keyword not in dataset:
                setattr(dataset, keyword, source[keyword].value)


_SHARED: Final = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
}


def _functional(dataset: Dataset, group: str) -> Dataset | None:
    """Returns a functional group of all frames, or of the first frame."""
    for place in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        items = dataset.get(place)
        if items and items[0].get(group):
            found: Dataset = items[0][group].value[0]
            return found
    return None


def _spacing(dataset: Dataset) -> tuple[float, float, float] | None:
    plane = dataset.get("PixelSpacing") or dataset.get("ImagerPixelSpacing")
    if not plane or len(plane) != 2:
        return None
    between = dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 0.0
    spacing = (abs(float(between)), float(plane[0]), float(plane[1]))
    return spacing if np.isfinite(spacing).all() else None


def direction(dataset: Dataset) -> NDArray[np.float64] | None:
    """Returns where planes, rows and columns grow to, shape (3, 3), in DICOM's L, P, S axes."""
    cosines = dataset.get("ImageOrientationPatient")
    if not cosines or len(cosines) != 6:
        return None
    along_row, along_column = (
        [float(one) for one in cosines[:3]],
        [float(one) for one in cosines[3:]],
    )
    (x, y, z), (a, b, c) = along_row, along_column
    across = [y * c - z * b, z * a - x * c, x * b - y * a]
    axes = np.array([across, along_column, along_row], np.float64)
    lengths = np.sqrt((axes * axes).sum(axis=1))
    return axes if np.isfinite(axes).all() and (lengths > 0.5).all() else None


def orientation_of(axes: NDArray[np.float64] | None) -> str:
    """Returns the letters of the nearest anatomical directions, "" where unknown."""
    if axes is None:
        return ""
    nearest = np.abs(axes).argmax(axis=1)
    return "".join(
        "LPS"[k] if row[k] > 0 else "RAI"[k] for row, k in zip(axes, nearest, strict=True)
    )
