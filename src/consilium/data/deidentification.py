# SPDX-License-Identifier: Apache-2.0
"""What of a DICOM object may go on: pixels, a pseudonym, and the tags of a keep-list.

Everything that is not listed stays behind, known or unknown, private or nested: a list of what to
remove would miss the next vendor's tag. A listed value goes on only if it has the listed form (a
defined term, a number, an age), so that a name typed into the wrong field stays behind too.

    kept                                       PS3.15 table E.1-1, and why it is kept
    Modality, BodyPartExamined, Laterality,    not in the table (no identity); defined terms only
    ImageLaterality, ViewPosition,
    PatientPosition
    PatientSex, PatientAge                     Z and X; kept as in the option Retain Patient
                                               Characteristics; ages above 89 become 90
    StudyDate, AcquisitionDate                 Z and X/Z; dropped, or shifted as in the option
                                               Retain Longitudinal Temporal Information with
                                               Modified Dates
    Rows, Columns, NumberOfFrames,             not in the table; numbers only
    BitsStored, PixelSpacing, SliceThickness,
    SpacingBetweenSlices, RescaleSlope,
    RescaleIntercept, WindowCenter,
    WindowWidth, KVP, MagneticFieldStrength,
    RepetitionTime, EchoTime
    PatientID                                  Z; becomes an HMAC-SHA-256 under the site's secret

Threat model: a reader of the dataset who does not have the site's secret learns neither the
identifier nor the date of an examination, and cannot test a guess. Who has the secret can.
Not here: what is drawn into the pixels (`dicom_risks`), and rare combinations of kept values.

Source: DICOM PS3.15 2024, annex E, Basic Application Level Confidentiality Profile.
"""

import hmac
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache, lru_cache
from typing import Final, Literal, TypeAlias, final

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from consilium.wire import frame

Dates: TypeAlias = Literal["drop", "shift"]

KEY_BYTES: Final = 32
_PSEUDONYM: Final = "consilium/pseudonym/v1"
_SHIFT: Final = "consilium/date-shift/v1"
_MOST_DAYS: Final = 3650
_OLDEST: Final = 89  # years
_TAG_LISTS: Final = 64  # of different objects that are remembered


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MODALITIES: Final = _words(
    "AR AU BDUS BI BMD CR CT DG DX ECG EPS ES GM HC IO IVOCT IVUS KER LEN LS MG MR NM OAM "
    "OCT OP OPM OPT OPV OSS OT PT PX RF RG RTDOSE RTIMAGE SC SM SMR SR SRF TG US VA XA XC"
)
BODY_PARTS: Final = _words(
    "ABDOMEN ABDOMENPELVIS ANKLE AORTA ARM BLADDER BRAIN BREAST CHEST CHESTABDOMEN "
    "CHESTABDPELVIS CLAVICLE COCCYX COLON CSPINE ELBOW EXTREMITY EYE FEMUR FINGER FOOT "
    "FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS JAW KIDNEY KNEE LEG LIVER LSPINE LUNG "
    "NECK NECKCHEST ORBIT PANCREAS PELVIS PROSTATE RIB SCAPULA SHOULDER SKULL SPINE SPLEEN "
    "SSPINE STERNUM STOMACH THIGH THORAX TLSPINE TOE TSPINE UTERUS WHOLEBODY WRIST"
)
_TERMS: Final[Mapping[str, frozenset[str]]] = {
    "Modality": MODALITIES,
    "BodyPartExamined": BODY_PARTS,
    "Laterality": frozenset("LR"),
    "ImageLaterality": frozenset("LRUB"),
    "ViewPosition": _words("AP PA LL RL RLD LLD RLO LLO CC MLO ML LM XCCL"),
    "PatientPosition": _words("HFP HFS HFDR HFDL FFP FFS FFDR FFDL LFP LFS RFP RFS"),
    "PatientSex": frozenset("MFO"),
}
_NUMBERS: Final = _words(
    "Rows Columns NumberOfFrames BitsStored PixelSpacing SliceThickness "
    "SpacingBetweenSlices RescaleSlope RescaleIntercept WindowCenter WindowWidth KVP "
    "MagneticFieldStrength RepetitionTime EchoTime"
)
_DATES: Final = ("StudyDate", "AcquisitionDate")
_AGE: Final = re.compile(r"(\d{3})([DWMY])")

