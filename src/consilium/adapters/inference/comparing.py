# SPDX-License-Identifier: Apache-2.0
"""The same images at several runtimes, each held against the oracle and the trained network."""

from collections.abc import Iterable
from typing import final

import msgspec
import numpy as np
from numpy.typing import NDArray

from consilium.errors import DataError
from consilium.inference.runtime import Answered, Runtime


@final
class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One runtime, on all images together.

    Attributes:
        runtime: Its name.
        trust: Who sees what.
        labels: The largest logit's place, by image.
        labels_agree: With the oracle's, how many.
        from_oracle: Largest difference of a logit from the oracle's.
        from_model: Largest difference of a logit from the trained network's.
        seconds: By the clock.
        cpu_seconds: Of all parties; None where they do not tell.
        sent_bytes: By all parties to each other; None where nothing is sent.
    """

    runtime: str
    trust: str
    labels: tuple[int, ...]
    labels_agree: int
    from_oracle: float
    from_model: float
    seconds: float
    cpu_seconds: float | None
    sent_bytes: int | None


def compare(
    oracle: Runtime,
    runtimes: Iterable[Runtime],
    images: NDArray[np.float32],
    logits: NDArray[np.floating],
) -> tuple[Row, ...]:
    """Returns a row for the oracle and one for each runtime.

    Args:
        oracle: What the others are held against.
        runtimes: In the order of the rows.
        images: Preprocessed, (n, channels, height, width).
        logits: The trained network's, (n, classes).

    Raises:
        DataError: A runtime does not take these images, or answers about other classes.
        RoundAborted: A party of a runtime stopped.
    """
    truth = oracle.infer(images)
    rows = (_row(one, one.infer(images), truth.logits, logits) for one in runtimes)
    return (_row(oracle, truth, truth.logits, logits), *rows)


def _row(
    runtime: Runtime,
    found: Answered,
    oracle: NDArray[np.float64],
    model: NDArray[np.floating],
) -> Row:
    if not found.logits.shape == oracle.shape == model.shape:
        raise DataError(
            f"{runtime.name} answers {found.logits.shape}, expected {model.shape} (images, "
            "classes): it holds another model"
        )
    labels = found.logits.argmax(axis=1)
    return Row(
        runtime=runtime.name,
        trust=runtime.trust,
        labels=tuple(int(one) for one in labels),
        labels_agree=int((labels == oracle.argmax(axis=1)).sum()),
        from_oracle=float(np.abs(found.logits - oracle).max()),
        from_model=float(np.abs(found.logits - model).max()),
        seconds=found.seconds,
        cpu_seconds=found.cpu_seconds,
        sent_bytes=found.sent_bytes,
    )
