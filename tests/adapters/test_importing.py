# SPDX-License-Identifier: Apache-2.0
"""Tests of an import: what comes in, what is left out, what never leaks, and a kill."""

import csv
import logging
import os
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from tests.data.made import dicom, encoded, nifti, picture, saved, slices, write

import consilium
from consilium.adapters import importing
from consilium.adapters.importing import ImportJob, run_import
from consilium.adapters.pseudonym_key import pseudonymiser_of
from consilium.data.dataset_folder import is_dataset, read_description, read_label_maps
from consilium.data.dicom_files import open_dicom
from consilium.data.manifest import Columns
from consilium.data.quiet import quietly
from consilium.data.reading import Policy
from consilium.data.rendering import Rendering
from consilium.data.resizing import shrink_plane
from consilium.data.sources import read_splits
from consilium.errors import DataError

SMALL = Policy(rendering=Rendering(size=16))
BY_TABLE = Columns(patient="person", label="finding")
BY_HEADER = Columns(patient=None, label="finding")
PATIENTS = 40


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill loses nothing that was written; only a power cut asks for the disk itself."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # noqa: ARG005 - the port's


@pytest.fixture
def pictures(tmp_path: Path) -> ImportJob:
    """Two PNGs of each of forty patients, and a table."""
    rows = ["file,person,finding"]
    for k in range(2 * PATIENTS):
        write(tmp_path / f"source/{k:03d}.png", encoded(picture(k), "PNG"))
        rows.append(f"{k:03d}.png,Müller {k // 2},{'ill' if k // 2 % 2 else 'well'}")
    write(tmp_path / "key", bytes(32)).chmod(0o600)
    return ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=SMALL,
        columns=BY_TABLE,
        key=tmp_path / "key",
        labels=write(tmp_path / "labels.csv", "\n".join(rows).encode()),
    )


def everything(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def left_out(job: ImportJob) -> dict[str, str]:
    with (job.steward / "rejected.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


# -- What comes in --------------------------------------------------------------------


def test_pictures_come_in_as_they_are_by_patient(pictures: ImportJob) -> None:
    summary = run_import(pictures)

    splits = read_splits(str(pictures.out), None, image_size=None, unit="patient")
    assert summary.classes == splits.classes == ("ill", "well")
    assert sum(count.patients for count in summary.counts.values()) == PATIENTS
    assert sum(count.records for count in summary.counts.values()) == 2 * PATIENTS
    assert splits.train.shape == (1, 16, 16)
    assert (summary.rejected, summary.note) == ({}, "")
    assert splits.unit == "patient"


def test_arrays_are_memory_mapped_not_copied(pictures: ImportJob) -> None:
    run_import(pictures)

    splits = read_splits(str(pictures.out), None, image_size=None, unit="patient")

    assert isinstance(splits.train.inputs, np.memmap)


def test_a_row_is_the_rendering_of_its_file(pictures: ImportJob) -> None:
    run_import(pictures)
    pseudonym = pseudonymiser_of(pictures.key, outside=pictures.out).pseudonym("Müller 1")

    with (pictures.out / "records.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["pseudonym"] == pseudonym]

    found = [np.load(pictures.out / f"{row['split']}_inputs.npy")[int(row["row"])] for row in rows]
    expected = [shrink_plane(np.asarray(picture(k))[None], 16, 16) for k in (2, 3)]
    assert [row["label"] for row in rows] == ["0", "0"]
    assert np.array_equal(found, expected)


def test_a_split_column_is_followed(pictures: ImportJob, tmp_path: Path) -> None:
    rows = ["file,person,finding,split"]
    split = ("train", "val", "test")
    rows += [f"{k:03d}.png,{k},{k % 2},{split[k % 3]}" for k in range(2 * PATIENTS)]
    table = write(tmp_path / "split.csv", "\n".join(rows).encode())

    counts = run_import(replace(pictures, labels=table)).counts

    assert [counts[name].records for name in ("train", "validation", "test")] == [27, 27, 26]


def test_folders_name_the_classes_and_dicom_the_patients(tmp_path: Path) -> None:
    for k in range(60):
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16), dtype=np.uint8)
        name = f"source/{'ill' if k % 2 else 'well'}/IM{k:04d}"
        write(tmp_path / name, saved(dicom(pixels, PatientID=f"patient {k // 2}")))
    job = ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=SMALL,
        columns=BY_HEADER,
        key=tmp_path / "key",
    )

    summary = run_import(job)

    assert sum(count.patients for count in summary.counts.values()) == 30
    assert summary.removed["PatientID"] == 60
    assert (job.key.stat().st_mode & 0o777, job.key.stat().st_size) == (0o600, 32)
    assert b"CHEST" in (job.out / "tags.csv").read_bytes()


