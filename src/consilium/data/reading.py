# SPDX-License-Identifier: Apache-2.0
"""From a file of a hospital to de-identified records, or to the reason why it is left out.

    file            read as
    .jpg ... .ppm   a picture (`image_files`)
    .nii, .nii.gz   a volume (`nifti_files`), with its label map of the same name
    the rest        DICOM where it has that header (`dicom_files`), with a depth as whole series

Guarantees: a `Record` holds no identifier, no file name and no date but a shifted one. Whatever a
library raises on a damaged or hostile file becomes a `RejectedFile`; nothing stops the import.
Not here: where records go (`adapters.importing`).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from consilium.data.deidentification import Dates, Pseudonymiser, kept_tags, removed_tags
from consilium.data.dicom_files import looks_like_dicom, open_dicom, sample_of
from consilium.data.dicom_risks import may_show_face, may_show_text
from consilium.data.dicom_series import volume_of
from consilium.data.image_files import FORMATS, read_image, suffix_of
from consilium.data.manifest import Entry, Manifest, from_folders
from consilium.data.nifti_files import SUFFIXES, read_nifti
from consilium.data.quiet import quietly
from consilium.data.records import SplitName, Unit
from consilium.data.rendering import Rendering
from consilium.data.samples import RejectedFile, Sample, SourceKind
from consilium.data.source_files import Source, SourceFile
from consilium.errors import ConfigError
from consilium.wire import digest

Work: TypeAlias = tuple[SourceFile, ...]  # one file, or the files of one series

_UNSTATED: Final = Entry()


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One row of a dataset.

    Attributes:
        inputs: uint8 of the rendering's shape, or float32 features.
        label: From 0.
        label_map: uint8, shape ([depth,] height, width); None where none is learnt.
        pseudonym: Of the patient.
        split: Where the patient is.
        site: The institution, "" where unknown.
        kind: What it was read from.
        tags: The kept tags of DICOM.
    """

    inputs: NDArray[np.uint8] | NDArray[np.float32] = field(repr=False)
    label: int
    label_map: NDArray[np.uint8] | None = field(repr=False)
    pseudonym: str
    split: SplitName
    site: str
    kind: SourceKind
    tags: Mapping[str, str]


