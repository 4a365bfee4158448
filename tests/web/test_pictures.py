# SPDX-License-Identifier: Apache-2.0
"""Tests of the figure of test slices: the same bytes, named classes, a column a patient."""

import numpy as np
import pytest

from consilium.learning.pictures import Picture
from consilium.web.pictures import draw_pictures


@pytest.fixture
def pictures() -> list[Picture]:
    rng = np.random.default_rng(0)
    return [
        Picture(
            height=8,
            width=10,
            image=rng.bytes(80),
            truth=rng.integers(0, 3, 80, dtype=np.uint8).tobytes(),
            predicted=rng.integers(0, 3, 80, dtype=np.uint8).tobytes(),
            classes=("background", "head & neck", "tail"),
            dice=score,
        )
        for score in (None, 0.5, 0.875)
    ]


def test_the_same_pictures_give_the_same_bytes(pictures: list[Picture]) -> None:
    assert draw_pictures(pictures) == draw_pictures(pictures)


def test_every_patient_has_an_image_a_truth_and_a_prediction(pictures: list[Picture]) -> None:
    svg = draw_pictures(pictures).decode()

    assert svg.count("<image ") == 9
    assert all(f">{name}<" in svg for name in ("image", "truth", "prediction"))


def test_scores_and_classes_are_written(pictures: list[Picture]) -> None:
    svg = draw_pictures(pictures).decode()

    assert all(f"Dice {score}" in svg for score in ("undefined", ".500", ".875"))
    assert "head &amp; neck" in svg
    assert "background" not in svg
