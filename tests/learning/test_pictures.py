# SPDX-License-Identifier: Apache-2.0
"""Tests of the choice of test slices: nobody picks, and no identifier comes along."""

import numpy as np

from consilium.data.records import Records
from consilium.learning.pictures import SHOWN, choose_pictures

CLASSES = ("background", "organ")


def records(patients: int) -> Records:
    """Two slices a patient; the second has more of the organ. Patient k's image is all k."""
    maps = np.zeros((2 * patients, 2, 4), np.uint8)
    maps[::2, 0, 0], maps[1::2, 0] = 1, 1
    grey = np.repeat(np.arange(patients, dtype=np.uint8), 2)
    return Records(
        inputs=np.broadcast_to(grey[:, None, None, None], (2 * patients, 1, 2, 4)).copy(),
        labels=maps,
        patients=np.array([f"p{k:02d}" for k in grey]),
    )


def test_patients_are_spread_from_the_worst_to_the_best() -> None:
    some = records(11)
    predicted = some.labels.copy()
    for patient in range(11):  # patient 10 has no pixel wrong, patient 0 the most
        predicted[2 * patient + 1, 1].flat[: (10 - patient) % 5] = 1
        predicted[2 * patient, 1].flat[: (10 - patient) // 5 * 2] = 1

    shown = choose_pictures(some, predicted, CLASSES)

    scores = [one.dice for one in shown]
    assert len(shown) == SHOWN
    assert scores == sorted(scores, key=lambda score: score or 0.0)
    assert scores[-1] == 1.0


def test_the_slice_with_most_of_the_organ_is_shown() -> None:
    some = records(2)

    shown = choose_pictures(some, some.labels, CLASSES)

    assert [sum(one.truth) for one in shown] == [4, 4]
    assert {one.image for one in shown} == {bytes(8), bytes([1] * 8)}


def test_a_picture_shows_no_pixel_and_no_patient_when_printed() -> None:
    (first, _) = choose_pictures(records(2), records(2).labels, CLASSES)

    assert repr(first) == "Picture(2 x 4)"
    assert not {"patient", "patients"} & set(first.__struct_fields__)
