# SPDX-License-Identifier: Apache-2.0
"""Small files made for tests: DICOM objects, NIfTI volumes, pictures. pydicom and nibabel write."""

import io
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    generate_uid,
)


def picture(seed: int, *, side: int = 24, colour: bool = False) -> Image.Image:
    rng = np.random.default_rng(seed)
    shape = (side, side, 3) if colour else (side, side)
    return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))


def encoded(image: Image.Image, form: str) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **({"lossless": True} if form == "WEBP" else {}))
    return out.getvalue()


def dicom(pixels: NDArray[np.generic], **tags: object) -> Dataset:
    """An object of one grey frame (or several); `tags` are set last."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.PatientID = "patient 7"
    dataset.Modality = "CT"
    dataset.BodyPartExamined = "CHEST"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        dataset.NumberOfFrames = pixels.shape[0]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    return dataset


def saved(dataset: Dataset, *, deflated: bool = False) -> bytes:
    if deflated:
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def slices(count: int, *, side: int = 16, patient: str = "patient 7") -> list[Dataset]:
    """A series from below to above; the pixels of a slice are its number."""
    series = generate_uid()
    return [
        dicom(
            np.full((side, side), k, np.int16),
            PatientID=patient,
            SeriesInstanceUID=series,
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            ImagePositionPatient=[0, 0, 2.5 * k],
            PixelSpacing=[0.5, 0.75],
            RescaleSlope=1,
            RescaleIntercept=0,
            WindowCenter=8,
            WindowWidth=17,
        )
        for k in range(count)
    ]


def nifti(values: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> bytes:
    return bytes(nib.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes())


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
