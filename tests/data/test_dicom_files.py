# SPDX-License-Identifier: Apache-2.0
"""Tests of DICOM: known values from made objects, and the real ones that pydicom ships."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from tests.data.made import dicom, saved

from consilium.data.dicom_files import open_dicom, sample_of
from consilium.data.samples import RejectedFile, Sample

STORED = np.arange(-8, 56, dtype=np.int16).reshape(8, 8)


def read(dataset: Dataset) -> Sample:
    return sample_of(open_dicom(saved(dataset)))


def shipped(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    return Path(str(path)).read_bytes()


def test_slope_and_intercept_give_hounsfield() -> None:
    sample = read(dicom(STORED, RescaleSlope=2, RescaleIntercept=-1024))

    assert np.array_equal(sample.pixels[0, 0], STORED.astype(np.float32) * 2 - 1024)
    assert sample.patient == "patient 7"


def test_the_window_is_what_the_standard_makes_of_centre_and_width() -> None:
    plain = read(dicom(STORED, WindowCenter=40, WindowWidth=401))
    exact = read(dicom(STORED, WindowCenter=40, WindowWidth=400, VOILUTFunction="LINEAR_EXACT"))
    several = read(dicom(STORED, WindowCenter=[40, 9], WindowWidth=[401, 9]))

    assert plain.window == (-160.5, 239.5)
    assert exact.window == (-160, 240)
    assert several.window == plain.window


def test_a_picture_without_a_window_gets_its_own() -> None:
    eight_bit = read(dicom(np.zeros((8, 8), np.uint8)))
    more = read(dicom(np.arange(64, dtype=np.uint16).reshape(8, 8) * 10))

    assert eight_bit.window == (0, 255)
    assert 0 < more.window[0] < 10
    assert 620 < more.window[1] < 630


def test_monochrome1_is_inverted_within_its_window() -> None:
    stored = np.arange(64, dtype=np.uint8).reshape(8, 8)

    sample = read(dicom(stored, PhotometricInterpretation="MONOCHROME1"))

    assert np.array_equal(sample.pixels[0, 0], 255.0 - stored)


def test_a_voi_table_is_applied() -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 0, 8]
    item.add_new("LUTData", "US", [0, 10, 100, 255])
    stored = np.array([[0, 1], [2, 3]], np.uint8)

    sample = read(dicom(stored, VOILUTSequence=[item]))

    assert sample.pixels[0, 0].tolist() == [[0, 10], [100, 255]]
    assert sample.window == (0, 255)


def test_frames_are_the_depth() -> None:
    frames = np.arange(3 * 64, dtype=np.uint8).reshape(3, 8, 8)

    assert np.array_equal(read(dicom(frames)).pixels[0], frames)


def test_what_an_enhanced_object_says_of_all_frames_is_applied() -> None:
    value, measures, shared = Dataset(), Dataset(), Dataset()
    value.RescaleSlope, value.RescaleIntercept = 3, -7
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
    shared.PixelValueTransformationSequence = [value]
    shared.PixelMeasuresSequence = [measures]
    frames = np.arange(2 * 64, dtype=np.int16).reshape(2, 8, 8)

    sample = read(dicom(frames, SharedFunctionalGroupsSequence=[shared]))

    assert np.array_equal(sample.pixels[0], frames * 3.0 - 7)
    assert sample.spacing == (2, 0.5, 0.75)


def test_orientation_names_where_indices_grow() -> None:
    axial = read(dicom(STORED, ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    coronal = read(dicom(STORED, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))

    assert axial.orientation == "SPL"
    assert coronal.orientation == "PIL"
    assert read(dicom(STORED)).orientation == ""


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("CT_small.dcm", (1, 1, 128, 128)),
        ("MR_small_RLE.dcm", (1, 1, 64, 64)),
        ("MR_small_bigendian.dcm", (1, 1, 64, 64)),
        ("MR_small_jp2klossless.dcm", (1, 1, 64, 64)),
        ("MR_small_jpeg_ls_lossless.dcm", (1, 1, 64, 64)),
        ("JPGExtended.dcm", (1, 1, 1024, 256)),
        ("image_dfl.dcm", (1, 1, 512, 512)),
        ("SC_rgb_rle_2frame.dcm", (3, 2, 100, 100)),
        ("SC_rgb_rle_16bit.dcm", (3, 1, 100, 100)),
        ("SC_ybr_full_422_uncompressed.dcm", (3, 1, 100, 100)),
        ("SC_rgb_jpeg_dcmtk.dcm", (3, 1, 100, 100)),
        ("examples_palette.dcm", (3, 1, 350, 800)),
        ("liver_1frame.dcm", (1, 1, 512, 512)),
    ],
)
def test_a_shipped_object_is_read(name: str, shape: tuple[int, ...]) -> None:
    assert sample_of(open_dicom(shipped(name))).pixels.shape == shape


@pytest.mark.parametrize(
    "name",
    ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm"],
)
def test_a_lossless_transfer_syntax_changes_no_value(name: str) -> None:
    plain = sample_of(open_dicom(shipped("MR_small.dcm")))

    assert np.array_equal(sample_of(open_dicom(shipped(name))).pixels, plain.pixels)


def test_colour_frames_are_the_channels_of_the_first_axis() -> None:
    sample = sample_of(open_dicom(shipped("SC_rgb_rle_2frame.dcm")))

    assert sample.pixels[:, 0, 0, 0].tolist() == [255, 0, 0]  # a red bar is at the top


def reason(data: bytes) -> str:
    with pytest.raises(RejectedFile) as refused:
        sample_of(open_dicom(data))
    return refused.value.reason


def test_an_object_without_pixels_is_refused() -> None:
    assert reason(shipped("rtplan.dcm")) == "no pixels"


def test_a_file_without_the_header_is_refused() -> None:
    assert reason(shipped("no_meta.dcm")) == "wrong extension"
    assert reason(b"not an image") == "wrong extension"


def test_a_header_that_promises_too_much_is_refused() -> None:
    assert reason(saved(dicom(STORED, Rows=60000, Columns=60000))) == "too large"
    assert reason(saved(dicom(STORED, NumberOfFrames=10**7))) == "too large"


def test_a_deflated_bomb_is_refused_before_it_is_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consilium.data.dicom_files.MAX_INFLATED", 1 << 20)
    bomb = saved(dicom(np.zeros((2048, 2048), np.uint8)), deflated=True)

    assert len(bomb) < 10_000
    assert reason(bomb) == "too large"


def test_a_deflated_object_is_read() -> None:
    sample = sample_of(open_dicom(saved(dicom(STORED), deflated=True)))

    assert np.array_equal(sample.pixels[0, 0], STORED)


def test_a_frame_larger_than_its_object_is_refused() -> None:
    dataset = open_dicom(shipped("SC_rgb_jpeg_dcmtk.dcm"))
    dataset.Rows = 16

    with pytest.raises(RejectedFile, match="a frame of"):
        sample_of(dataset)


@pytest.mark.parametrize("name", ["MR_truncated.dcm", "badVR.dcm", "JPEG-lossy.dcm"])
def test_a_damaged_object_raises_and_shows_nothing(
    name: str, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception):  # noqa: B017, PT011 - pydicom's, of many kinds
        sample_of(open_dicom(shipped(name)))

    assert len(recwarn) == 0
    assert caplog.text == ""


def test_every_cut_of_a_real_object_is_read_or_raises() -> None:
    whole = shipped("CT_small.dcm")

    for length in range(0, len(whole) - 1, 1501):
        with pytest.raises(Exception):  # noqa: B017, PT011 - pydicom's, of many kinds
            sample_of(open_dicom(whole[:length]))
