# SPDX-License-Identifier: Apache-2.0
"""Pictures through Pillow: jpg, png, bmp, tif, webp, pgm, ppm; grey or colour; 8 or 16 bit.

    in the file                      pixels
    grey 8 bit, black and white      uint8, 1 channel
    grey 16 bit                      uint16, 1 channel
    colour, palette                  uint8, 3 channels (16-bit colour: Pillow gives 8)
    transparency                     left out

Guarantees: only Pillow's readers of these formats run (EPS would start a program), the size in
the header is checked before a pixel is decoded, and the content must be what the name says.
The orientation that a camera wrote is applied. Not here: DICOM, and pictures of several pages.
"""

import io
from typing import Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from consilium.data.quiet import quietly
from consilium.data.samples import Pixels, Reason, RejectedFile, Sample, check_size

FORMATS: Final = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".pnm": "PPM",
}
_READERS: Final = tuple(sorted(set(FORMATS.values())))
_GREY_16: Final = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_GREY_8: Final = ("1", "L", "LA")
_COLOUR: Final = ("P", "PA", "RGB", "RGBA", "RGBX")
_MARKERS: Final = (b"\xff\xd8", b"\x89PNG", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P")
_DICOM: Final = b"DICM"
_ORIENTATION: Final = 0x0112
_FULL_8: Final = (0.0, 255.0)
_FULL_16: Final = (0.0, 65535.0)


def looks_like_image(data: bytes) -> bool:
    """Returns whether the first bytes are those of one of our formats."""
    return data.startswith(_MARKERS)


def suffix_of(name: str) -> str:
    """Returns what follows the last dot of a file's name, with the dot and in small letters.

    >>> suffix_of("a.b/C.PNG"), suffix_of("a.b/IM0001")
    ('.png', '')
    """
    _, dot, end = name.rpartition("/")[2].rpartition(".")
    return dot + end.lower() if dot else ""


def read_image(data: bytes, name: str, *, in_grey: bool = False) -> Sample:
    """Returns the picture in `data`, the content of a file called `name`.

    Args:
        data: A whole file.
        name: Of the file; only what follows its last dot is looked at.
        in_grey: Let Pillow turn colour into grey while it decodes, which is quicker: ITU-R BT.601
            as in `rendering`, and of a JPEG the luminance that it holds.

    Raises:
        RejectedFile: Another format than the name says, too large, several pages, or a mode
            that has no grey or colour meaning here (CMYK, float).
        Exception: Whatever Pillow raises on damage; the caller counts it as "damaged".
    """
    expected = FORMATS[suffix_of(name)]
    if data[128:132] == _DICOM:
        raise RejectedFile("wrong extension", "DICOM inside")
    with quietly():
        return _read(data, expected, in_grey=in_grey)


def _read(data: bytes, expected: str, *, in_grey: bool) -> Sample:
    try:
        image = Image.open(io.BytesIO(data), formats=_READERS)
    except UnidentifiedImageError:
        reason: Reason = "damaged" if looks_like_image(data) else "wrong extension"
        raise RejectedFile(reason, f"expected {expected}") from None
    except Image.DecompressionBombError as error:
        raise RejectedFile("too large", str(error)) from None
    with image:
        if image.format != expected:
            raise RejectedFile("wrong extension", f"{image.format} inside; expected {expected}")
        check_size(*image.size, len(image.getbands()))
        if getattr(image, "n_frames", 1) > 1:
            raise RejectedFile("several pages", "one picture a file is read")
        if in_grey and image.format == "JPEG":
            image.draft("L", image.size)
        return _sample(_upright(image), in_grey=in_grey)


def _upright(image: Image.Image) -> Image.Image:
    said = image.format == "TIFF" or "exif" in image.info
    if said and image.getexif().get(_ORIENTATION, 1) > 1:
        return ImageOps.exif_transpose(image)
    return image


def _sample(image: Image.Image, *, in_grey: bool) -> Sample:
    if image.mode in _GREY_16:
        return Sample(pixels=_grey_16(image), window=_FULL_16, kind="image")
    if image.mode in _GREY_8 or (in_grey and image.mode in _COLOUR):
        grey = np.asarray(image if image.mode == "L" else image.convert("L"))
        return Sample(pixels=grey[None, None], window=_FULL_8, kind="image")
    if image.mode in _COLOUR:
        colour = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return Sample(pixels=colour.transpose(2, 0, 1)[:, None], window=_FULL_8, kind="image")
    raise RejectedFile("not a format that is read", f"pixel mode {image.mode}")


def _grey_16(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _FULL_16[1]:
        raise RejectedFile("not a format that is read", "more than 16 bits a pixel")
    return values.astype(np.uint16)[None, None]
