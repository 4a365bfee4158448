# SPDX-License-Identifier: Apache-2.0
"""Tests of pictures: every format to the same values, and every refusal by its reason."""

import doctest
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.data.made import encoded, picture

from consilium.data import image_files
from consilium.data.image_files import read_image
from consilium.data.samples import RejectedFile

GREY_FORMATS = {
    "a.png": "PNG",
    "a.bmp": "BMP",
    "a.tif": "TIFF",
    "a.tiff": "TIFF",
    "a.pgm": "PPM",
}
COLOUR_FORMATS = {"a.png": "PNG", "a.bmp": "BMP", "a.tif": "TIFF", "a.webp": "WEBP", "a.ppm": "PPM"}


@pytest.mark.parametrize("name", GREY_FORMATS)
def test_a_grey_picture_comes_back_as_it_was(name: str) -> None:
    image = picture(1)

    sample = read_image(encoded(image, GREY_FORMATS[name]), name)

    assert sample.pixels.dtype == np.uint8
    assert np.array_equal(sample.pixels[0, 0], np.asarray(image))
    assert sample.window == (0, 255)


@pytest.mark.parametrize("name", COLOUR_FORMATS)
def test_a_colour_picture_comes_back_as_it_was(name: str) -> None:
    image = picture(2, colour=True)

    sample = read_image(encoded(image, COLOUR_FORMATS[name]), name.upper())

    assert sample.pixels.shape == (3, 1, 24, 24)
    assert np.array_equal(sample.pixels[:, 0].transpose(1, 2, 0), np.asarray(image))


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg"])
@pytest.mark.parametrize("colour", [False, True])
def test_a_jpeg_is_what_pillow_decodes(name: str, *, colour: bool) -> None:
    data = encoded(picture(3, colour=colour), "JPEG")

    sample = read_image(data, name)

    decoded = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.moveaxis(sample.pixels[:, 0], 0, -1).squeeze(), decoded)


@pytest.mark.parametrize(("name", "form"), [("a.png", "PNG"), ("a.tif", "TIFF"), ("a.pgm", "PPM")])
def test_sixteen_bits_stay_sixteen(name: str, form: str) -> None:
    values = np.arange(576, dtype=np.uint16).reshape(24, 24) * 113

    sample = read_image(encoded(Image.fromarray(values), form), name)

    assert sample.pixels.dtype == np.uint16
    assert np.array_equal(sample.pixels[0, 0], values)
    assert sample.window == (0, 65535)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA"])
def test_other_modes_become_grey_or_colour(mode: str) -> None:
    sample = read_image(encoded(picture(4, colour=True).convert(mode), "PNG"), "a.png")

    assert sample.pixels.shape[0] == (1 if mode in ("1", "LA") else 3)


def test_the_orientation_of_a_camera_is_applied() -> None:
    out = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(5, side=16).resize((16, 8)).save(out, "PNG", exif=exif)

    assert read_image(out.getvalue(), "a.png").pixels.shape == (1, 1, 16, 8)


def reason(data: bytes, name: str) -> str:
    with pytest.raises(RejectedFile) as refused:
        read_image(data, name)
    return refused.value.reason


def test_a_wrong_extension_is_refused() -> None:
    assert reason(encoded(picture(1), "PNG"), "a.jpg") == "wrong extension"
    assert reason(b"\0" * 128 + b"DICM" + b"\0" * 9, "a.png") == "wrong extension"
    assert reason(b"#!/bin/sh\nrm -rf /\n", "a.png") == "wrong extension"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n", "a.tif") == "wrong extension"


def test_a_damaged_header_is_refused() -> None:
    assert reason(b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "a.png") == "damaged"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that states a huge size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [9_000, 12_000, 200_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    assert reason(bomb(side, side), "a.png") == "too large"


def test_several_pages_are_refused() -> None:
    out = io.BytesIO()
    picture(1).save(out, "TIFF", save_all=True, append_images=[picture(2)])

    assert reason(out.getvalue(), "a.tif") == "several pages"


def test_a_mode_without_grey_or_colour_is_refused() -> None:
    float_image = Image.fromarray(np.zeros((8, 8), np.float32))

    assert reason(encoded(float_image, "TIFF"), "a.tif") == "not a format that is read"
    assert (
        reason(encoded(picture(1).convert("CMYK"), "JPEG"), "a.jpg") == "not a format that is read"
    )


def test_the_examples_in_the_documentation_are_right() -> None:
    assert doctest.testmod(image_files) == (0, 1)


def test_a_sample_shows_no_pixel() -> None:
    sample = read_image(encoded(picture(1), "PNG"), "a.png")

    assert repr(sample) == "Sample(image, uint8 (1, 1, 24, 24))"
