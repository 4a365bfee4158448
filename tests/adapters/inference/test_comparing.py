# SPDX-License-Identifier: Apache-2.0
"""Runtimes held against the oracle."""

from typing import final

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.adapters.inference.runtimes import compiled, images, plain_logits

from consilium.adapters.inference.comparing import compare
from consilium.adapters.inference.runtimes import InTheClear
from consilium.errors import DataError
from consilium.inference.runtime import Answered


@final
class _Fixed:
    """Gives the logits that it was given."""

    name, trust = "fixed", "sees nothing"

    def __init__(self, logits: NDArray[np.float64]) -> None:
        self._logits = logits

    def infer(self, images: NDArray[np.float32]) -> Answered:
        assert len(images)
        return Answered(logits=self._logits, seconds=1.0, spent=())


def test_a_wrong_label_and_the_largest_difference_are_seen() -> None:
    oracle = InTheClear(compiled())
    logits = oracle.infer(images(2)).logits.copy()
    logits[1, logits[1].argmin()] += 100

    clear, fixed = compare(oracle, [_Fixed(logits)], images(2), plain_logits(2))

    assert (clear.labels_agree, clear.from_oracle) == (2, 0.0)
    assert (fixed.labels_agree, fixed.from_oracle) == (1, 100.0)
    assert clear.from_model < 1e-3 < fixed.from_model
    assert fixed.labels != clear.labels


def test_an_answer_about_other_classes_is_refused() -> None:
    other = _Fixed(np.zeros((2, 5)))

    with pytest.raises(DataError, match=r"fixed answers \(2, 5\), expected \(2, 3\)"):
        compare(InTheClear(compiled()), [other], images(2), plain_logits(2))