def test_a_table_may_be_about_studies(tmp_path: Path) -> None:
    rows = ["AccessionNumber,finding"]
    for k in range(60):
        tags = {"PatientID": f"{k}", "AccessionNumber": f"A{k}"}
        write(tmp_path / f"source/{k}", saved(dicom(np.full((8, 8), k, np.uint8), **tags)))
        rows.append(f"A{k},{k % 2}")
    job = ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=SMALL,
        columns=replace(BY_HEADER, match="AccessionNumber"),
        key=tmp_path / "key",
        labels=write(tmp_path / "labels.csv", "\n".join(rows).encode()),
    )

    assert run_import(job).rejected == {}


def volumes(folder: Path, count: int) -> ImportJob:
    rows = ["file,person"]
    for k in range(count):
        values = np.random.default_rng(k).normal(0, 100, (12, 10, 6)).astype(np.float32)
        write(folder / f"images/{k}.nii", nifti(values))
        write(folder / f"labels/{k}.nii", nifti((values > 50).astype(np.uint8)))
        rows.append(f"{k}.nii,{k}")
    return ImportJob(
        source=folder / "images",
        out=folder / "out",
        policy=replace(SMALL, classes=("background", "bright")),
        columns=Columns(patient="person", label=None),
        key=folder / "key",
        labels=write(folder / "labels.csv", "\n".join(rows).encode()),
        label_maps=folder / "labels",
    )


def test_volumes_are_cut_with_their_label_maps(tmp_path: Path) -> None:
    job = volumes(tmp_path, 30)

    summary = run_import(job)

    said = read_description(job.out)
    maps = read_label_maps(job.out, said, "train")
    inputs = np.load(job.out / "train_inputs.npy")
    assert (said.task, said.shape) == ("segmentation", (1, 16, 16))
    assert sum(count.records for count in summary.counts.values()) == 30 * 6
    assert maps.shape == (said.counts["train"].records, 16, 16)
    assert inputs[:, 0][maps == 1].min() > inputs[:, 0][maps == 0].mean()


def test_volumes_may_stay_whole(tmp_path: Path) -> None:
    job = volumes(tmp_path, 6)
    job = replace(job, policy=replace(job.policy, rendering=Rendering(size=16, depth=4)))

    run_import(job)

    said = read_description(job.out)
    assert said.shape == (1, 4, 16, 16)
    assert read_label_maps(job.out, said, "train").shape[1:] == (4, 16, 16)


def test_a_series_is_one_volume(tmp_path: Path) -> None:
    for k in range(6):
        for number, one in enumerate(slices(5, patient=f"patient {k}")):
            write(tmp_path / f"source/{'ab'[k % 2]}/{k}-{9 - number}", saved(one))
    policy = Policy(rendering=Rendering(size=16, depth=5))
    job = ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=policy,
        columns=BY_HEADER,
        key=tmp_path / "key",
    )

    counts = run_import(job).counts

    assert sum(count.records for count in counts.values()) == 6
    first = next(split for split in counts if counts[split].records)
    planes = np.load(job.out / f"{first}_inputs.npy")[0, 0, :, 0, 0]
    assert (np.diff(planes.astype(int)) > 0).all()


def test_a_table_of_numbers_comes_in_as_features(tmp_path: Path) -> None:
    rows = ["person,age,pressure,finding"]
    rows += [f"P{k},{30 + k},{100 + k / 2},{k % 2}" for k in range(60)]
    rows += ["P90,,120,1", ",40,120,1", "P91,40,120,", "P92,inf,1,1"]
    job = ImportJob(
        source=write(tmp_path / "heart.csv", "\n".join(rows).encode()),
        out=tmp_path / "out",
        policy=Policy(rendering=Rendering()),
        columns=BY_TABLE,
        key=tmp_path / "key",
    )

    summary = run_import(job)

    splits = read_splits(str(job.out), None, image_size=None, unit="patient")
    assert summary.rejected == {"not finite": 2, "no patient identifier": 1, "no label": 1}
    assert splits.train.inputs.dtype == np.float32
    assert splits.train.shape == (2,)
    assert read_description(job.out).features == ("age", "pressure")


def test_a_column_of_names_is_no_feature(tmp_path: Path) -> None:
    rows = b"person,name,finding\n1,Hans,0\n2,Eva,1\n"
    job = ImportJob(
        source=write(tmp_path / "heart.csv", rows),
        out=tmp_path / "out",
        policy=SMALL,
        columns=BY_TABLE,
        key=tmp_path / "key",
    )

    with pytest.raises(DataError, match="found 'name' without a number"):
        run_import(job)


