# SPDX-License-Identifier: Apache-2.0
"""Masks expanded on threads: AES and additions release the interpreter, and blocks stand alone.

The masks of a round follow from its plan, so they are made while the model computes. A short
vector is not worth a thread, and is left to the secure sum itself.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, final

import numpy as np

from consilium.keystream import BLOCK
from consilium.secagg.job import SumJob
from consilium.secagg.masks import Mask, MaskKeys, add_masks

SHORTEST: Final = 8 * BLOCK  # bytes of a vector that is worth a thread


@final
class MaskExpander:
    """Expands the masks of one upload at a time. Not thread-safe: one caller.

    Args:
        threads: That a long vector is divided among.

    Raises:
        ValueError: Fewer than one thread.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"{threads=} must be >= 1")
        self._threads = threads
        self._mask: Mask | None = None
        self._parts: list[Future[None]] = []

    def begin(self, keys: MaskKeys, job: SumJob) -> None:
        """Begins to expand these masks; those of an earlier plan are forgotten."""
        self._mask, self._parts = None, []
        if job.vector_bytes < SHORTEST:
            return
        words = np.zeros(job.length, job.word)
        blocks = -(-job.vector_bytes // BLOCK)
        share = -(-blocks // self._threads)
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="masks")
        for first in range(0, blocks, share):
            step = BLOCK // words.itemsize
            part = words[first * step : (first + share) * step]
            task = pool.submit(
                add_masks, part, add=keys.added, subtract=keys.subtracted, first=first
            )
            self._parts.append(task)
        pool.shutdown(wait=False)
        self._mask = Mask(keys.plan, words)

    def take(self) -> Mask | None:
        """Returns the masks that were begun, once; None where the vector is short."""
        for part in self._parts:
            part.result()
        mask, self._mask, self._parts = self._mask, None, []
        return mask
