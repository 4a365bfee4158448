# SPDX-License-Identifier: Apache-2.0
"""Whether a picture is of the kind that a model knows: a chest X-ray, the back of an eye.

A picture is shrunk to a coarse grid, its grey levels are brought to mean 0 and spread 1, and what
a few principal directions of openly published pictures cannot explain of it is its strangeness,
0 to about 1. A picture stranger than the kind's limit is refused, and so is one in colour where
the kind is grey.

Guarantees: none of its own about patients: a kind holds means and directions of its examples, so
only published pictures are ever taken (`adapters.picture_kinds`), never records that a site
trains on. No promise: a picture may be of the
kind and be refused, or be of another kind and pass; the measured shares are in docs/phone.md.

Source: reconstruction error as a novelty score, Bishop 1994; principal directions by SVD.
"""

from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.framing import Frame, framed

_FLATTEST: Final = 1.0  # least spread, grey levels


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What pictures of one kind have in common.

    Attributes:
        name: For people and for files.
        frame: How a picture becomes a square here, whatever the model does.
        grid: Cells on a side.
        channels: 1 for grey, 3 for colour.
        centre: Mean of the standardised grids, shape (channels * grid**2,).
        directions: Orthonormal, shape (k, channels * grid**2).
        limit: Greatest strangeness that passes.
        most_colour: Greatest mean of (largest - smallest channel) that passes, grey levels.
    """

    name: str
    frame: Frame
    grid: int
    channels: int
    centre: NDArray[np.float64] = field(repr=False)
    directions: NDArray[np.float64] = field(repr=False)
    limit: float
    most_colour: float

    def strangeness(self, picture: NDArray[np.uint8]) -> float:
        """Returns how much of a picture (channels, height, width) the kind does not explain.

        Raises:
            DataError: It is smaller than the grid.
        """
        return float(self.strangenesses(framed(picture, self.grid, self.frame)[None])[0])

    def strangenesses(self, grids: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Returns the same of pictures that are grids already, (n, channels, grid, grid)."""
        offset = standardised(grids) - self.centre
        left = offset - (offset @ self.directions.T) @ self.directions
        return np.asarray((left**2).mean(axis=1), np.float64)

    def knows(self, picture: NDArray[np.uint8], colour: float) -> bool:
        """Returns whether a picture passes, given its `colourfulness`."""
        return colour <= self.most_colour and self.strangeness(picture) <= self.limit


def standardised(grids: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns each picture as a row with mean 0 and spread 1, of pictures (n, c, g, g)."""
    rows = grids.reshape(len(grids), -1).astype(np.float64)
    rows -= rows.mean(axis=1, keepdims=True)
    spread = np.sqrt((rows**2).mean(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(spread, _FLATTEST), np.float64)


def colourfulness(picture: NDArray[np.uint8]) -> float:
    """Returns the mean over pixels of largest less smallest channel, 0 of a grey picture."""
    return float((picture.max(axis=0) - picture.min(axis=0)).mean(dtype=np.float64))


def unlearnt(
    name: str, *, frame: Frame, grid: int, channels: int, most_colour: float = 255.0
) -> Kind:
    """Returns a kind that has seen no example yet."""
    size = channels * grid**2
    return Kind(
        name=name,
        frame=frame,
        grid=grid,
        channels=channels,
        centre=np.zeros(size),
        directions=np.zeros((0, size)),
        limit=0.0,
        most_colour=most_colour,
    )


def learn_kind(kind: Kind, examples: NDArray[np.uint8], *, directions: int, passing: float) -> Kind:
    """Returns `kind` with constants learnt from published examples.

    Directions come from two thirds of the examples, the limit from the rest.

    Args:
        kind: Its name, frame, grid, channels and most_colour are kept.
        examples: Grids, shape (n, channels, grid, grid).
        directions: How many.
        passing: Share of the remaining third that passes, 0 to 1.
    """
    first = np.arange(len(examples)) % 3 < 2
    rows = standardised(examples[first])
    centre = rows.mean(axis=0)
    found = np.linalg.svd(rows - centre, full_matrices=False)[2][:directions]
    half = _rebuilt(kind, np.asarray(centre, np.float16), np.asarray(found, np.float16), 0.0)
    limit = float(np.quantile(half.strangenesses(examples[~first]), passing))
    return _rebuilt(half, half.centre, half.directions, round(limit, 4))


def _rebuilt(
    kind: Kind,
    centre: NDArray[np.floating],
    directions: NDArray[np.floating],
    limit: float,
) -> Kind:
    return Kind(
        name=kind.name,
        frame=kind.frame,
        grid=kind.grid,
        channels=kind.channels,
        centre=centre.astype(np.float64),
        directions=directions.astype(np.float64),
        limit=limit,
        most_colour=kind.most_colour,
    )
