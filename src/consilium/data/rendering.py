# SPDX-License-Identifier: Apache-2.0
"""From values of any range and size to bytes of one shape, by one public rule for every record.

    step       rule
    window     values at or below black become 0, at or above white 255, a line between, halves up;
               black and white are the project's, else the file's own (`Sample.window`)
    colour     to grey by ITU-R BT.601, (19595 R + 38470 G + 7471 B + 32768) >> 16, for a JPEG its
               own luminance; grey to colour: three times the same
    size       the longer side becomes `size` by the mean over the area that each pixel covers
               (whole numbers, exact), never larger; the rest is filled with 0, the picture central
    label map  as size, by the value at the centre of each pixel

Guarantees: the result depends on this record and these settings alone, bit for bit, so the same
file gives the same bytes at training, at evaluation and at inference. Not here: normalisation,
which belongs to the model (`learning.preprocessing`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.resizing import shrink_plane
from consilium.data.samples import RejectedFile, Sample
from consilium.errors import ConfigError

Plane: TypeAlias = Literal["axial", "coronal", "sagittal"]
Channels: TypeAlias = Literal[1, 3]
Rendered: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]  # inputs, label map

_AXES: Final[dict[Plane, int]] = {"axial": 1, "coronal": 2, "sagittal": 3}  # of (c, d, h, w)
_RED, _GREEN, _BLUE, _HALF = 19595, 38470, 7471, 32768  # ITU-R BT.601, as Pillow rounds it
_FULL: Final = (0.0, 255.0)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Rendering:
    """How every record of a dataset was made; written down in it.

    Attributes:
        size: Pixels on a side.
        channels: 1 for grey, 3 for colour.
        plane: Along which planes a volume is cut into pictures.
        depth: Planes of a record that is a volume; None where records are pictures.
        window: Black and white in the unit of the source; None takes each file's own.
    """

    size: int = 224
    channels: Channels = 1
    plane: Plane = "axial"
    depth: int | None = None
    window: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096 or (self.depth is not None and not 2 <= self.depth <= 1024):
            raise ConfigError(
                f"size={self.size}, depth={self.depth}; expected a size of 8 to 4096 and a depth "
                "of 2 to 1024"
            )
        if self.window is not None and not self.window[0] < self.window[1]:
            raise ConfigError(f"window={self.window}; expected black below white")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one record: (channels, [depth,] height, width)."""
        depth = () if self.depth is None else (self.depth,)
        return (self.channels, *depth, self.size, self.size)

    def words(self) -> dict[str, str]:
        """Returns the rules that were applied, for the dataset's description."""
        black_white = "the file's own" if self.window is None else f"{self.window}"
        return {
            "rules": "consilium.data.rendering, version 1",
            "window": f"black to white: {black_white}; a line between, halves up",
            "colour": "grey by ITU-R BT.601, of a JPEG its luminance"
            if self.channels == 1
            else "RGB",
            "size": f"longer side to {self.size} px by area mean, never larger; black around",
            "volumes": (
                f"cut into {self.plane} planes"
                if self.depth is None
                else f"{self.depth} axial planes, averaged where there are more, black where fewer"
            ),
        }

    def records(self, sample: Sample) -> Iterator[Rendered]:
        """Yields the records of a sample, each with its label map if the sample has one.

        Raises:
            RejectedFile: Its channels are neither 1 nor 3.
        """
        if sample.pixels.shape[0] not in (1, 3):
            raise RejectedFile(
                "not a format that is read", f"{sample.pixels.shape[0]} channels or points in time"
            )
        if self.depth is None:
            yield from self._pictures(sample)
            return
        planes = [self._plane(sample, sample.pixels[:, k]) for k in range(sample.pixels.shape[1])]
        maps = sample.label_map
        yield (
            _of_depth(np.stack(planes, axis=1), self.depth),
            None if maps is None else _map_of_depth(maps, self.depth, self.size),
        )

    def _pictures(self, sample: Sample) -> Iterator[Rendered]:
        if sample.pixels.shape[1] == 1:
            own = None if sample.label_map is None else nearest(sample.label_map[0], self.size)
            yield self._plane(sample, sample.pixels[:, 0]), own
            return
        axis = _AXES[self.plane]
        planes = np.moveaxis(sample.pixels, axis, 0)
        maps = None if sample.label_map is None else np.moveaxis(sample.label_map, axis - 1, 0)
        for k, plane in enumerate(planes):
            yield (
                self._plane(sample, plane),
                None if maps is None else nearest(maps[k], self.size),
            )

    def _plane(self, sample: Sample, plane: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Returns one picture, from shape (channels, height, width)."""
        window = self.window or sample.window
        grey_levels = (
            np.asarray(plane, np.uint8)
            if plane.dtype == np.uint8 and window == _FULL
            else windowed(plane, window)
        )
        coloured = in_channels(grey_levels, self.channels)
        height, width = fitted(coloured.shape[1], coloured.shape[2], self.size)
        return centred_in(shrink_plane(coloured, height, width), self.size)


# -- Values ---------------------------------------------------------------------------


def windowed(values: NDArray[np.generic], window: tuple[float, float]) -> NDArray[np.uint8]:
    """Returns grey levels: black at `window[0]` and below, white at `window[1]` and above."""
    low, high = window
    scaled = values.astype(np.float64)
    scaled -= low
    scaled *= 255.0
    scaled /= high - low
    np.clip(scaled, 0.0, 255.0, out=scaled)
    scaled += 0.5
    return scaled.astype(np.uint8)  # not negative: cutting is the floor


def in_channels(plane: NDArray[np.uint8], channels: Channels) -> NDArray[np.uint8]:
    """Returns a picture of shape (channels, height, width)."""
    if plane.shape[0] == channels:
        return plane
    if channels == 3:
        return np.repeat(plane, 3, axis=0)
    red, green, blue = plane.astype(np.int32)
    luma = (_RED * red + _GREEN * green + _BLUE * blue + _HALF) >> 16
    return np.asarray(luma[None], np.uint8)


# -- Size -----------------------------------------------------------------------------


def fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """Returns the sides after the longer one became `size`; never larger than they were.

    >>> fitted(2000, 1000, 224), fitted(20, 10, 224)
    ((224, 112), (20, 10))
    """
    longer = max(height, width)
    if longer <= size:
        return height, width
    return _share(height, size, longer), _share(width, size, longer)


def _share(side: int, size: int, longer: int) -> int:
    return max(1, (2 * side * size + longer) // (2 * longer))


def centred_in(plane: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns `plane`, shape (..., height, width), central in a black square."""
    height, width = plane.shape[-2:]
    if (height, width) == (size, size):
        return plane
    out = np.zeros((*plane.shape[:-2], size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    out[..., top : top + height, left : left + width] = plane
    return out


def nearest(labels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns a label map fitted to `size` and central in class 0, from shape (height, width)."""
    height, width = fitted(labels.shape[0], labels.shape[1], size)
    rows, columns = centres(labels.shape[0], height), centres(labels.shape[1], width)
    return centred_in(labels[np.ix_(rows, columns)], size)


def centres(length: int, size: int) -> NDArray[np.intp]:
    """Returns which input pixel lies at the centre of each output pixel."""
    return np.asarray((2 * np.arange(size) + 1) * length // (2 * size), np.intp)


def _of_depth(planes: NDArray[np.uint8], depth: int) -> NDArray[np.uint8]:
    """Returns (channels, depth, h, w): planes averaged where there are more, black where fewer."""
    found = planes.shape[1]
    if found > depth:
        flat = planes.reshape(planes.shape[0], found, -1)
        return shrink_plane(flat, depth, flat.shape[2]).reshape(-1, depth, *planes.shape[2:])
    out = np.zeros((planes.shape[0], depth, *planes.shape[2:]), np.uint8)
    first = (depth - found) // 2
    out[:, first : first + found] = planes
    return out


def _map_of_depth(labels: NDArray[np.uint8], depth: int, size: int) -> NDArray[np.uint8]:
    found = labels.shape[0]
    chosen = centres(found, depth) if found > depth else np.arange(found)
    out = np.zeros((depth, size, size), np.uint8)
    first = (depth - len(chosen)) // 2
    for k, plane in enumerate(chosen):
        out[first + k] = nearest(labels[plane], size)
    return out