def test_a_planted_copy_is_reported(pictures: ImportJob, tmp_path: Path) -> None:
    write(tmp_path / "source/000.png", (tmp_path / "source/079.png").read_bytes())
    rows = ["file,person,finding,split"]
    rows += [
        f"{k:03d}.png,{k},{k % 2},{'test' if k > 60 else 'train'}" for k in range(2 * PATIENTS)
    ]
    table = write(tmp_path / "split.csv", "\n".join(rows).encode())

    summary = run_import(replace(pictures, labels=table))

    assert "1 exact" in summary.copies
    assert b",exact\n" in (pictures.steward / "duplicates.csv").read_bytes()


# -- What is left out -----------------------------------------------------------------


def test_hostile_files_are_counted_by_name_and_stop_nothing(
    pictures: ImportJob, tmp_path: Path
) -> None:
    evil = {
        "000.png": (b"#!/bin/sh\ntouch owned\n", "wrong extension"),
        "001.png": (encoded(picture(1), "PNG")[:200], "damaged"),
        "002.jpg": (encoded(picture(1), "PNG"), "wrong extension"),
        "$(touch owned).png": (b"\x89PNG", "damaged"),
        "notes.docx": (b"PK\3\4", "not a format that is read"),
        "scan.dcm": (saved(dicom(np.zeros((8, 8), np.uint8)))[:-20], "damaged"),
        "deep.nii": (b"\0" * 400, "wrong extension"),
    }
    for name, (data, _) in evil.items():
        write(tmp_path / "source" / name, data)
    (tmp_path / "source/link.png").symlink_to("/etc/passwd")
    table = (tmp_path / "labels.csv").read_text() + "\nlink.png,1,ill\n002.jpg,1,ill\n"
    write(tmp_path / "labels.csv", (table + "scan.dcm,2,ill\ndeep.nii,2,ill\n").encode())

    summary = run_import(pictures)

    expected = {name: reason for name, (_, reason) in evil.items()}
    assert left_out(pictures) == {**expected, "link.png": "not a regular file"}
    assert sum(summary.rejected.values()) == len(evil) + 1
    assert sum(count.records for count in summary.counts.values()) == 2 * PATIENTS - 2
    assert not list(tmp_path.rglob("owned"))


def test_a_hostile_archive_is_read_without_unpacking(pictures: ImportJob, tmp_path: Path) -> None:
    archive = tmp_path / "files.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted((tmp_path / "source").iterdir()):
            packed.write(path, path.name)
        packed.writestr("../../evil.png", b"x")
    before = sorted(path.name for path in tmp_path.iterdir())

    summary = run_import(replace(pictures, source=archive))

    assert summary.rejected == {"unsafe path": 1}
    made = {"out", "out.steward"}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({*before, *made})


def test_a_missing_patient_or_label_is_refused_not_guessed(
    pictures: ImportJob, tmp_path: Path
) -> None:
    table = (tmp_path / "labels.csv").read_text().splitlines()
    table[1], table[2], table[3] = "000.png,,ill", "001.png,Eva,", "other.png,Eva,ill"
    write(tmp_path / "labels.csv", "\n".join(table).encode())

    run_import(pictures)

    assert left_out(pictures) == {
        "000.png": "no patient identifier",
        "001.png": "no label",
        "002.png": "no label",
    }


def test_pictures_without_patients_need_an_unit_that_says_so(tmp_path: Path) -> None:
    for k in range(60):
        write(tmp_path / f"source/{k % 2}/{k}.png", encoded(picture(k), "PNG"))
    job = ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=SMALL,
        columns=BY_HEADER,
        key=tmp_path / "key",
    )

    with pytest.raises(DataError, match="found no record that could be imported"):
        run_import(job)
    job = replace(job, policy=replace(SMALL, unit="record"), out=tmp_path / "other")
    run_import(job)

    assert read_splits(str(job.out), None, image_size=None, unit="record").unit == "record"
    with pytest.raises(DataError, match="found no patient identifiers"):
        read_splits(str(job.out), None, image_size=None, unit="patient")


def risky(folder: Path, **confirmed: bool) -> ImportJob:
    for k in range(4):
        text = dicom(np.full((8, 8), k, np.uint8), PatientID=f"{k}", Modality="US")
        face = dicom(np.full((8, 8), k, np.uint8), PatientID=f"{k}", BodyPartExamined="HEAD")
        write(folder / f"source/{k % 2}/us{k}", saved(text))
        write(folder / f"source/{k % 2}/ct{k}", saved(face))
    return ImportJob(
        source=folder / "source",
        out=folder / "out",
        policy=Policy(rendering=Rendering(size=8), **confirmed),  # type: ignore[arg-type]  # bools
        columns=BY_HEADER,
        key=folder / "key",
    )


