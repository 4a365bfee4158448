# SPDX-License-Identifier: Apache-2.0
"""What pixels may show of a person although no tag says it: text drawn in, and a face.

A header cannot rule either out, so these are warnings from the kind of picture alone: the steward
looks, and says so, or the file stays behind.

    risk    flagged
    text    ultrasound, secondary capture, angiography and other kinds that scanners draw into;
            BurnedInAnnotation YES; any object made by scanning or photographing a screen
    face    CT, MR and PET of the head, or of a body part that is not stated or not a known one
            below the neck: a face can be rendered from such slices

Not here: finding the text or the face, which no rule does surely, and pictures without a modality
(PNG, NIfTI), of which only the steward knows what they show.

Source: DICOM PS3.15 2024, E.3.1 Clean Pixel Data, E.3.2 Clean Recognizable Visual Features.
"""

from typing import Final

from pydicom import Dataset


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_DRAWN_INTO: Final = _words("US BDUS IVUS SC XA RF ES GM XC OT DG TG LP")
_SECONDARY_CAPTURE: Final = "1.2.840.10008.5.1.4.1.1.7"
_SLICED: Final = frozenset(["CT", "MR", "PT", "NM"])
_BELOW_THE_NECK: Final = _words(
    "ABDOMEN ABDOMENPELVIS ANKLE AORTA ARM BLADDER BREAST CHEST CHESTABDOMEN CHESTABDPELVIS "
    "CLAVICLE COCCYX COLON ELBOW EXTREMITY FEMUR FINGER FOOT FOREARM HAND HEART HIP HUMERUS "
    "KIDNEY KNEE LEG LIVER LSPINE LUNG PANCREAS PELVIS PROSTATE RIB SCAPULA SHOULDER SPLEEN "
    "SSPINE STERNUM STOMACH THIGH THORAX TLSPINE TOE TSPINE UTERUS WRIST"
)


def may_show_text(dataset: Dataset) -> bool:
    """Returns whether text may be burned into the pixels."""
    said = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    kind = str(dataset.get("SOPClassUID") or "")
    return (
        said not in ("", "NO")
        or _word(dataset, "Modality") in (*_DRAWN_INTO, "")
        or kind.startswith(_SECONDARY_CAPTURE)
        or bool(dataset.get("ConversionType") or dataset.get("OverlayData"))
    )


def may_show_face(dataset: Dataset) -> bool:
    """Returns whether a face could be rendered from these slices."""
    if _word(dataset, "Modality") not in _SLICED:
        return False
    return _word(dataset, "BodyPartExamined") not in _BELOW_THE_NECK


def _word(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip().upper()
