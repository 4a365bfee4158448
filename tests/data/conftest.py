# SPDX-License-Identifier: Apache-2.0
"""The folder of real data, where it is, and an archive of made-up images."""

import numpy as np
import pytest
from numpy.typing import NDArray


@pytest.fixture
def made_up_arrays() -> dict[str, NDArray[np.generic]]:
    """Six, four and four grey images of 8 px; two images of each patient; two classes."""
    rng = np.random.default_rng(0)
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, count in {"train": 6, "val": 4, "test": 4}.items():
        arrays[f"{split}_images"] = rng.integers(0, 255, (count, 8, 8), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 2
        arrays[f"{split}_groups"] = np.array([f"{split}-{i // 2}" for i in range(count)])
    return arrays
