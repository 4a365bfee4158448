# SPDX-License-Identifier: Apache-2.0
"""Public data divided among made-up hospitals, each with a dataset folder of its own.

The folders are those that `consilium data import` makes. For demonstrations: the images were public
before, and everybody's validation and test records are the same public ones.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from consilium import __version__
from consilium.adapters.dataset_writer import DatasetWriter
from consilium.adapters.whole_files import write_whole
from consilium.data.dataset_folder import DESCRIPTION, Count, Description
from consilium.data.partition import IidEqual, partition
from consilium.data.reading import Record
from consilium.data.records import SPLITS, Records, SplitName, Splits

_PUBLIC_PATIENTS: Final = 2  # that stand for training records where there are none


def write_hospitals(splits: Splits, folders: Sequence[Path], *, seed: int) -> None:
    """Writes a dataset folder a hospital, its training patients its own.

    Raises:
        DataError: There are too few patients.
    """
    classes = len(splits.classes)
    parts = partition(splits.train, IidEqual(), sites=len(folders), seed=seed, classes=classes)
    for folder, part in zip(folders, parts, strict=True):
        own: Mapping[SplitName, Records] = {
            "train": part,
            "validation": splits.validation,
            "test": splits.test,
        }
        _write(folder, splits, own)


def write_public(splits: Splits, folder: Path) -> None:
    """Writes the coordinator's dataset folder: validation and test records, nobody's training."""
    few = splits.validation.by_patient()[:_PUBLIC_PATIENTS]
    stand_in = splits.validation.take(np.concatenate(few))
    _write(
        folder,
        splits,
        {"train": stand_in, "validation": splits.validation, "test": splits.test},
    )


def _write(folder: Path, splits: Splits, parts: Mapping[SplitName, Records]) -> None:
    shape, dtype = splits.train.shape, str(splits.train.inputs.dtype)
    with DatasetWriter(folder, shape, dtype, label_maps=False, marks={}) as writer:
        for split in SPLITS:
            for record in _records(parts[split], split):
                writer.append(record)
        writer.finish()
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }
    said = Description(
        task="classification",
        unit=splits.unit,
        classes=splits.classes,
        features=tuple(f"feature {k + 1}" for k in range(shape[0])) if len(shape) == 1 else (),
        shape=shape,
        dtype="uint8" if dtype == "uint8" else "float32",
        counts={split: _count(parts[split], len(splits.classes)) for split in SPLITS},
        preprocessing={"images": "as the public source has them"},
        deidentification={"patient": "the public source's own pseudonyms"},
        copies_between_splits="not compared: a public source divided for a demonstration",
        software={"consilium": __version__, "numpy": version("numpy")},
        files=files,
    )
    write_whole(folder / DESCRIPTION, msgspec.json.format(msgspec.json.encode(said)))


def _records(part: Records, split: SplitName) -> Iterator[Record]:
    for inputs, label, patient in zip(part.inputs, part.labels, part.patients, strict=True):
        yield Record(
            inputs=inputs,
            label=int(label),
            label_map=None,
            pseudonym=f"{split}-{patient}",
            split=split,
            site="",
            kind="image",
            tags={},
        )


def _count(part: Records, classes: int) -> Count:
    counts = part.class_counts(classes)
    return Count(
        records=len(part),
        patients=part.patient_count,
        of_each_class=tuple(int(count) for count in counts),
    )
