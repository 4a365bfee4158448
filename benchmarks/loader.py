# SPDX-License-Identifier: Apache-2.0
"""Images a second and memory: our import and reading back, MONAI, and a plain PyTorch Dataset.

The same files, one thread, each contender in a process of its own, in turn; medians, by the clock
and by the processor's own time (where other work shares the machine, the second compares). Columns:
form, contender, first pass, the same by processor, epoch, the same, peak MiB. First pass:
every file once, ours writing the dataset and MONAI's PersistentDataset its cache. Epoch: every
image once more in a shuffled order, as float32 batches of 64.

    CONSILIUM_DATA=... python benchmarks/loader.py --images 10000 --repeats 3

The X-rays are those of pneumonia_cxr/cxr224_jpeg.zip, repeated to the number asked for. The DICOM
objects hold the same pictures at 128 px, 16 bit, with the tags of pydicom's CT_small.dcm.
"""

import argparse
import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from torch import Tensor
from torch.utils.data import Dataset

from consilium.adapters.importing import ImportJob, run_import
from consilium.data.dataset_folder import read_dataset_folder
from consilium.data.manifest import Columns
from consilium.data.reading import Policy
from consilium.data.records import SPLITS
from consilium.data.rendering import Rendering

Seconds = tuple[float, float]  # by the clock, of the processor
CONTENDERS = ("consilium", "monai", "plain")
FORMS = ("jpeg", "dicom")
BATCH = 64


# -- The files ------------------------------------------------------------------------


def make_jpegs(archive: Path, folder: Path, count: int) -> None:
    with zipfile.ZipFile(archive) as packed:
        names = sorted(name for name in packed.namelist() if name.endswith(".jpeg"))
        for k in range(count):
            name = names[k % len(names)]
            path = folder / name.split("/")[1] / f"{k:06d}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.read(name))


def make_dicoms(jpegs: Path, folder: Path) -> None:
    for path in sorted(jpegs.rglob("*.jpeg")):
        dataset = dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        with Image.open(path) as image:
            small = np.asarray(image.convert("L").resize((128, 128)), np.int16)
        dataset.PixelData = (small * 8).tobytes()
        dataset.PatientID = path.stem
        dataset.WindowCenter, dataset.WindowWidth = 0, 2048
        dataset.BodyPartExamined = "CHEST"
        out = folder / path.parent.name / f"{path.stem}.dcm"
        out.parent.mkdir(parents=True, exist_ok=True)
        dataset.save_as(out)


def write_table(folder: Path, table: Path) -> None:
    with table.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(("file", "patient", "label"))
        for path in sorted(folder.rglob("*.*")):
            lines.writerow((path.relative_to(folder).as_posix(), path.stem, path.parent.name))


# -- The contenders -------------------------------------------------------------------


def read_picture(path: Path) -> Tensor:
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L"))
    return torch.from_numpy(grey.copy()).float().div_(255)[None]


def read_object(path: Path) -> Tensor:
    dataset = dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    return torch.from_numpy(np.asarray(values, np.float32))[None]


class PlainFolder(Dataset[tuple[Tensor, int]]):
    """The class of a file is its folder, as in torchvision's ImageFolder."""

    def __init__(self, folder: Path, read: Callable[[Path], Tensor]) -> None:
        self.files = sorted(folder.rglob("*.*"))
        self.classes = sorted({path.parent.name for path in self.files})
        self.read = read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.files[index]
        return self.read(path), self.classes.index(path.parent.name)


def in_batches(dataset: "Dataset[tuple[Tensor, int]]", count: int) -> Iterator[Tensor]:
    order = np.random.default_rng(0).permutation(count)
    for start in range(0, count, BATCH):
        yield torch.stack([dataset[int(k)][0] for k in order[start : start + BATCH]])


def run_plain(form: str, folder: Path, _table: Path, _out: Path) -> tuple[Seconds, Seconds]:
    plain = PlainFolder(folder, read_picture if form == "jpeg" else read_object)
    first = timed(lambda: sum(len(plain[k][0]) for k in range(len(plain))))
    return first, timed(lambda: sum(len(batch) for batch in in_batches(plain, len(plain))))


