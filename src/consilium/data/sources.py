# SPDX-License-Identifier: Apache-2.0
"""The datasets that a project can name, each read into patient-disjoint `Splits`.

    source           folder holds                               unit
    cxr64            pneumonia_cxr/cxr64.npz                     patient, record
    pneumoniamnist   medmnist/pneumoniamnist_reordered.npz with  patient, record
                     pneumoniamnist_patients.csv beside it, or
                     [medmnist/]pneumoniamnist.npz (official)    record
    retinamnist      [medmnist/]retinamnist.npz                  record
    mnist            mnist/*-ubyte.gz                            record
    hippocampus      hippocampus/{images,labels}/*.nii.gz        patient, record
    heart            heart_uci/processed.*.data                  patient, record
    digits           nothing                                     record
    <path>.npz       the archive that `archives` describes       as its columns allow
    <path>           a folder that `consilium data import` made  as it was imported

Guarantees: every division into train, validation and test is public and fixed; nothing is
fitted to the data. Not here: downloads (`adapters.downloads`), normalisation
(`learning.preprocessing`), and files of a hospital, which an import makes a folder of
(`adapters.importing`, `dataset_folder`).
"""

from pathlib import Path
from typing import Final

from consilium.data.archives import read_archive
from consilium.data.dataset_folder import is_dataset, read_dataset_folder
from consilium.data.digits import read_digits, read_mnist
from consilium.data.heart import read_heart
from consilium.data.hippocampus import read_hippocampus
from consilium.data.imaging import read_cxr64, read_pneumoniamnist, read_retinamnist
from consilium.data.preparation import Raw, prepare
from consilium.data.records import Splits, Unit
from consilium.errors import DataError

SOURCES: Final = (
    "cxr64",
    "pneumoniamnist",
    "retinamnist",
    "mnist",
    "hippocampus",
    "heart",
    "digits",
)
_ARCHIVE: Final = ".npz"


def read_splits(source: str, folder: Path | None, *, image_size: int | None, unit: Unit) -> Splits:
    """Returns the dataset that `source` names, in three splits without a common patient.

    Args:
        source: A name of `SOURCES`, or a path to an .npz file or an imported folder, relative to
            `folder` if given; an imported folder may also be relative to where one is.
        folder: Where the files lie; None is enough for "digits" and for a path.
        image_size: Pixels on a side after resizing; None keeps the size.
        unit: "patient", or "record" where the guarantee is to be about single images.

    Raises:
        DataError: The source is unknown, missing or damaged, names no patient under unit
            "patient", or has images smaller than `image_size`.

    >>> read_splits("digits", None, image_size=None, unit="record").test
    Records(360 records in 360 privacy units, each uint8 (1, 8, 8))
    """
    try:
        return prepare(_read(source, folder, unit), image_size=image_size, unit=unit)
    except DataError as error:
        raise DataError(f"source {source}: {error}") from None


def _read(source: str, folder: Path | None, unit: Unit) -> Raw:
    if source.endswith(_ARCHIVE):
        path = Path(source) if folder is None else folder / source
        return read_archive(path, f"images of {path.name}")
    if source == "digits":
        return read_digits()
    imported = _imported(source, folder)
    if imported is not None:
        return read_dataset_folder(imported)
    if source not in SOURCES:
        raise DataError(
            f"found no source of this name; expected one of {', '.join(SOURCES)}, a path that "
            f"ends in {_ARCHIVE}, or a folder that `consilium data import` made; name one"
        )
    if folder is None:
        raise DataError("found no data folder; expected one; set CONSILIUM_DATA or the folder")
    return _read_from(source, folder, unit)


def _imported(source: str, folder: Path | None) -> Path | None:
    if source in SOURCES:
        return None
    places = [Path(source)] if folder is None else [folder / source, Path(source)]
    return next((place for place in places if is_dataset(place)), None)


def _read_from(source: str, folder: Path, unit: Unit) -> Raw:
    match source:
        case "cxr64":
            return read_cxr64(folder)
        case "pneumoniamnist":
            return read_pneumoniamnist(folder, unit)
        case "retinamnist":
            return read_retinamnist(folder)
        case "mnist":
            return read_mnist(folder)
        case "hippocampus":
            return read_hippocampus(folder)
        case _:
            return read_heart(folder)
