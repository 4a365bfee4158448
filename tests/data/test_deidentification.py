# SPDX-License-Identifier: Apache-2.0
"""Tests of what stays behind: on made objects, and on every real one with its many alphabets."""

import hmac
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset
from tests.data.made import dicom

from consilium.data.deidentification import KEPT, Pseudonymiser, kept_tags, removed_tags
from consilium.data.dicom_files import open_dicom
from consilium.data.dicom_risks import may_show_face, may_show_text
from consilium.data.quiet import quietly
from consilium.wire import frame

KEY = Pseudonymiser(bytes(range(32)))
PIXELS = np.zeros((4, 4), np.uint8)


def kept(dataset: Dataset, *, shift: bool = False) -> dict[str, str]:
    return kept_tags(dataset, KEY, "patient 7", "shift" if shift else "drop")


def test_a_pseudonym_is_a_keyed_hash() -> None:
    expected = hmac.new(bytes(range(32)), frame("consilium/pseudonym/v1", "patient 7"), "sha256")

    assert KEY.pseudonym("patient 7") == expected.hexdigest()[:32]
    assert Pseudonymiser(bytes(32)).pseudonym("patient 7") != KEY.pseudonym("patient 7")


def test_the_secret_is_not_shown_and_a_short_one_is_refused() -> None:
    assert "0102" not in repr(KEY)
    with pytest.raises(ValueError, match="expected 32"):
        Pseudonymiser(b"short")


@given(first=st.dates(date(1950, 1, 1), date(2030, 1, 1)), days=st.integers(0, 9999))
def test_shifted_dates_keep_their_distance(first: date, days: int) -> None:
    second = date.fromordinal(first.toordinal() + days)

    moved = KEY.shifted("patient 7", first), KEY.shifted("patient 7", second)

    assert (moved[1] - moved[0]).days == days
    assert 1 <= (first - moved[0]).days <= 3650


def test_two_patients_are_shifted_differently() -> None:
    shifts = {KEY.shifted(f"{k}", date(2020, 1, 1)) for k in range(50)}

    assert len(shifts) > 40


def test_dates_are_dropped_unless_shifting_is_asked_for() -> None:
    with quietly():
        dataset = dicom(PIXELS, StudyDate="20200131", AcquisitionDate="no date")

    shifted = KEY.shifted("patient 7", date(2020, 1, 31))

    assert "StudyDate" not in kept(dataset)
    assert kept(dataset, shift=True)["StudyDate"] == f"{shifted:%Y%m%d}"
    assert "AcquisitionDate" not in kept(dataset, shift=True)


def test_a_listed_tag_is_kept_in_its_form() -> None:
    dataset = dicom(PIXELS, PixelSpacing=[0.5, 0.75], PatientSex="F", PatientAge="044Y")

    found = kept(dataset)

    assert found["Modality"] == "CT"
    assert found["BodyPartExamined"] == "CHEST"
    assert found["PixelSpacing"] == "0.5\\0.75"
    assert (found["PatientSex"], found["PatientAge"]) == ("F", "044Y")
    assert list(found) == [keyword for keyword in KEPT if keyword in found]


def test_a_name_in_the_wrong_field_stays_behind() -> None:
    wrong = ("BodyPartExamined", "PatientSex", "PatientAge", "ViewPosition")
    with quietly():
        dataset = dicom(PIXELS, **dict.fromkeys(wrong, "MUELLER HANS"))

    assert "MUELLER" not in str(kept(dataset))
    assert not set(wrong) & set(kept(dataset))


@pytest.mark.parametrize(("age", "told"), [("089Y", "089Y"), ("090Y", "090Y"), ("104Y", "090Y")])
def test_great_ages_become_ninety(age: str, told: str) -> None:
    assert kept(dicom(PIXELS, PatientAge=age))["PatientAge"] == told


def test_unknown_private_and_nested_tags_stay_behind_and_are_named() -> None:
    dataset = dicom(PIXELS, PatientName="Müller^Hans", OtherPatientIDs="17")
    nested = Dataset()
    nested.PatientName = "Müller^Hans"
    dataset.RequestAttributesSequence = [nested]
    dataset.private_block(0x0011, "ACME", create=True).add_new(1, "LO", "Müller")

    removed = removed_tags(dataset, kept(dataset))

    assert {"PatientName", "PatientID", "RequestAttributesSequence", "private tags"} < set(removed)
    assert "Modality" not in removed
    assert "ller" not in str(kept(dataset)) + str(removed)


@pytest.mark.parametrize(
    "path", [Path(p) for p in get_charset_files("*.dcm")], ids=lambda p: p.name
)
def test_no_name_of_any_alphabet_is_kept(path: Path) -> None:
    with quietly():
        dataset = open_dicom(path.read_bytes())
        name = str(dataset.get("PatientName", ""))
        text = str(kept(dataset)) + str(removed_tags(dataset, kept(dataset)))

    assert not [
        part for part in name.replace("=", "^").split("^") if len(part) > 2 and part in text
    ]


@pytest.mark.parametrize(
    ("tags", "flagged"),
    [
        ({"Modality": "CT"}, False),
        ({"Modality": "US"}, True),
        ({"Modality": "SC"}, True),
        ({"Modality": "XA"}, True),
        ({"Modality": ""}, True),
        ({"Modality": "DX", "BurnedInAnnotation": "NO"}, False),
        ({"Modality": "DX", "BurnedInAnnotation": "YES"}, True),
        ({"Modality": "DX", "BurnedInAnnotation": "PERHAPS"}, True),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, True),
        ({"Modality": "DX", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, True),
    ],
)
def test_text_is_flagged_by_the_kind_of_picture(tags: dict[str, str], *, flagged: bool) -> None:
    assert may_show_text(dicom(PIXELS, **tags)) is flagged


@pytest.mark.parametrize(
    ("modality", "part", "flagged"),
    [
        ("CT", "CHEST", False),
        ("CT", "HEAD", True),
        ("MR", "BRAIN", True),
        ("MR", "", True),
        ("PT", "WHOLEBODY", True),
        ("CT", "KOPF", True),
        ("DX", "SKULL", False),
    ],
)
def test_a_face_is_flagged_unless_slices_are_known_to_be_below(
    modality: str, part: str, *, flagged: bool
) -> None:
    assert may_show_face(dicom(PIXELS, Modality=modality, BodyPartExamined=part)) is flagged
