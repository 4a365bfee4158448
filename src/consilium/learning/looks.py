# SPDX-License-Identifier: Apache-2.0
"""A quick look at a model during training: three numbers, no intervals.

`metrics.evaluate` is for the end. Looks at private validation records are releases; who makes
them says whether they are charged.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from consilium.learning.overlap import dices, pixel_counts, pixel_losses
from consilium.learning.resampling import macro_auc


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Mean cross-entropy in nats, AUC (None where a class is missing), and accuracy.

    Of label maps: loss and accuracy of pixels, no AUC, and the mean foreground Dice of a patient
    (None where nobody has any foreground).
    """

    loss: float
    auc: float | None
    accuracy: float
    dice: float | None = None


def look(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> Look:
    """Returns what `probabilities`, shape (n, classes), say of `labels`, shape (n,)."""
    exact = np.asarray(probabilities, np.float64)
    own = exact[np.arange(len(labels)), labels]
    auc = macro_auc(exact, labels, np.ones((len(labels), 1)))[0]
    return Look(
        loss=float(-np.log(np.maximum(own, 1e-12)).mean()),
        auc=None if np.isnan(auc) else float(auc),
        accuracy=float((exact.argmax(axis=1) == labels).mean()),
    )


def look_at_maps(
    probabilities: NDArray[np.floating], maps: NDArray[np.uint8], patients: NDArray[np.str_]
) -> Look:
    """Returns what `probabilities`, shape (n, classes, h, w), say of `maps`, shape (n, h, w).

    The records of a patient, named by `patients`, shape (n,), are judged together.
    """
    counts = pixel_counts(probabilities.argmax(axis=1), maps, patients, probabilities.shape[1])
    of_patients = dices(counts).foreground()
    known = of_patients[~np.isnan(of_patients)]
    return Look(
        loss=float(pixel_losses(probabilities, maps).mean()),
        auc=None,
        accuracy=float(np.trace(counts, axis1=1, axis2=2).sum() / counts.sum()),
        dice=float(known.mean()) if len(known) else None,
    )
