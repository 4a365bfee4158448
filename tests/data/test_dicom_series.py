# SPDX-License-Identifier: Apache-2.0
"""Tests of series: order by position, and what does not make a volume."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from tests.data.made import saved, slices

from consilium.data.dicom_files import open_dicom
from consilium.data.dicom_series import volume_of
from consilium.data.samples import RejectedFile, Sample


def volume(datasets: list[Dataset]) -> Sample:
    return volume_of([open_dicom(saved(one)) for one in datasets])


def test_slices_are_sorted_by_position_not_by_order_or_name() -> None:
    series = slices(6)
    shuffled = [series[k] for k in (3, 0, 5, 1, 4, 2)]

    sample = volume(shuffled)

    assert sample.pixels.shape == (1, 6, 16, 16)
    assert sample.pixels[0, :, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert sample.spacing == (2.5, 0.5, 0.75)
    assert sample.orientation == "SPL"


def test_one_slice_is_a_picture() -> None:
    assert volume(slices(1)).pixels.shape == (1, 1, 16, 16)


def refused(datasets: list[Dataset]) -> str:
    with pytest.raises(RejectedFile) as error:
        volume(datasets)
    assert error.value.reason == "series does not make a volume"
    return error.value.detail


def test_a_missing_or_doubled_slice_is_refused() -> None:
    series = slices(6)

    assert "missing" in refused(series[:2] + series[3:])
    assert "missing" in refused([*series, series[2]])


def test_slices_that_do_not_belong_together_are_refused() -> None:
    turned, moved, larger, other = slices(4), slices(4), slices(4), slices(4)
    turned[1].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    del moved[1].ImagePositionPatient
    larger[1] = slices(2, side=8)[1]
    other[1].PatientID = "patient 8"

    assert "parallel" in refused(turned)
    assert "position" in refused(moved)
    assert "shapes" in refused(larger)
    assert "patients" in refused(other)


def test_a_volume_of_one_patient_has_the_middle_window() -> None:
    series = slices(5)
    series[2].WindowCenter, series[2].WindowWidth = 100, 51

    assert volume(series).window == (74.5, 124.5)
    assert np.isfinite(volume(series).pixels).all()
