# SPDX-License-Identifier: Apache-2.0
"""Tests of records and splits: what they refuse, hide and count."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.data.records import Labels, Records, Splits
from consilium.errors import DataError


def records(*patients: str, label: int = 0) -> Records:
    count = len(patients)
    return Records(
        inputs=np.arange(count * 4, dtype=np.uint8).reshape(count, 1, 2, 2),
        labels=np.full(count, label, np.int64),
        patients=np.array(patients),
    )


def table(*rows: tuple[float, ...]) -> Records:
    return Records(
        inputs=np.array(rows, np.float32),
        labels=np.zeros(len(rows), np.int64),
        patients=np.array([f"p{i}" for i in range(len(rows))]),
    )


def splits(train: Records, validation: Records, test: Records) -> Splits:
    return Splits(
        train=train,
        validation=validation,
        test=test,
        classes=("normal", "pneumonia"),
        unit="patient",
        origin="made up",
    )


# -- Records --------------------------------------------------------------------------


def test_repeated_records_do_not_add_patients() -> None:
    assert records("a", "b", "a", "a").patient_count == 2


def test_rows_of_each_patient_are_listed_in_order() -> None:
    rows = records("b", "a", "b", "c").by_patient()

    assert [list(of_one) for of_one in rows] == [[1], [0, 2], [3]]


@given(st.lists(st.sampled_from("abcdef"), min_size=2).filter(lambda names: len(set(names)) > 1))
def test_rows_by_patient_equal_the_loop(names: list[str]) -> None:
    expected = [[i for i, name in enumerate(names) if name == one] for one in sorted(set(names))]

    assert [list(rows) for rows in records(*names).by_patient()] == expected


def test_records_of_each_label_are_counted() -> None:
    some = replace(records("a", "b", "c"), labels=np.array([2, 0, 2], np.int64))

    assert some.class_counts(4).tolist() == [1, 0, 2, 0]


def test_a_label_without_a_class_is_not_counted() -> None:
    with pytest.raises(DataError, match="found label 3; expected 0 to 2"):
        records("a", "b", label=3).class_counts(3)


def test_taken_records_keep_label_patient_and_site_together() -> None:
    some = replace(
        records("a", "b", "c"),
        labels=np.array([5, 6, 7], np.int64),
        sites=np.array(["x", "y", "z"]),
    )

    taken = some.take(np.array([2, 0]))

    assert taken.labels.tolist() == [7, 5]
    assert taken.patients.tolist() == ["c", "a"]
    assert taken.sites is not None
    assert taken.sites.tolist() == ["z", "x"]
    assert taken.inputs[:, 0, 0, 0].tolist() == [8, 0]


def test_a_record_cannot_be_multiplied() -> None:
    with pytest.raises(ValueError, match="indices repeat"):
        records("a", "b").take(np.array([0, 1, 1]))


def test_nobody_can_write_to_the_arrays() -> None:
    some = records("a", "b")

    with pytest.raises(ValueError, match="read-only"):
        some.inputs[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        some.labels[0] = 1


def test_later_changes_to_the_callers_array_do_not_matter() -> None:
    images = np.zeros((2, 1, 2, 2), np.uint8)
    some = Records(inputs=images, labels=np.zeros(2, np.int64), patients=np.array(["a", "b"]))

    images[:] = 9

    assert some.inputs.max() == 0


def test_neither_pixels_nor_patients_are_shown() -> None:
    shown = repr(records("alice", "bob"))

    assert shown == "Records(2 records in 2 privacy units, each uint8 (1, 2, 2))"


REFUSED: dict[str, tuple[Callable[[], Records], str]] = {
    "no record": (
        lambda: replace(records("a", "b"), inputs=np.zeros((0, 1, 2, 2), np.uint8)),
        "no record",
    ),
    "one patient": (lambda: records("a", "a"), "2 records of one patient"),
    "empty patient": (lambda: records("a", "", "b"), "1 records without a patient"),
    "blank patient": (lambda: records("a", "  ", "b"), "1 records without a patient"),
    "missing patient": (lambda: records("a", "NaN", "None"), "2 records without a patient"),
    "patient with a space": (lambda: records("a", "a "), "space around"),
    "numbers as patients": (
        lambda: replace(records("a", "b"), patients=np.array([1, 2])),
        "patient column of int64",
    ),
    "objects as patients": (
        lambda: replace(records("a", "b"), patients=np.array(["a", None], dtype=object)),
        "patient column of object",
    ),
    "fewer patients": (
        lambda: replace(records("a", "b"), patients=np.array(["a"])),
        r"patient column of <U1 \(1,\) for 2 records",
    ),
    "fewer labels": (
        lambda: replace(records("a", "b"), labels=np.zeros(1, np.int64)),
        r"labels of int64 \(1,\) for 2 records",
    ),
    "fewer sites": (lambda: replace(records("a", "b"), sites=np.array(["x"])), "site column"),
    "empty site": (lambda: replace(records("a", "b"), sites=np.array(["x", ""])), "without a site"),
    "negative label": (lambda: records("a", "b", label=-1), "found label -1"),
    "small labels": (lambda: replace(records("a", "b"), labels=np.zeros(2, np.uint8)), "uint8"),
    "float images": (
        lambda: replace(records("a", "b"), inputs=np.zeros((2, 1, 2, 2), np.float32)),
        "inputs of float32",
    ),
    "two channels": (
        lambda: replace(records("a", "b"), inputs=np.zeros((2, 2, 2, 2), np.uint8)),
        "2 channels",
    ),
    "missing value": (lambda: table((1.0, 2.0), (float("nan"), 0.0)), "1 rows with a missing"),
    "infinite value": (lambda: table((1.0, float("inf")), (1.0, 0.0)), "1 rows with a missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, reason = REFUSED[name]

    with pytest.raises(DataError, match=reason) as error:
        make()

    assert "expected" in str(error.value)
    assert "\n" not in str(error.value)


# -- Splits ---------------------------------------------------------------------------


def test_a_patient_in_two_splits_is_refused_without_a_name() -> None:
    with pytest.raises(DataError, match="1 patients in both train and test") as error:
        splits(records("alice", "b"), records("c", "d"), records("e", "alice"))

    assert "alice" not in str(error.value)


def test_splits_of_different_shape_are_refused() -> None:
    larger = replace(records("c", "d"), inputs=np.zeros((2, 1, 3, 3), np.uint8))

    with pytest.raises(DataError, match="expected one shape"):
        splits(records("a", "b"), larger, records("e", "f"))


def test_images_beside_a_table_are_refused() -> None:
    with pytest.raises(DataError, match="float32"):
        splits(records("a", "b"), records("c", "d"), table((1.0,), (2.0,)))


def test_a_label_without_a_class_is_refused() -> None:
    with pytest.raises(DataError, match="found label 2; expected 0 to 1 for 2 classes"):
        splits(records("a", "b"), records("c", "d"), records("e", "f", label=2))


@pytest.mark.parametrize("classes", [(), ("normal",), ("same", "same"), ("normal", " ")])
def test_classes_that_cannot_be_told_apart_are_refused(classes: tuple[str, ...]) -> None:
    whole = splits(records("a", "b"), records("c", "d"), records("e", "f"))

    with pytest.raises(DataError, match="two or more different names"):
        replace(whole, classes=classes)


def test_class_names_can_be_replaced() -> None:
    whole = splits(records("a", "b"), records("c", "d"), records("e", "f"))

    assert replace(whole, classes=("no", "yes")).classes == ("no", "yes")


def test_an_origin_of_two_lines_is_refused() -> None:
    whole = splits(records("a", "b"), records("c", "d"), records("e", "f"))

    with pytest.raises(DataError, match="one line"):
        replace(whole, origin="one\ntwo")


# -- Label maps -----------------------------------------------------------------------


def mapped(maps: Labels) -> Records:
    count = len(maps)
    return Records(
        inputs=np.zeros((count, 1, 2, 2), np.uint8),
        labels=maps,
        patients=np.array([f"p{i}" for i in range(count)]),
    )


MAPS = np.array([[[0, 1], [1, 0]], [[0, 0], [0, 2]], [[0, 0], [0, 0]]], np.uint8)


def test_records_that_show_a_class_are_counted() -> None:
    some = mapped(MAPS)

    assert some.has_label_maps
    assert some.class_counts(4).tolist() == [3, 1, 1, 0]


def test_label_maps_are_taken_with_their_records_and_cannot_be_written_to() -> None:
    some = mapped(MAPS).take(np.array([1, 0]))

    np.testing.assert_array_equal(some.labels, MAPS[[1, 0]])
    with pytest.raises(ValueError, match="read-only"):
        some.labels[0] = 1


@pytest.mark.parametrize("maps", [MAPS[:, :1], MAPS.astype(np.int64), MAPS[:, :, None]])
def test_label_maps_of_another_shape_or_type_are_refused(maps: Labels) -> None:
    with pytest.raises(DataError, match=r"expected images, and uint8 \(3, 2, 2\)"):
        mapped(maps)


def test_a_table_has_no_label_maps() -> None:
    with pytest.raises(DataError, match="expected images"):
        replace(table((1.0, 2.0), (3.0, 4.0)), labels=np.zeros((2, 2), np.uint8))


def test_splits_have_label_maps_everywhere_or_nowhere() -> None:
    first, second = mapped(MAPS[:2]), records("a", "b")
    third = replace(mapped(MAPS[:2]), patients=np.array(["c", "d"]))

    with pytest.raises(DataError, match="label maps in only one of train and validation"):
        splits(first, second, third)


def test_a_pixel_without_a_class_is_refused() -> None:
    second = replace(mapped(MAPS[:2]), patients=np.array(["c", "d"]))
    third = replace(mapped(MAPS[:2]), patients=np.array(["e", "f"]))

    with pytest.raises(DataError, match="found label 2; expected 0 to 1"):
        splits(mapped(MAPS[:2]), second, third)
