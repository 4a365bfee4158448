# SPDX-License-Identifier: Apache-2.0
"""Images made smaller by one public rule, the same at every site, at training and at inference.

Guarantees: the result depends on the image alone, bit for bit on every machine: weights are
integers, every sum is exact, and halves round up. Not here: making an image larger, which
would invent detail, and normalisation, which belongs to the model (`learning.preprocessing`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError

_CHUNK: Final = 512  # images at a time, so that float64 copies stay small


def shrink(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns `images` at `size` by `size` pixels, each the mean over the area that it covers.

    Where `size` divides the image this is average pooling; else an input pixel counts by the
    part of it that lies inside the output pixel.

    Args:
        images: Shape (n, channels, height, width).
        size: Pixels on a side.

    Raises:
        DataError: `size` is below 1, or above the height or the width.
    """
    height, width = images.shape[2:]
    if size < 1 or size > min(height, width):
        raise DataError(
            f"image of {height} x {width} px cannot become {size} x {size}; expected 1 to "
            f"{min(height, width)}; choose a smaller image_size"
        )
    if (height, width) == (size, size):
        return images
    rows, columns = overlaps(height, size), overlaps(width, size)
    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.float64)
        sums = rows @ chunk @ columns.T  # whole numbers below 2**53: exact in any order
        out[start : start + _CHUNK] = np.floor((2 * sums + height * width) / (2 * height * width))
    return out


def shrink_plane(plane: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns one picture at `height` by `width` pixels by the rule of `shrink`, exactly.

    Args:
        plane: Shape (channels, rows, columns).
        height: At most rows.
        width: At most columns.

    Raises:
        ValueError: A side would grow.
    """
    rows, columns = plane.shape[1:]
    if not (1 <= height <= rows and 1 <= width <= columns):
        raise ValueError(f"{height} x {width} from {rows} x {columns}; a side cannot grow")
    if (rows, columns) == (height, width):
        return plane
    sums = _area_sums(_area_sums(plane, 1, height), 2, width)
    return np.asarray((2 * sums + rows * columns) // (2 * rows * columns), np.uint8)


def _area_sums(plane: NDArray[np.integer], axis: int, size: int) -> NDArray[np.int64]:
    """Returns the sums over what each output pixel covers, in 1/size of a pixel, along `axis`."""
    length = plane.shape[axis]
    whole, part = np.divmod(np.arange(size + 1) * length, size)
    sums = np.cumsum(plane, axis=axis, dtype=np.int64)
    before = np.take(sums, np.maximum(whole - 1, 0), axis) * size
    at = np.take(plane, np.minimum(whole, length - 1), axis).astype(np.int64)
    shape = [1, 1, 1]
    shape[axis] = size + 1
    edges = before * (whole > 0).reshape(shape) + at * part.reshape(shape)
    return np.asarray(np.diff(edges, axis=axis), np.int64)


def overlaps(length: int, size: int) -> NDArray[np.float64]:
    """Returns how much of each input pixel lies in each output pixel, in 1/size of a pixel.

    Shape (size, length); whole numbers, each row sums to `length`, each column to `size`.
    """
    edges_in, edges_out = np.arange(length + 1) * size, np.arange(size + 1) * length
    upper = np.minimum(edges_out[1:, None], edges_in[None, 1:])
    lower = np.maximum(edges_out[:-1, None], edges_in[None, :-1])
    return np.asarray(np.maximum(upper - lower, 0), np.float64)
