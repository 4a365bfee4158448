# SPDX-License-Identifier: Apache-2.0
"""The end of an import: what came in, counted, compared and described.

Guarantees: the description holds counts, settings and versions; no name, no path, no time of day,
so that the same import gives the same bytes. A dataset appears under its name when all of it is on
disk. Not here: what was left out by name, which `adapters.importing` writes for the steward.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal, NamedTuple, final

import msgspec

from consilium import __version__
from consilium.adapters.whole_files import sync_folder, write_whole
from consilium.data.dataset_folder import (
    DESCRIPTION,
    DICTIONARY,
    RECORDS,
    Count,
    Description,
    read_inputs,
    sha256_of,
)
from consilium.data.deidentification import KEPT
from consilium.data.duplicates import DuplicateReport, find_copies
from consilium.data.reading import Policy
from consilium.data.records import SPLITS, SplitName
from consilium.errors import DataError

_LIBRARIES: Final = ("numpy", "pillow", "pydicom", "nibabel")
_DUPLICATES: Final = "duplicates.csv"
_REMOVED: Final = "removed.csv"


class Row(NamedTuple):
    """What is counted of a record."""

    split: SplitName
    pseudonym: str
    label: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportSummary:
    """What an import brought; counts alone.

    Attributes:
        classes: By their numbers.
        counts: Of each split.
        rejected: How many files were left out, by reason.
        removed: How many objects held a tag that stayed behind, by tag.
        copies: Records that are alike in two splits, in one line.
        note: What still stands in the way of using it, "" if nothing.
    """

    classes: tuple[str, ...]
    counts: Mapping[SplitName, Count]
    rejected: Mapping[str, int]
    removed: Mapping[str, int]
    copies: str = ""
    note: str = ""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known when the last file was read.

    Attributes:
        part: Where the dataset grew.
        out: Where it is to be.
        steward: Where the steward's report lies.
        policy: As it was applied.
        features: Of a table, empty for pictures.
        label_maps: Whether label maps are learnt.
        rejected: By reason.
        removed: By tag.
    """

    part: Path
    out: Path
    steward: Path
    policy: Policy
    features: tuple[str, ...]
    label_maps: bool
    rejected: Mapping[str, int] = field(repr=False)
    removed: Mapping[str, int] = field(repr=False)


def close(ending: Ending) -> ImportSummary:
    """Returns the summary, after the dataset stands under its name.

    Raises:
        DataError: A patient is in two splits, or no record is left.
    """
    rows = list(_rows(ending.part / RECORDS))
    _check_patients(rows)
    counts = counted(rows, 0 if ending.label_maps else len(ending.policy.classes))
    draft = _describe(ending, counts, files={}, copies="")
    report = find_copies({split: read_inputs(ending.part, draft, split) for split in SPLITS})
    _write_report(ending, report)
    names = sorted(path.name for path in ending.part.iterdir() if path.suffix in (".npy", ".csv"))
    files = {name: sha256_of(ending.part / name) for name in names}
    said = _describe(ending, counts, files=files, copies=report.summary())
    write_whole(ending.part / DICTIONARY, dictionary(said).encode())
    write_whole(ending.part / DESCRIPTION, msgspec.json.format(msgspec.json.encode(said)) + b"\n")
    ending.part.rename(ending.out)
    sync_folder(ending.out.parent)
    return summarise(said, ending.rejected, ending.removed)


def summarise(
    said: Description, rejected: Mapping[str, int], removed: Mapping[str, int]
) -> ImportSummary:
    """Returns the summary of a finished dataset."""
    few = [split for split in SPLITS if said.counts[split].patients < 2]
    note = (
        f"{', '.join(few)} holds fewer than two patients; a project needs two in each split: add "
        "patients, state the column split, or choose other shares"
    )
    return ImportSummary(
        classes=said.classes,
        counts=said.counts,
        rejected=dict(rejected),
        removed=dict(removed),
        copies=said.copies_between_splits,
        note=note if few else "",
    )


def counted(rows: Iterable[Row], classes: int) -> dict[SplitName, Count]:
    """Returns records, patients and classes of each split."""
    patients: dict[SplitName, set[str]] = {split: set() for split in SPLITS}
    labels: dict[SplitName, Counter[int]] = {split: Counter() for split in SPLITS}
    for row in rows:
        patients[row.split].add(row.pseudonym)
        labels[row.split][row.label] += 1
    return {
        split: Count(
            records=labels[split].total(),
            patients=len(patients[split]),
            of_each_class=tuple(labels[split][k] for k in range(classes)),
        )
        for split in SPLITS
    }