def run_monai(form: str, folder: Path, _table: Path, out: Path) -> tuple[Seconds, Seconds]:
    from monai.data import PersistentDataset  # noqa: PLC0415 - no part of the others' memory
    from monai.transforms import (  # noqa: PLC0415 - as above
        Compose,
        EnsureChannelFirstd,
        EnsureTyped,
        LoadImaged,
        ScaleIntensityRanged,
    )

    files = sorted(folder.rglob("*.*"))
    classes = sorted({path.parent.name for path in files})
    grey = {"converter": lambda image: image.convert("L")} if form == "jpeg" else {}
    reader = "PILReader" if form == "jpeg" else "PydicomReader"
    black, white = (0, 255) if form == "jpeg" else (-1024, 1023)
    steps = Compose(
        [
            LoadImaged("image", reader=reader, image_only=True, **grey),
            EnsureChannelFirstd("image"),
            ScaleIntensityRanged("image", black, white, 0, 1, clip=True),
            EnsureTyped("image", dtype=torch.float32, track_meta=False),
        ]
    )
    rows = [{"image": str(path), "label": classes.index(path.parent.name)} for path in files]
    cached = PersistentDataset(rows, steps, cache_dir=out)

    class Pairs(Dataset[tuple[Tensor, int]]):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            row = cached[index]
            return row["image"], row["label"]

    first = timed(lambda: sum(len(cached[k]["image"]) for k in range(len(rows))))
    return first, timed(lambda: sum(len(batch) for batch in in_batches(Pairs(), len(rows))))


def run_consilium(form: str, folder: Path, table: Path, out: Path) -> tuple[Seconds, Seconds]:
    job = ImportJob(
        source=folder,
        out=out / "dataset",
        policy=Policy(rendering=Rendering(size=224 if form == "jpeg" else 128)),
        columns=Columns(patient="patient", label="label"),
        key=out / "key",
        labels=table,
    )
    first = timed(lambda: run_import(job))

    def epoch() -> None:
        raw = read_dataset_folder(job.out)
        for split in SPLITS:
            inputs = raw.parts[split].inputs
            order = np.random.default_rng(0).permutation(len(inputs))
            for start in range(0, len(inputs), BATCH):
                torch.from_numpy(inputs[order[start : start + BATCH]]).float().div_(255)

    return first, timed(epoch)


RUNS = {"consilium": run_consilium, "monai": run_monai, "plain": run_plain}


def timed(work: Callable[[], object]) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


# -- The measurement ------------------------------------------------------------------


def measure(contender: str, form: str, files: Path) -> dict[str, float]:
    """Runs one contender in a process of its own."""
    with tempfile.TemporaryDirectory(dir=files) as out:
        command = [sys.executable, __file__, "--contender", contender, "--form", form]
        command += ["--files", str(files), "--out", out]
        done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_one(contender: str, form: str, files: Path, out: Path) -> None:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, epoch = RUNS[contender](form, files / form, files / f"{form}.csv", out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "first": first[0],
        "first_cpu": first[1],
        "epoch": epoch[0],
        "epoch_cpu": epoch[1],
        "peak_mib": peak / 1024,
        "start_mib": before / 1024,
    }
    print(json.dumps(found))


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--images", type=int, default=10_000)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--contender", choices=CONTENDERS)
    asked.add_argument("--form", choices=FORMS)
    asked.add_argument("--files", type=Path)
    asked.add_argument("--out", type=Path)
    options = asked.parse_args()
    if options.contender:
        run_one(options.contender, options.form, options.files, options.out)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    files = Path(tempfile.mkdtemp(prefix="consilium-loader-"))
    try:
        archive = Path(os.environ["CONSILIUM_DATA"]) / "pneumonia_cxr/cxr224_jpeg.zip"
        make_jpegs(archive, files / "jpeg", options.images)
        forms = (options.form,) if options.form else FORMS
        if "dicom" in forms:
            make_dicoms(files / "jpeg", files / "dicom")
        for form in forms:
            write_table(files / form, files / f"{form}.csv")
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
            for _ in range(options.repeats):
                for name in CONTENDERS:
                    runs[name].append(measure(name, form, files))
            for name in CONTENDERS:
                show(form, name, runs[name], options.images)
    finally:
        shutil.rmtree(files)


def show(form: str, name: str, runs: list[dict[str, float]], images: int) -> None:
    keys = ("first", "first_cpu", "epoch", "epoch_cpu")
    rates = [f"{statistics.median(images / run[key] for run in runs):.0f}" for key in keys]
    peak = f"{statistics.median(run['peak_mib'] for run in runs):.0f}"
    print(f"| {' | '.join((form, name, *rates, peak))} |", flush=True)


if __name__ == "__main__":
    main()
