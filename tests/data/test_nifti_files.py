# SPDX-License-Identifier: Apache-2.0
"""Tests of NIfTI: axes, spacing and label maps from made volumes, and real ones from nibabel."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.data.made import nifti

from consilium.data import nifti_files
from consilium.data.nifti_files import read_nifti
from consilium.data.samples import RejectedFile

SHIPPED = Path(str(nib.__file__)).parent / "tests/data"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
RAMP = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)  # x, y, z


def test_planes_go_up_rows_back_and_columns_left() -> None:
    as_stored = read_nifti(nifti(RAMP, LPS @ np.diag([0.5, 0.75, 2.5, 1])))
    turned = read_nifti(nifti(RAMP))  # towards right, anterior, superior

    assert np.array_equal(as_stored.pixels[0], RAMP.transpose(2, 1, 0))
    assert np.array_equal(turned.pixels[0], RAMP[::-1, ::-1].transpose(2, 1, 0))
    assert as_stored.spacing == (2.5, 0.75, 0.5)
    assert as_stored.orientation == turned.orientation == "SPL"


def test_swapped_axes_are_swapped_back_with_their_spacing() -> None:
    affine = np.array([[0, 0, -3.0, 0], [-2.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])

    sample = read_nifti(nifti(RAMP, affine))  # the axes are y, z, x

    assert np.array_equal(sample.pixels[0], RAMP.transpose(1, 0, 2))
    assert sample.spacing == (1, 2, 3)


def test_slope_and_intercept_are_applied() -> None:
    image = nib.Nifti1Image(RAMP.astype(np.int16), LPS)
    image.header.set_slope_inter(2, -5)

    sample = read_nifti(image.to_bytes())

    assert sample.pixels.dtype == np.float32
    assert np.array_equal(np.unique(sample.pixels), 2 * np.unique(RAMP) - 5)


def test_the_fourth_dimension_is_the_channel_axis() -> None:
    values = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)

    sample = read_nifti(nifti(values, LPS))

    assert np.array_equal(sample.pixels, values.transpose(3, 2, 1, 0))


def test_a_label_map_is_turned_with_its_volume() -> None:
    labels = (RAMP > 11).astype(np.uint8)

    sample = read_nifti(nifti(RAMP), labels=nifti(labels))

    assert sample.label_map is not None
    assert np.array_equal(sample.label_map, sample.pixels[0] > 11)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("anatomical.nii", (1, 25, 41, 33)),
        ("example4d.nii.gz", (2, 24, 96, 128)),
        ("example_nifti2.nii.gz", (2, 12, 20, 32)),
        ("functional.nii", (20, 3, 21, 17)),
    ],
)
def test_a_shipped_volume_is_read(name: str, shape: tuple[int, ...]) -> None:
    sample = read_nifti((SHIPPED / name).read_bytes())

    assert sample.pixels.shape == shape
    assert np.isfinite(sample.pixels).all()


def test_the_hippocampus_and_its_label_map_are_aligned(real_data: Path) -> None:
    folder = real_data / "hippocampus"
    name = min(path.name for path in (folder / "images").glob("*.nii*"))

    sample = read_nifti(
        (folder / "images" / name).read_bytes(), labels=(folder / "labels" / name).read_bytes()
    )

    assert sample.label_map is not None
    assert set(np.unique(sample.label_map)) == {0, 1, 2}


def reason(data: bytes, labels: bytes | None = None) -> str:
    with pytest.raises(RejectedFile) as refused:
        read_nifti(data, labels=labels)
    return refused.value.reason


def test_what_is_not_nifti_is_refused() -> None:
    assert reason(b"no header") == "wrong extension"
    assert reason(b"\0" * 400) == "wrong extension"
    assert reason((SHIPPED / "analyze.hdr").read_bytes()) == "wrong extension"


def test_an_affine_that_is_not_finite_or_flat_is_refused() -> None:
    broken = LPS.copy()
    broken[0, 0] = np.nan
    image = nib.Nifti1Image(RAMP, LPS)
    image.header["srow_x"][0] = np.nan

    assert reason(image.header.binaryblock + b"\0" * 4 + RAMP.tobytes()) == "not finite"


def test_values_that_are_not_finite_are_refused() -> None:
    assert reason(nifti(np.where(RAMP > 3, np.inf, RAMP))) == "not finite"


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    header = nib.Nifti1Image(RAMP, LPS).header
    header["dim"][1:4] = 30000
    huge_array = header.binaryblock + b"\0" * 100
    header["dim"][1:4] = 2
    header["vox_offset"] = 2e9
    huge_extension = header.binaryblock + b"\0" * 100

    assert reason(huge_array) == "too large"
    assert reason(huge_extension) == "too large"


def test_less_data_than_promised_is_refused() -> None:
    assert reason(nifti(RAMP)[:-4]) == "damaged"
    assert reason(gzip.compress(nifti(RAMP))[:-12]) == "damaged"


def test_a_gzip_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti_files, "MAX_FILE_BYTES", 1 << 20)

    assert reason(gzip.compress(bytes(8 << 20))) == "too large"


def test_numbers_that_are_no_grey_are_refused() -> None:
    assert reason(nifti(RAMP.astype(np.complex64))) == "not a format that is read"


@pytest.mark.parametrize(
    "labels",
    [
        nifti(np.zeros((2, 3, 5), np.uint8)),
        nifti(np.zeros((2, 3, 4), np.uint8), LPS),
        nifti(np.full((2, 3, 4), 0.5, np.float32)),
        nifti(np.full((2, 3, 4), 256, np.int16)),
        nifti(np.full((2, 3, 4), -1, np.int16)),
    ],
)
def test_a_label_map_that_does_not_fit_is_refused(labels: bytes) -> None:
    assert reason(nifti(RAMP), labels) == "label map does not fit"
