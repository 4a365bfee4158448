# SPDX-License-Identifier: Apache-2.0
"""From stored records to the tensors that a model sees, the same at training and at inference.

Guarantees: public and fixed. Nothing is estimated from the data, and each image is treated
alone, so its tensor is the same bit for bit whatever else is in the batch. Not a place for
augmentation, nor for resizing (`consilium.data` does that once, on reading).
"""

import math
from dataclasses import dataclass
from typing import Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from consilium.data.records import Records
from consilium.errors import ConfigError, DataError

VERSION: Final = 1  # raised whenever the same settings would give other tensors
WHITE: Final = 255.0  # the brightest grey level


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How uint8 images become float32; tables pass unchanged.

    With `standardise_each_image` an image becomes (x - m) / max(s, 1), where m and s are the
    mean and the standard deviation of its own grey levels, over all its channels; else
    (x / 255 - mean) / std. Computed in float64, then rounded to float32.

    Attributes:
        version: Of these formulas; only `VERSION` is known.
        mean: Public constant on the scale 0 to 1, never a statistic of the data.
        std: Public constant on the scale 0 to 1.
        standardise_each_image: Use each image's own mean and spread instead.

    Raises:
        ConfigError: A version that this code does not know, or constants out of range.
    """

    version: int = VERSION
    mean: float = 0.5
    std: float = 0.25
    standardise_each_image: bool = False

    def __post_init__(self) -> None:
        if self.version != VERSION:
            raise ConfigError(
                f"preprocessing version={self.version}, expected {VERSION}; "
                "use the release of consilium that trained the model"
            )
        if not (0 <= self.mean <= 1 and 0 < self.std <= 1):
            raise ConfigError(
                f"mean={self.mean}, std={self.std}, expected 0 to 1, and std > 0; "
                "give both on the scale where black is 0 and white is 1"
            )

    def tensors(self, records: Records) -> tuple[Tensor, Tensor]:
        """Returns inputs (n, ...) float32 and labels (n,) int64; copies, in record order.

        Label maps (n, [depth,] height, width) stay uint8, soft labels (n, classes) float32.
        """
        return self.inputs(records.inputs), torch.from_numpy(records.targets.copy())

    def inputs(self, stored: NDArray[np.uint8] | NDArray[np.float32]) -> Tensor:
        """Returns what the model sees, float32, of images (n, c, [d,] h, w) or a table (n, f).

        Raises:
            DataError: Neither uint8 images nor a float32 table.
        """
        if stored.dtype == np.float32 and stored.ndim == 2:
            return torch.from_numpy(stored.astype(np.float32))
        if stored.dtype != np.uint8 or stored.ndim not in (4, 5):
            raise DataError(
                f"found inputs of {stored.dtype} {stored.shape}; expected uint8 images (n, "
                "channels, [depth,] height, width) or a float32 table (n, features); convert them"
            )
        images = np.empty(stored.shape, dtype=np.float32)
        for target, image in zip(images, stored, strict=True):
            target[...] = self._table(image)[image]
        return torch.from_numpy(images)

    def _table(self, image: NDArray[np.generic]) -> NDArray[np.float32]:
        """Returns the value of each of the 256 grey levels in this image."""
        centre, spread = self.mean * WHITE, self.std * WHITE
        if self.standardise_each_image:
            centre, spread = _moments(image)
        return ((np.arange(256) - centre) / spread).astype(np.float32)


def _moments(image: NDArray[np.generic]) -> tuple[float, float]:
    """Returns the mean and the standard deviation of the grey levels, the latter at least 1.

    Sums are of integers, hence exact, and the same on every machine.
    """
    levels = np.arange(256)
    counts = np.bincount(image.reshape(-1).astype(np.uint8), minlength=256)
    total, squares = int(counts @ levels), int(counts @ levels**2)
    variance = (image.size * squares - total**2) / image.size**2
    return total / image.size, max(math.sqrt(variance), 1.0)