def test_text_and_faces_are_blocked_until_they_are_confirmed_each(tmp_path: Path) -> None:
    job = risky(tmp_path / "one", no_burned_in_text=True)
    both = risky(tmp_path / "two", no_burned_in_text=True, no_faces=True)

    assert run_import(job).rejected == {"face not ruled out": 4}
    assert run_import(both).rejected == {}
    assert set(left_out(job).values()) == {"face not ruled out"}
    said = read_description(both.out).deidentification["confirmed by the steward"]
    assert said == "no burned-in text, no face can be rendered"


def test_nothing_is_confirmed_by_default(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found no record"):
        run_import(risky(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": replace(SMALL, classes=("ill", "sick"))}, "1 labels that are none of"),
        ({"policy": replace(SMALL, classes=("ill",))}, "1 labels that are none of"),
        ({"labels": None}, "0 classes"),
        ({"columns": Columns(patient="nobody", label="finding")}, "no column 'nobody'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_read(
    pictures: ImportJob, change: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        run_import(replace(pictures, **change))  # type: ignore[arg-type]  # by the cases above

    assert not pictures.part.exists()


def test_a_patient_in_two_split_folders_is_refused(tmp_path: Path) -> None:
    for k in range(40):
        name = f"source/{'train' if k < 30 else 'test'}/{k % 2}/{k}"
        write(tmp_path / name, saved(dicom(np.full((8, 8), k, np.uint8), PatientID=f"{k % 31}")))
    job = ImportJob(
        source=tmp_path / "source",
        out=tmp_path / "out",
        policy=SMALL,
        columns=BY_HEADER,
        key=tmp_path / "key",
    )

    with pytest.raises(DataError, match="found 9 patients in more than one split"):
        run_import(job)
    assert not job.out.exists()


# -- What never leaks -----------------------------------------------------------------


def test_no_identifier_or_file_name_is_in_the_dataset_or_the_log(
    pictures: ImportJob, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    write(pictures.source / "Müller Hans.png", b"broken")

    run_import(pictures)

    written = b"".join(everything(pictures.out).values())
    shown = "".join(capsys.readouterr()) + caplog.text
    assert "Müller".encode() not in written
    assert b".png" not in written
    assert bytes(32).hex().encode() not in written
    assert shown == ""
    assert "Müller Hans.png" in left_out(pictures)


def identities(dataset: Dataset) -> set[bytes]:
    """What of an object names its patient, in the bytes that it could be written as."""
    found = set()
    for element in dataset.iterall():
        if element.VR == "PN" or element.keyword in ("PatientID", "AccessionNumber", "StudyID"):
            for value in element.value if element.VM > 1 else [element.value]:
                parts = str(value or "").replace("=", "^").split("^")
                for form in ("utf-8", "utf-16-le"):
                    found |= {part.encode(form, "replace") for part in parts}
                original = getattr(value, "original_string", None) or b""
                found |= set(original.split(b"^"))
    # A pseudonym is hexadecimal: it holds short numbers by chance.
    return {one for one in found if len(one) >= (6 if one.isdigit() else 4)}


def test_no_name_of_a_real_object_is_in_a_byte_of_the_dataset_or_the_log(
    real_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    write(tmp_path / "key", bytes(32)).chmod(0o600)
    policy = Policy(
        rendering=Rendering(size=32), dates="shift", no_burned_in_text=True, no_faces=True
    )
    job = ImportJob(
        source=real_data / "dicom_pydicom",
        out=tmp_path / "out",
        policy=policy,
        columns=BY_HEADER,
        key=tmp_path / "key",
    )

    summary = run_import(job)

    names: set[bytes] = set()
    for path in job.source.rglob("*"):
        if path.is_file() and path.read_bytes()[128:132] == b"DICM":
            with quietly():
                names |= identities(open_dicom(path.read_bytes(), header_only=True))
    written = b"".join(everything(job.out).values())
    shown = ("".join(capsys.readouterr()) + caplog.text).encode()
    assert sum(count.records for count in summary.counts.values()) > 90
    assert len(names) > 80
    assert [name for name in names if name in written or name in shown] == []


# -- Going on -------------------------------------------------------------------------


class Stopped(Exception):
    """Stands for a kill in this process."""


def stop_after(files: int) -> importing.Watch:
    def watch(done: int, total: int, rejected: int) -> None:  # noqa: ARG001 - the port's
        if done == files:
            raise Stopped

    return watch


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "STRETCH", 16)


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("files", [1, 16, 40, 79, 80])
def test_an_import_that_was_stopped_goes_on_to_the_same_bytes(
    pictures: ImportJob, files: int
) -> None:
    write(pictures.source / "010.png", b"broken")
    whole = replace(pictures, out=pictures.out.with_name("whole"))
    run_import(whole)

    with pytest.raises(Stopped):
        run_import(pictures, watch=stop_after(files))
    assert not is_dataset(pictures.out)
    summary = run_import(pictures)

    assert everything(pictures.out) == everything(whole.out)
    assert everything(pictures.steward) == everything(whole.steward)
    assert summary.rejected == {"wrong extension": 1}


@pytest.mark.usefixtures("short_stretches")
def test_going_on_does_not_read_again_what_is_marked(pictures: ImportJob) -> None:
    with pytest.raises(Stopped):
        run_import(pictures, watch=stop_after(40))
    seen: list[int] = []

    run_import(pictures, watch=lambda done, total, rejected: seen.append(done))  # noqa: ARG005

    assert seen[0] == 33


KILLED = """
import os, signal, sys
from pathlib import Path
from consilium.adapters import importing
from consilium.cli.importing import Request
importing.STRETCH = 16
def watch(done, total, rejected):
    if done == 50:
        os.kill(os.getpid(), signal.SIGKILL)
request = dict(source=Path("source"), out=Path("out"), labels=Path("labels.csv"),
    patient_id="person", label="finding", match="file", classes=(), label_maps=None,
    unit="patient", size=16, colour="grey", window=None, plane="axial", depth=None,
    validation_share=.15, test_share=.15, dates="drop", no_burned_in_text=False,
    no_faces=False, key=Path("key"))
importing.run_import(Request(**request).job(), watch=watch)
"""


def test_a_killed_process_goes_on_to_the_same_bytes(
    pictures: ImportJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    near = replace(
        pictures, source=Path("source"), out=Path("out"), labels=Path("labels.csv"), key=Path("key")
    )
    run_import(replace(near, out=Path("whole")))

    monkeypatch.setenv("PYTHONPATH", str(Path(consilium.__file__).parents[1]))

    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - our own words

    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert (tmp_path / "out.part").is_dir()
    run_import(near)
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


def test_importing_again_says_what_was_done(pictures: ImportJob) -> None:
    write(pictures.source / "010.png", b"broken")
    first = run_import(pictures)
    before = everything(pictures.out)

    assert run_import(pictures) == first
    assert everything(pictures.out) == before


def test_another_import_in_the_same_place_is_refused(pictures: ImportJob, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run_import(pictures, watch=stop_after(80))
    other = replace(pictures, policy=replace(SMALL, dates="shift"))

    write(tmp_path / "source/zzz.png", b"new")
    with pytest.raises(DataError, match="found another import begun"):
        run_import(pictures)
    (tmp_path / "source/zzz.png").unlink()
    with pytest.raises(DataError, match="found another import begun"):
        run_import(other)
    run_import(pictures)
    with pytest.raises(DataError, match="that this import did not make"):
        run_import(other)


def test_a_dataset_inside_its_source_is_refused(pictures: ImportJob) -> None:
    with pytest.raises(DataError, match="inside the source"):
        run_import(replace(pictures, out=pictures.source / "out"))


def test_a_dry_run_writes_the_report_and_no_dataset(pictures: ImportJob) -> None:
    write(pictures.source / "010.png", b"broken")

    summary = run_import(pictures, dry_run=True)

    assert left_out(pictures) == {"010.png": "wrong extension"}
    assert not pictures.out.exists()
    assert not pictures.part.exists()
    assert summary.counts == run_import(pictures).counts


# -- The secret -----------------------------------------------------------------------


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "deep/key"

    first = pseudonymiser_of(path, outside=tmp_path / "out")

    assert path.stat().st_mode & 0o777 == 0o600
    assert pseudonymiser_of(path, outside=tmp_path / "out") == first
    assert sorted(p.name for p in path.parent.iterdir()) == ["key"]


def test_a_secret_in_the_dataset_open_to_others_or_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="inside the dataset"):
        pseudonymiser_of(tmp_path / "out/key", outside=tmp_path / "out")
    path = write(tmp_path / "key", bytes(32))
    path.chmod(0o644)
    with pytest.raises(DataError, match="mode 644 and 32 bytes"):
        pseudonymiser_of(path, outside=tmp_path / "out")
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(DataError, match="5 bytes"):
        pseudonymiser_of(path, outside=tmp_path / "out")
