# SPDX-License-Identifier: Apache-2.0
"""From what a file holds to `Splits`: the privacy unit is settled and images get their size.

Guarantees: with unit "patient" every identifier comes from the source. With unit "record" each
image stands for itself, and exact copies of one image in a split are one unit, so repeating a
file changes neither the number of units nor what accounting makes of it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from consilium.data.duplicates import contents
from consilium.data.records import SPLITS, Inputs, Labels, Records, SplitName, Splits, Unit
from consilium.data.resizing import shrink
from consilium.errors import DataError


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawPart:
    """One split as a file holds it; `Records` checks it later.

    Attributes:
        inputs: Images, shape (n, channels, height, width), or a table, shape (n, features).
        labels: Shape (n,), int64; or label maps, shape (n, height, width), uint8.
        patients: Shape (n,); None where the source names no patient.
        sites: Shape (n,); None where the source names no institution.
        soft: Shape (n, classes), float32; None where the source has no soft labels.
    """

    inputs: Inputs = field(repr=False)
    labels: Labels = field(repr=False)
    patients: NDArray[np.str_] | None = field(default=None, repr=False)
    sites: NDArray[np.str_] | None = field(default=None, repr=False)
    soft: NDArray[np.float32] | None = field(default=None, repr=False)


Parts: TypeAlias = Mapping[SplitName, RawPart]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Raw:
    """All of a source before the privacy unit is settled.

    Attributes:
        parts: The three splits.
        classes: The name of each class.
        origin: One line: what it is, and what the reader moved or left out.
    """

    parts: Parts
    classes: tuple[str, ...]
    origin: str


def prepare(raw: Raw, *, image_size: int | None, unit: Unit) -> Splits:
    """Returns the source as `Splits`, protected by `unit`, with images of `image_size` pixels.

    Args:
        raw: What a reader found.
        image_size: Pixels on a side, None to keep the size; a table has none.
        unit: What the guarantee will be about.

    Raises:
        DataError: `unit` is "patient" and the source names none, the size does not fit, or the
            records are not as `Records` and `Splits` expect.
    """
    records: dict[SplitName, Records] = {}
    for name in SPLITS:
        part = raw.parts[name]
        if part.labels.ndim > 1 and image_size is not None:
            raise DataError(
                f"found image_size {image_size} for a source with label maps; expected none, as "
                "the mean of two classes is no class; remove image_size"
            )
        patients = record_ids(part.inputs, name) if unit == "record" else _patients(part)
        records[name] = Records(
            inputs=_sized(part.inputs, image_size),
            labels=part.labels,
            patients=patients,
            sites=part.sites,
            soft=part.soft,
        )
    return Splits(
        train=records["train"],
        validation=records["validation"],
        test=records["test"],
        classes=raw.classes,
        unit=unit,
        origin=raw.origin + (_record_note(records.values()) if unit == "record" else ""),
    )


def _record_note(parts: Iterable[Records]) -> str:
    copies = sum(len(part) - part.patient_count for part in parts)
    note = "; the privacy unit is the single record"
    return f"{note}; {copies} exact copies count as the record that they copy" if copies else note


def record_ids(inputs: Inputs, prefix: str) -> NDArray[np.str_]:
    """Returns an identifier for each record, equal where the inputs are equal byte for byte."""
    first: dict[bytes, int] = {}
    rows = [first.setdefault(content, row) for row, content in enumerate(contents(inputs))]
    return np.array([f"{prefix}-record-{row + 1:06d}" for row in rows], np.str_)


def _patients(part: RawPart) -> NDArray[np.str_]:
    if part.patients is None:
        raise DataError(
            "found no patient identifiers in this source; expected one for each record because "
            'the privacy unit is the patient; set privacy_unit = "record" (the guarantee is then '
            "per image, not per patient) or add the identifiers"
        )
    return part.patients


def _sized(inputs: Inputs, image_size: int | None) -> Inputs:
    if image_size is None:
        return inputs
    if inputs.ndim != 4 or inputs.dtype != np.uint8:
        raise DataError(
            f"found image_size {image_size} for a source without images; expected none; remove "
            "image_size"
        )
    return shrink(inputs.astype(np.uint8, copy=False), image_size)
