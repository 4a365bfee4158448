# SPDX-License-Identifier: Apache-2.0
"""NIfTI-1 and NIfTI-2 through nibabel: .nii and .nii.gz, one to four dimensions of space and time.

Volumes are turned (never interpolated) so that planes go up, rows go back and columns go to the
patient's left, as axial DICOM does; a label map of the same name is turned alike. Values are
float32 after the header's slope and intercept. A fourth dimension is the channel axis.

Guarantees: the header is read alone first, so that a file which promises a huge array, a huge
extension or an affine that is not finite is refused before it is read. Not here: pairs of .hdr
and .img, and formats that nibabel knows beside NIfTI.
"""

import zlib
from typing import Final

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from numpy.typing import NDArray

from consilium.data.quiet import quietly
from consilium.data.samples import (
    MAX_FILE_BYTES,
    RejectedFile,
    Sample,
    check_size,
    own_window,
)

SUFFIXES: Final = (".nii", ".nii.gz")
ORIENTATION: Final = "SPL"  # of planes, rows and columns
_LARGEST_HEADER: Final = 1 << 20  # with extensions
_KINDS: Final = "iuf"
_MAX_LABEL: Final = 255
_SAME: Final = 1e-3  # millimetres between two affines


def read_nifti(data: bytes, *, labels: bytes | None = None) -> Sample:
    """Returns the volume in `data`, with the label map in `labels` where there is one.

    Args:
        data: A whole .nii or .nii.gz.
        labels: A whole file on the same grid, whole numbers from 0 to 255.

    Raises:
        RejectedFile: Not NIfTI, too large, not finite, or a label map that is not on the grid.
        Exception: Whatever nibabel raises on damage; the caller counts it as "damaged".
    """
    with quietly():
        image = _open(data)
        values = _turned(image)
        label_map = None if labels is None else _label_map(_open(labels), image)
    if not np.isfinite(values).all():
        raise RejectedFile("not finite", "values")
    zooms = [float(zoom) for zoom in np.sqrt((image.affine[:3, :3] ** 2).sum(axis=0))]
    order = io_orientation(image.affine)[:, 0].argsort()
    x, y, z = (zooms[int(axis)] for axis in order)
    return Sample(
        pixels=values,
        window=own_window(values),
        kind="nifti",
        label_map=label_map,
        spacing=(z, y, x),
        orientation=ORIENTATION,
    )


def _open(data: bytes) -> nib.Nifti1Image:
    plain = _inflated(data) if data[:2] == b"\x1f\x8b" else data
    second = plain[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    kind = Nifti2Header if second else Nifti1Header
    size = kind.template_dtype.itemsize
    if len(plain) < size or (plain[344:347] != b"n+1" and plain[4:7] != b"n+2"):
        raise RejectedFile("wrong extension", "no NIfTI header of a single file")
    header = kind(plain[:size], check=False)  # type: ignore[no-untyped-call]  # a union
    _check_header(header, len(plain))
    image = (nib.Nifti2Image if second else nib.Nifti1Image).from_bytes(plain)
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise RejectedFile("not finite", "affine")
    return image


def _inflated(data: bytes) -> bytes:
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    plain = inflater.decompress(data, MAX_FILE_BYTES + 1)
    if len(plain) > MAX_FILE_BYTES:
        raise RejectedFile("too large", f"inflates to more than {MAX_FILE_BYTES} bytes")
    if not inflater.eof:
        raise RejectedFile("damaged", "the compressed stream ends early")
    return plain


def _check_header(header: Nifti1Header, available: int) -> None:
    dimensions = int(header["dim"][0])
    if not 2 <= dimensions <= 4:
        raise RejectedFile("damaged", f"{dimensions} dimensions; expected 2, 3 or 4")
    sides = [int(side) for side in header["dim"][1 : dimensions + 1]]
    check_size(*sides)
    dtype = header.get_data_dtype()
    if dtype.kind not in _KINDS or dtype.itemsize > 8:
        raise RejectedFile("not a format that is read", f"values of type {dtype}")
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _LARGEST_HEADER:
        raise RejectedFile("too large", f"a header of {offset} bytes")
    if offset + dtype.itemsize * int(np.prod(sides, dtype=np.int64)) > available:
        raise RejectedFile("damaged", "less data than the header promises")


def _turned(image: nib.Nifti1Image) -> NDArray[np.float32]:
    """Returns shape (channels, depth, height, width): the axes are z, y, x, towards S, P, L."""
    shape = image.shape + (1,) * (3 - len(image.shape))
    whole = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged")).reshape(shape)
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt("LPS"))
    turned = nib.apply_orientation(whole, turn)
    if turned.ndim == 3:
        turned = turned[..., None]
    return np.ascontiguousarray(turned.transpose(3, 2, 1, 0), np.float32)


def _label_map(labels: nib.Nifti1Image, image: nib.Nifti1Image) -> NDArray[np.uint8]:
    if labels.shape != image.shape[:3] or np.abs(labels.affine - image.affine).max() > _SAME:
        raise RejectedFile("label map does not fit", "another grid than the volume's")
    values = _turned(labels)[0]
    whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    if not whole or values.min() < 0 or values.max() > _MAX_LABEL:
        raise RejectedFile("label map does not fit", "values that are not 0 to 255")
    return np.asarray(values, np.uint8)