def csv_line(values: Sequence[object]) -> bytes:
    """Returns a line of CSV; bytes that are no text, as file names may hold, stay visible.

    A value that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    plain = [f"'{value}" if str(value)[:1] in tuple("=+-@\t\r") else value for value in values]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(plain)
    return text.getvalue().encode("utf-8", "backslashreplace")


# -- Parts ----------------------------------------------------------------------------


def _rows(path: Path) -> Iterable[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield Row(_split(row["split"]), row["pseudonym"], int(row["label"]))


def _split(word: str) -> SplitName:
    return next(split for split in SPLITS if split == word)


def _check_patients(rows: Sequence[Row]) -> None:
    if not rows:
        raise DataError(
            "found no record that could be imported; expected some; the steward's report names "
            "every file and why it was left out"
        )
    splits: dict[str, set[SplitName]] = {}
    for row in rows:
        splits.setdefault(row.pseudonym, set()).add(row.split)
    torn = sum(len(found) > 1 for found in splits.values())
    if torn:
        raise DataError(
            f"found {torn} patients in more than one split; expected each in one; correct the "
            "column split or the folders, or leave the division to the pseudonyms"
        )


def _write_report(ending: Ending, report: DuplicateReport) -> None:
    lines = [csv_line(("first split", "first row", "second split", "second row", "copy"))]
    for overlap in report.overlaps:
        for kind, pairs in (("exact", overlap.exact), ("near", overlap.near)):
            lines += [
                csv_line((overlap.first, one, overlap.second, two, kind))
                for one, two in pairs.tolist()
            ]
    write_whole(ending.steward / _DUPLICATES, b"".join(lines))
    removed = sorted(ending.removed.items())
    write_whole(
        ending.steward / _REMOVED,
        b"".join([csv_line(("tag", "objects")), *(csv_line(line) for line in removed)]),
    )


def _describe(
    ending: Ending, counts: Mapping[SplitName, Count], *, files: Mapping[str, str], copies: str
) -> Description:
    policy, table = ending.policy, bool(ending.features)
    task: Literal["classification", "segmentation"] = (
        "segmentation" if ending.label_maps else "classification"
    )
    return Description(
        task=task,
        unit=policy.unit,
        classes=policy.classes,
        features=ending.features,
        shape=(len(ending.features),) if table else policy.rendering.shape,
        dtype="float32" if table else "uint8",
        counts=counts,
        preprocessing={"table": "none: values as they are"} if table else policy.rendering.words(),
        deidentification=_rules(policy),
        copies_between_splits=copies,
        software={"consilium": __version__} | {name: version(name) for name in _LIBRARIES},
        files=files,
    )


def _rules(policy: Policy) -> dict[str, str]:
    said = {
        "no burned-in text": policy.no_burned_in_text,
        "no face can be rendered": policy.no_faces,
    }
    return {
        "tags kept": " ".join(KEPT),
        "patient": "HMAC-SHA-256 under the site's secret, 128 bits",
        "dates": {
            "drop": "left out",
            "shift": "moved back by 1 to 3650 days, the same for all of a patient",
        }[policy.dates],
        "confirmed by the steward": ", ".join(w for w in said if said[w]) or "nothing",
        "not checked": "pictures without a DICOM header: text and faces in them",
    }


def dictionary(said: Description) -> str:
    """Returns the data dictionary for people, in Markdown."""
    lines = ["# Data dictionary", "", f"Task: {said.task}. Privacy unit: {said.unit}.", ""]
    lines += ["| class | name |", "|---|---|"]
    lines += [f"| {k} | {_cell(name)} |" for k, name in enumerate(said.classes)]
    lines += ["", "| split | records | patients | records of each class |", "|---|---|---|---|"]
    for split in SPLITS:
        one = said.counts[split]
        each = ", ".join(map(str, one.of_each_class)) or "-"
        lines.append(f"| {split} | {one.records} | {one.patients} | {each} |")
    lines += ["", "| column or array | meaning |", "|---|---|"]
    lines += [f"| {name} | {meaning} |" for name, meaning in _meanings(said).items()]
    lines += ["", "| preprocessing | rule |", "|---|---|"]
    lines += [f"| {_cell(name)} | {_cell(rule)} |" for name, rule in said.preprocessing.items()]
    lines += ["", "| de-identification | rule |", "|---|---|"]
    lines += [f"| {name} | {_cell(rule)} |" for name, rule in said.deidentification.items()]
    lines += ["", f"Copies between splits: {said.copies_between_splits}.", ""]
    return "\n".join(lines)


def _meanings(said: Description) -> dict[str, str]:
    shape = " x ".join(map(str, said.shape))
    unit = "features " + ", ".join(map(_cell, said.features)) if said.features else "grey levels"
    meanings = {
        "`<split>_inputs.npy`": f"one record a row, {shape}, {said.dtype}, {unit}",
        "records.csv: row": "the place in the arrays of its split, from 0",
        "records.csv: pseudonym": "the patient, under the site's secret",
        "records.csv: label": "the number of the class",
        "records.csv: site": "the institution, empty where unknown",
        "records.csv: kind": "what it was read from: image, dicom, nifti or table",
    }
    if said.task == "segmentation":
        meanings["`<split>_label_maps.npy`"] = "the class of each pixel, uint8"
    return meanings


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
