# SPDX-License-Identifier: Apache-2.0
"""Tests of the privacy unit: patients from the source, or images that stand for themselves."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from consilium.data.preparation import Raw, RawPart, prepare, record_ids
from consilium.data.records import SPLITS
from consilium.errors import DataError


def images(count: int, first: int) -> NDArray[np.uint8]:
    return np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones(
        (count, 1, 4, 4), np.uint8
    )


def raw(*, patients: bool) -> Raw:
    parts = {
        name: RawPart(
            inputs=images(4, 10 * i),
            labels=np.array([0, 1, 0, 1], np.int64),
            patients=np.array([f"{name}-{j // 2}" for j in range(4)]) if patients else None,
        )
        for i, name in enumerate(SPLITS)
    }
    return Raw(parts=parts, classes=("no", "yes"), origin="made up")


def test_patients_come_from_the_source() -> None:
    splits = prepare(raw(patients=True), image_size=None, unit="patient")

    assert splits.unit == "patient"
    assert splits.origin == "made up"
    assert splits.train.patients.tolist() == ["train-0", "train-0", "train-1", "train-1"]


def test_a_source_without_patients_cannot_protect_them() -> None:
    with pytest.raises(DataError, match=r'set privacy_unit = "record".*per image'):
        prepare(raw(patients=False), image_size=None, unit="patient")


@pytest.mark.parametrize("patients", [True, False])
def test_under_unit_record_each_image_stands_for_itself(patients: bool) -> None:
    splits = prepare(raw(patients=patients), image_size=None, unit="record")

    assert splits.unit == "record"
    assert splits.origin == "made up; the privacy unit is the single record"
    assert splits.test.patients.tolist() == [f"test-record-00000{i}" for i in (1, 2, 3, 4)]


def test_repeated_images_are_one_unit() -> None:
    repeated = np.concatenate([images(3, 0), images(3, 0), images(2, 1)])

    assert len(np.unique(record_ids(repeated, "train"))) == 3


def test_repeated_images_are_counted_in_the_origin() -> None:
    whole = raw(patients=False)
    train = replace(whole.parts["train"], inputs=images(4, 0)[[0, 1, 2, 2]])
    whole = replace(whole, parts={**whole.parts, "train": train})

    splits = prepare(whole, image_size=None, unit="record")

    assert splits.train.patient_count == 3
    assert splits.origin.endswith("; 1 exact copies count as the record that they copy")


def test_images_are_resized_in_every_split() -> None:
    splits = prepare(raw(patients=True), image_size=2, unit="patient")

    assert {splits.part(name).shape for name in SPLITS} == {(1, 2, 2)}


def test_a_table_has_no_image_size() -> None:
    parts = {
        name: replace(part, inputs=np.zeros((4, 3), np.float32))
        for name, part in raw(patients=True).parts.items()
    }

    with pytest.raises(DataError, match="image_size 2 for a source without images"):
        prepare(replace(raw(patients=True), parts=parts), image_size=2, unit="patient")


def test_pixels_are_not_shown() -> None:
    assert "array" not in repr(raw(patients=True))
