# SPDX-License-Identifier: Apache-2.0
"""One whole picture into a square of a model's size, by the rule that its training set followed.

    pad      the longer side becomes `size`, never larger; black around (`data.rendering`)
    squash   both sides become `size`, whatever their proportion
    crop     the central square, then as squash

Guarantees: sums of whole numbers, halves up (`data.resizing`), so that a browser that counts in
double precision gives the same bytes. Not here: values to grey levels (`data.rendering`).
"""

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from consilium.data.rendering import centred_in, fitted
from consilium.data.resizing import shrink_plane
from consilium.errors import DataError

Frame: TypeAlias = Literal["pad", "squash", "crop"]


def framed(plane: NDArray[np.uint8], size: int, frame: Frame) -> NDArray[np.uint8]:
    """Returns a picture (channels, size, size) of one of shape (channels, height, width).

    Raises:
        DataError: A side is below `size`, where the frame may not leave black around it.

    >>> framed(np.full((1, 2, 4), 9, np.uint8), 2, "crop").tolist()
    [[[9, 9], [9, 9]]]
    """
    height, width = plane.shape[1:]
    if frame == "pad":
        return centred_in(shrink_plane(plane, *fitted(height, width, size)), size)
    if min(height, width) < size:
        raise DataError(
            f"picture of {width} x {height} px; expected {size} px or more on each side: "
            "take it again, larger"
        )
    if frame == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        plane = plane[:, top : top + side, left : left + side]
    return shrink_plane(plane, size, size)
