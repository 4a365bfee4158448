# SPDX-License-Identifier: Apache-2.0
"""An import from a hospital's files to a dataset folder: in a stream, and again after a kill.

    OUT             the dataset, there only when all of it is
    OUT.part        the same while it grows
    OUT.steward     for the steward alone: rejected.csv (file names), removed.csv (tags that stayed
                    behind), duplicates.csv (rows that are alike in two splits), state.json

Guarantees: work is done in one fixed order and marked every `STRETCH` files, so an import that was
killed and started again writes the same bytes as one that was not. Another source, table, policy
or secret is not taken for the same import. File names go into rejected.csv and nowhere else.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias, final

import msgspec

from consilium import __version__
from consilium.adapters.dataset_summary import (
    Ending,
    ImportSummary,
    Row,
    close,
    counted,
    csv_line,
    summarise,
)
from consilium.adapters.dataset_writer import DatasetWriter
from consilium.adapters.pseudonym_key import pseudonymiser_of
from consilium.adapters.whole_files import write_whole
from consilium.data.dataset_folder import is_dataset, read_description
from consilium.data.deidentification import Pseudonymiser
from consilium.data.manifest import Columns, Manifest, from_folders, ordered, read_manifest
from consilium.data.quiet import quietly
from consilium.data.reading import FileReader, Policy, Reading, Record, Work
from consilium.data.samples import RejectedFile
from consilium.data.source_files import Source
from consilium.data.tables import SUFFIXES, TableReader, table_classes
from consilium.errors import DataError
from consilium.wire import digest

Watch: TypeAlias = Callable[[int, int, int], None]  # files done, files in all, files rejected

STRETCH: Final = 1024  # files between two marks
_STATE: Final = "state.json"
_REJECTED: Final = "rejected.csv"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImportJob:
    """What is imported, and how.

    Attributes:
        source: A folder, a zip, or a table (.csv, .parquet).
        out: The dataset.
        policy: What is decided about all files alike; its classes may be empty, to be found.
        columns: What the columns of `labels` mean.
        key: The file of the site's secret.
        labels: A table, None where folders name the classes.
        label_maps: A folder of NIfTI of the same names, where label maps are learnt.
    """

    source: Path
    out: Path
    policy: Policy
    columns: Columns
    key: Path
    labels: Path | None = None
    label_maps: Path | None = None

    @property
    def part(self) -> Path:
        """Where the dataset grows."""
        return self.out.with_name(f"{self.out.name}.part")

    @property
    def steward(self) -> Path:
        """Where the report lies that only the steward sees."""
        return self.out.with_name(f"{self.out.name}.steward")


class _Reader(Protocol):
    def read(self, work: Work) -> Reading:
        """Returns the records of one piece of work, or raises `RejectedFile`."""


@final
@dataclass(slots=True)
class _State:
    """How far an import is; a mark of it is on disk."""

    job: str
    done: int = 0
    marks: dict[str, int] = field(default_factory=dict)
    report: int = 0  # bytes of rejected.csv
    rejected: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)


def run_import(
    job: ImportJob, *, dry_run: bool = False, watch: Watch | None = None
) -> ImportSummary:
    """Returns what was imported; begins, goes on, or finds that it was done before.

    Args:
        job: What, and how.
        dry_run: Read everything and write the steward's report, but no dataset.
        watch: Called after every file.

    Raises:
        DataError: The source, the table or the secret cannot be used, another import is under way
            or finished in this place, or a patient would be in two splits.
    """
    if job.out.resolve().is_relative_to(job.source.resolve()):
        raise DataError(
            f"found --out {job.out.name} inside the source; expected it elsewhere, because it "
            "would be read as part of the source; choose another --out"
        )
    key = pseudonymiser_of(job.key, outside=job.out)
    with ExitStack() as opened:
        opened.enter_context(quietly())
        reader, work, policy, features = _prepared(job, key, opened)
        job = replace(job, policy=policy)
        name = _digest(job, key, work)
        if job.out.exists():
            return _done_before(job, name)
        job.steward.mkdir(parents=True, exist_ok=True, mode=0o700)
        if dry_run:
            return _Run(job, _State(job=name), watch or _nobody).dry(reader, work)
        state = _resumed(job, name)
        _Run(job, state, watch or _nobody).all(reader, work, features)
        ending = Ending(
            part=job.part,
            out=job.out,
            steward=job.steward,
            policy=policy,
            features=features,
            label_maps=job.label_maps is not None,
            rejected=state.rejected,
            removed=state.removed,
        )
        return close(ending)


# -- Before ---------------------------------------------------------------------------


def _prepared(
    job: ImportJob, key: Pseudonymiser, opened: ExitStack
) -> tuple[_Reader, tuple[Work, ...], Policy, tuple[str, ...]]:
    if job.source.suffix.lower() in SUFFIXES and job.source.is_file():
        if job.columns.label is None:
            raise DataError("found a table without a label column; expected one; name it")
        classes = job.policy.classes or table_classes(job.source, job.columns.label)
        policy = replace(job.policy, classes=_at_least_two(classes))
        table = TableReader(job.source, job.columns, policy, key)
        return table, table.work(), policy, table.features
    source = opened.enter_context(Source(job.source))
    maps = None if job.label_maps is None else opened.enter_context(Source(job.label_maps))
    manifest = None if job.labels is None else read_manifest(job.labels, job.columns)
    policy = replace(job.policy, classes=_classes(job, manifest, source))
    reader = FileReader(source, manifest, policy, key, maps)
    others = [path for path in (job.labels, job.label_maps) if path is not None]
    root = job.source if job.source.is_dir() else None
    return reader, reader.work(leave_out=others, root=root), policy, ()


def _classes(job: ImportJob, manifest: Manifest | None, source: Source) -> tuple[str, ...]:
    if job.policy.classes:
        known = set(job.policy.classes)
        unknown = set() if manifest is None else set(manifest.labels()) - known
        if unknown and job.label_maps is None:
            raise DataError(
                f"found {len(unknown)} labels that are none of {', '.join(job.policy.classes)}; "
                "expected those; correct the table or --classes"
            )
        return _at_least_two(job.policy.classes)
    if job.label_maps is not None:
        raise DataError("found label maps without class names; expected --classes background,...")
    if manifest is not None:
        return _at_least_two(manifest.labels())
    found = {from_folders(file.name).label for file in source.files()}
    return _at_least_two(ordered({label for label in found if label is not None}))


def _at_least_two(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise DataError(
            f"found {len(classes)} classes; expected two or more different ones; give --labels "
            "with a label column, a folder for each class, or --classes"
        )
    return classes


def _digest(job: ImportJob, key: Pseudonymiser, work: Sequence[Work]) -> str:
    """Returns what tells this import from every other: files, table, policy and secret."""
    listing = hashlib.sha256()
    for files in work:
        for file in files:
            name = file.name.encode("utf-8", "surrogateescape")
            listing.update(b"%d %d %d " % (len(name), file.size, file.stamp) + name)
    table = b"" if job.labels is None else job.labels.read_bytes()
    whole = job.source.read_bytes() if job.source.suffix.lower() in SUFFIXES else b""
    settings = msgspec.json.encode((__version__, job.columns, job.policy, str(job.label_maps)))
    return digest(
        "import", listing.digest(), table, whole, settings, key.fingerprint().encode()
    ).hex()


def _done_before(job: ImportJob, name: str) -> ImportSummary:
    state = _load(job)
    if state is None or state.job != name or not is_dataset(job.out):
        raise DataError(
            f"found a dataset at {job.out} that this import did not make; expected a new place; "
            "choose another --out"
        )
    return summarise(read_description(job.out), state.rejected, state.removed)


def _resumed(job: ImportJob, name: str) -> _State:
    state = _load(job)
    if state is None:
        return _State(job=name)
    if state.job != name:
        raise DataError(
            f"found another import begun at {job.out}: the files, the table, the options or the "
            "secret were others; expected the same; choose another --out, or remove "
            f"{job.part.name} and {job.steward.name} to begin anew"
        )
    return state if job.part.is_dir() else _State(job=name)


def _load(job: ImportJob) -> _State | None:
    try:
        return msgspec.json.decode((job.steward / _STATE).read_bytes(), type=_State)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError:
        raise DataError(
            f"{job.steward.name}/{_STATE} cannot be read; remove {job.part.name} and "
            f"{job.steward.name} to begin anew"
        ) from None


# -- While ----------------------------------------------------------------------------


@final
class _Run:
    """One pass over the work that is left."""

    def __init__(self, job: ImportJob, state: _State, watch: Watch) -> None:
        self._job = job
        self._state = state
        self._watch = watch

    def all(self, reader: _Reader, work: Sequence[Work], features: Sequence[str]) -> None:
        """Does what is left and marks it, stretch by stretch."""
        policy, state = self._job.policy, self._state
        table = bool(features)
        with (
            DatasetWriter(
                self._job.part,
                (len(features),) if table else policy.rendering.shape,
                "float32" if table else "uint8",
                label_maps=self._job.label_maps is not None,
                marks=state.marks,
            ) as writer,
            _Rejections(self._job.steward / _REJECTED, state.report) as rejections,
        ):
            self._save()
            while state.done < len(work):
                stretch = work[state.done : state.done + STRETCH]
                for one in stretch:
                    self._one(reader, one, rejections, writer)
                    state.done += 1
                    self._watch(state.done, len(work), sum(state.rejected.values()))
                state.marks, state.report = writer.mark(), rejections.mark()
                self._save()
            writer.finish()

    def _save(self) -> None:
        write_whole(self._job.steward / _STATE, msgspec.json.encode(self._state))

    def dry(self, reader: _Reader, work: Sequence[Work]) -> ImportSummary:
        """Returns what an import would bring."""
        rows: list[Row] = []
        with _Rejections(self._job.steward / _REJECTED, 0) as rejections:
            for done, one in enumerate(work, start=1):
                records = self._one(reader, one, rejections, None)
                rows += [Row(one.split, one.pseudonym, one.label) for one in records]
                self._watch(done, len(work), sum(self._state.rejected.values()))
        return ImportSummary(
            classes=self._job.policy.classes,
            counts=counted(rows, len(self._job.policy.classes)),
            rejected=self._state.rejected,
            removed=self._state.removed,
            note="dry run: nothing was imported",
        )

    def _one(
        self, reader: _Reader, work: Work, rejections: "_Rejections", writer: DatasetWriter | None
    ) -> tuple[Record, ...]:
        try:
            reading = reader.read(work)
        except RejectedFile as error:
            for file in work:
                rejections.add(file.name, error)
            _add(self._state.rejected, [error.reason] * len(work))
            return ()
        if writer is not None:
            for record in reading.records:
                writer.append(record)
        _add(self._state.removed, reading.removed)
        return reading.records


@final
class _Rejections:
    """The list of files that were left out: the only place that names them."""

    def __init__(self, path: Path, mark: int) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._file = open(handle, "r+b")  # noqa: SIM115 - closed by __exit__
        self._file.truncate(mark)
        self._file.seek(mark)
        if not mark:
            self._file.write(csv_line(("file", "reason", "detail")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, name: str, error: RejectedFile) -> None:
        """Names one file and why it was left out."""
        self._file.write(csv_line((name, error.reason, error.detail)))

    def mark(self) -> int:
        """Returns the bytes of the list, after they are on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()


def _add(counts: dict[str, int], found: Sequence[str]) -> None:
    for name in found:
        counts[name] = counts.get(name, 0) + 1


def _nobody(done: int, total: int, rejected: int) -> None:
    """The progress that nobody watches."""