@final
@dataclass(frozen=True, slots=True)
class Reading:
    """What came of one piece of work: its records, and the names of tags that stayed behind."""

    records: tuple[Record, ...]
    removed: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What is decided about all files alike.

    Attributes:
        rendering: Size, colour, window.
        classes: In the order of their numbers; empty until they are found.
        unit: "record" lets every file be a patient of its own.
        dates: What becomes of dates.
        no_burned_in_text: The steward confirmed that no picture shows text about a person.
        no_faces: The steward confirmed that no face can be rendered.
        validation_share: Of the patients, where no split is stated.
        test_share: As above.
    """

    rendering: Rendering
    classes: tuple[str, ...] = ()
    unit: Unit = "patient"
    dates: Dates = "drop"
    no_burned_in_text: bool = False
    no_faces: bool = False
    validation_share: float = 0.15
    test_share: float = 0.15

    def __post_init__(self) -> None:
        shares = (self.validation_share, self.test_share)
        if min(shares) < 0 or not sum(shares) < 1:
            raise ConfigError(f"{shares=}; expected both at least 0 and less than 1 together")


def split_of(pseudonym: str, policy: Policy) -> SplitName:
    """Returns the split of a patient: by the pseudonym alone, so that later imports agree.

    Pseudonyms are keyed, so nobody outside can tell from an identifier where a patient is.
    """
    drawn = int.from_bytes(digest("split-by-pseudonym", pseudonym)[:8], "big") / 2**64
    if drawn < policy.test_share:
        return "test"
    return "validation" if drawn < policy.test_share + policy.validation_share else "train"


@final
class FileReader:
    """Reads the files of a source under one policy."""

    def __init__(
        self,
        source: Source,
        manifest: Manifest | None,
        policy: Policy,
        pseudonymiser: Pseudonymiser,
        label_maps: Source | None = None,
    ) -> None:
        self._source = source
        self._manifest = manifest
        self._policy = policy
        self._pseudonymiser = pseudonymiser
        self._maps = label_maps
        self._map_files = {} if label_maps is None else {f.name: f for f in label_maps.files()}
        self._bare: Mapping[str, int] = {}

    def work(self, *, leave_out: Sequence[Path] = (), root: Path | None = None) -> tuple[Work, ...]:
        """Returns what there is to read, in order; series together where volumes are learnt.

        Args:
            leave_out: Files and folders inside `root` that are not pictures: tables, label maps.
            root: The source's folder.
        """
        gone = [_inside(path, root) for path in leave_out]
        files = [
            file
            for file in self._source.files()
            if not any(name and (file.name + "/").startswith(name + "/") for name in gone)
        ]
        counts: dict[str, int] = defaultdict(int)
        for file in files:
            counts[file.name.rpartition("/")[2]] += 1
        self._bare = counts
        if self._policy.rendering.depth is None:
            return tuple((file,) for file in files)
        return self._by_series(files)

    def read(self, work: Work) -> Reading:
        """Returns the records of one piece of work.

        Raises:
            RejectedFile: It is left out, and why.
        """
        try:
            return self._read(work)
        except RejectedFile:
            raise
        except MemoryError:
            raise RejectedFile("too large", "memory ran out") from None
        except Exception as error:  # noqa: BLE001 - libraries raise anything on hostile files
            raise RejectedFile("damaged", f"{type(error).__name__}: {error}") from None

    # -- Kinds ------------------------------------------------------------------------

    def _read(self, work: Work) -> Reading:
        name = work[0].name
        if suffix_of(name) in FORMATS:
            entry = self._entry(name, None)
            grey = self._policy.rendering.channels == 1
            sample = read_image(self._source.read(work[0]), name, in_grey=grey)
            return self._finished(sample, entry, name)
        if name.lower().endswith(SUFFIXES):
            entry = self._entry(name, None)
            labels = self._labels_of(name)
            sample = read_nifti(self._source.read(work[0]), labels=labels)
            return self._finished(sample, entry, name)
        return self._read_dicom(work)

    def _read_dicom(self, work: Work) -> Reading:
        opened = [self._opened(file) for file in work]
        first, name = opened[0], work[0].name
        entry = self._entry(name, first)
        sample = volume_of(opened) if self._policy.rendering.depth else sample_of(first)
        for dataset in opened:
            self._check_risks(dataset)
        with quietly():
            reading = self._finished(sample, entry, name, first)
            kept = reading.records[0].tags
            return Reading(reading.records, tuple(removed_tags(first, kept)))

    def _opened(self, file: SourceFile) -> Dataset:
        data = self._source.read(file)
        known = file.name.lower().endswith((".dcm", ".dicom", ".ima"))
        if not known and not looks_like_dicom(data):
            raise RejectedFile("not a format that is read", suffix_of(file.name))
        return open_dicom(data)

    def _check_risks(self, dataset: Dataset) -> None:
        with quietly():
            text, face = may_show_text(dataset), may_show_face(dataset)
        if text and not self._policy.no_burned_in_text:
            raise RejectedFile("burned-in text not ruled out", "look, then confirm")
        if face and not self._policy.no_faces:
            raise RejectedFile("face not ruled out", "look, then confirm")

    def _labels_of(self, name: str) -> bytes | None:
        if self._maps is None:
            return None
        if name not in self._map_files:
            raise RejectedFile("no label", "no label map of the same name")
        return self._maps.read(self._map_files[name])

    # -- What is said of it -----------------------------------------------------------

    def _entry(self, name: str, dataset: Dataset | None) -> Entry:
        if self._manifest is None:
            return from_folders(name)
        match = self._manifest.columns.match
        if match != "file":
            value = None if dataset is None else str(dataset.get(match) or "").strip()
            return self._manifest.entries.get(value or "", _UNSTATED)
        found = self._manifest.entries.get(name)
        if found is not None:
            return found
        bare = name.rpartition("/")[2]
        if bare in self._manifest.entries and self._bare[bare] > 1:
            raise RejectedFile("ambiguous name", f"{self._bare[bare]} files are called so")
        return self._manifest.entries.get(bare, _UNSTATED)

    def _patient(self, sample: Sample, entry: Entry, name: str) -> str:
        if self._policy.unit == "record":
            return f"file {name}"
        stated = self._manifest is not None and self._manifest.columns.patient is not None
        patient = entry.patient if stated else sample.patient
        if patient is None:
            raise RejectedFile("no patient identifier", "never guessed")
        return patient

    def _label(self, entry: Entry) -> int:
        if self._maps is not None:
            return 0
        if entry.label is None or entry.label not in self._policy.classes:
            raise RejectedFile("no label", "the table or the folder states none that is a class")
        return self._policy.classes.index(entry.label)

    def _finished(
        self, sample: Sample, entry: Entry, name: str, dataset: Dataset | None = None
    ) -> Reading:
        label, patient = self._label(entry), self._patient(sample, entry, name)
        if self._maps is not None and sample.label_map is None:
            raise RejectedFile("no label", "label maps are read for NIfTI")
        pseudonym = self._pseudonymiser.pseudonym(patient)
        dates = self._policy.dates
        tags = {} if dataset is None else kept_tags(dataset, self._pseudonymiser, patient, dates)
        made = tuple(
            Record(
                inputs=inputs,
                label=label,
                label_map=label_map,
                pseudonym=pseudonym,
                split=entry.split or split_of(pseudonym, self._policy),
                site=entry.site,
                kind=sample.kind,
                tags=tags,
            )
            for inputs, label_map in self._checked(sample)
        )
        if self._policy.unit == "record" and len(made) > 1:
            raise RejectedFile("no patient identifier", f"{len(made)} records of one file")
        return Reading(made)

    def _checked(
        self, sample: Sample
    ) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]]:
        classes = len(self._policy.classes)
        if sample.label_map is not None and int(sample.label_map.max()) >= classes:
            raise RejectedFile("label map does not fit", f"a value that is not below {classes}")
        return self._policy.rendering.records(sample)

    def _by_series(self, files: Sequence[SourceFile]) -> tuple[Work, ...]:
        """Returns DICOM files of one SeriesInstanceUID together, all else alone."""
        series: dict[str, list[SourceFile]] = defaultdict(list)
        for file in files:
            series[self._series(file) or f"alone {file.name}"].append(file)
        return tuple(tuple(found) for found in series.values())

    def _series(self, file: SourceFile) -> str:
        if suffix_of(file.name) in (*FORMATS, ".nii", ".gz"):
            return ""
        try:
            data = self._source.read(file)
            header = open_dicom(data, header_only=True) if looks_like_dicom(data) else Dataset()
            with quietly():
                return f"{header.get('SeriesInstanceUID') or ''}"
        except Exception:  # noqa: BLE001 - it is refused by name when its turn comes
            return ""


def _inside(path: Path, root: Path | None) -> str:
    """Returns the name that `path` has in the source at `root`, "" where it is elsewhere."""
    if root is None or not path.resolve().is_relative_to(root.resolve()):
        return ""
    return path.resolve().relative_to(root.resolve()).as_posix()