KEPT: Final = (*_TERMS, "PatientAge", *_DATES, *sorted(_NUMBERS))


@final
@dataclass(frozen=True, slots=True)
class Pseudonymiser:
    """Turns identifiers into pseudonyms under the secret of one site.

    Attributes:
        key: 32 bytes of the operating system's randomness, kept outside every dataset.
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a key of {len(self.key)} bytes; expected {KEY_BYTES}")

    def pseudonym(self, patient: str) -> str:
        """Returns 128 bits of HMAC-SHA-256 in hexadecimal: equal for equal identifiers."""
        return hmac.digest(self.key, frame(_PSEUDONYM, patient), "sha256")[:16].hex()

    def shifted(self, patient: str, day: date) -> date:
        """Returns an earlier day; the days between two dates of one patient stay as they are."""
        drawn = int.from_bytes(hmac.digest(self.key, frame(_SHIFT, patient), "sha256")[:8], "big")
        return day - timedelta(days=1 + drawn % _MOST_DAYS)

    def fingerprint(self) -> str:
        """Returns what tells two secrets apart and helps nobody to guess either."""
        return hmac.digest(self.key, frame("consilium/pseudonym-key/v1"), "sha256")[:16].hex()


def kept_tags(
    dataset: Dataset, pseudonymiser: Pseudonymiser, patient: str, dates: Dates
) -> dict[str, str]:
    """Returns the tags of the keep-list that have the listed form, as text, sorted as `KEPT`.

    Args:
        dataset: The object; it is not changed.
        pseudonymiser: Of the site.
        patient: The identifier whose dates are shifted together.
        dates: "drop", or "shift" by a number of days that is the patient's own.
    """
    kept = {keyword: _term(dataset, keyword) for keyword in _TERMS}
    kept["PatientAge"] = _age(dataset)
    for keyword in _DATES if dates == "shift" else ():
        kept[keyword] = _shifted(dataset, keyword, pseudonymiser, patient)
    kept |= {keyword: _numbers(dataset, keyword) for keyword in _NUMBERS}
    return {keyword: kept[keyword] for keyword in KEPT if kept.get(keyword)}


def removed_tags(dataset: Dataset, kept: Mapping[str, str]) -> list[str]:
    """Returns the names, never the values, of the tags that stay behind."""
    return sorted(_names(tuple(dataset.keys())) - {*kept, "PixelData"})


@lru_cache(_TAG_LISTS)
def _names(tags: tuple[BaseTag, ...]) -> frozenset[str]:
    """Returns what tags are called; objects of one scanner have the same ones."""
    return frozenset(_name(int(tag)) for tag in tags)


@cache
def _name(tag: int) -> str:
    """Returns what a tag is called; every private one the same."""
    return "private tags" if BaseTag(tag).is_private else keyword_for_tag(tag) or f"{BaseTag(tag)}"


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _term(dataset: Dataset, keyword: str) -> str:
    value = _text(dataset, keyword).upper()
    return value if value in _TERMS[keyword] else ""


def _age(dataset: Dataset) -> str:
    match = _AGE.fullmatch(_text(dataset, "PatientAge"))
    if match is None:
        return ""
    return "090Y" if match[2] == "Y" and int(match[1]) > _OLDEST else match[0]


def _shifted(dataset: Dataset, keyword: str, pseudonymiser: Pseudonymiser, patient: str) -> str:
    try:
        day = date.fromisoformat(_text(dataset, keyword))
        return f"{pseudonymiser.shifted(patient, day):%Y%m%d}"
    except (ValueError, OverflowError):
        return ""


def _numbers(dataset: Dataset, keyword: str) -> str:
    value = _decimals(dataset, keyword)
    if value is None or value == "":
        return ""
    several = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    try:
        numbers = [float(f"{one}") for one in several]
    except (TypeError, ValueError):
        return ""
    return "\\".join(f"{one:.6g}" for one in numbers) if all(map(math.isfinite, numbers)) else ""


def _decimals(dataset: Dataset, keyword: str) -> object:
    """Returns a value; of decimal strings that pydicom has not read yet their parts, as text."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    raw = dataset.get_item(tag)
    if isinstance(raw, RawDataElement) and raw.VR == "DS" and raw.value is not None:
        text = raw.value.decode("ascii", "replace").strip(" \0")
        return [part.strip() for part in text.split("\\")] if text else None
    return dataset.get(keyword)
