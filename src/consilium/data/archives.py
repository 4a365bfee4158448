# SPDX-License-Identifier: Apache-2.0
"""Images in a NumPy archive: {train,val,test}_{images,labels or maps}, and patients if any.

    key               shape                                        type
    <split>_images    (n, h, w), (n, h, w, 1 or 3), (n, 1 or 3, h, w); uint8
                      volumes: (n, 1 or 3, d, h, w)
    <split>_labels    (n,) or (n, 1), classes numbered from 0      integer
    <split>_maps      (n, [d,] h, w), in place of labels: the class of every pixel   uint8
    train_soft        (n, classes), probabilities to be learnt in place of the labels   float
    <split>_groups    (n,) or (n, 1); `_patients` is the same      text or integer, optional
    <split>_sites     (n,) or (n, 1)                               text or integer, optional
    classes           (number of classes,), their names            text, optional

Threat model: the file may be damaged or hostile. It is never unpickled; what does not fit the
table raises `DataError` with one line. Not here: a limit on the memory that a file may ask for.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from consilium.data.preparation import Parts, Raw, RawPart
from consilium.data.records import CHANNELS, Labels, SplitName
from consilium.errors import DataError

Arrays: TypeAlias = Mapping[str, NDArray[np.generic]]

PREFIXES: Final[Mapping[SplitName, str]] = {
    "train": "train",
    "validation": "val",
    "test": "test",
}
_PATIENT_COLUMNS: Final = ("groups", "patients")
_DAMAGE: Final = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    NotImplementedError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_archive(path: Path, origin: str, classes: tuple[str, ...] = ()) -> Raw:
    """Returns the three splits in the archive at `path`.

    Args:
        path: An .npz file.
        origin: One line that says what it is.
        classes: The class names; empty to take them from the file, else from the labels.

    Raises:
        DataError: The file is missing, damaged, or does not follow the table above.
    """
    arrays = _arrays(path)
    try:
        parts: Parts = {name: _part(arrays, prefix) for name, prefix in PREFIXES.items()}
        return Raw(parts=parts, classes=classes or _classes(arrays, parts), origin=origin)
    except DataError as error:
        raise DataError(f"{path.name}: {error}") from None


def missing_file(path: Path) -> DataError:
    """Returns the error for a file that a source needs and that is not there."""
    return DataError(
        f"found no file {path}; expected it in the data folder; set CONSILIUM_DATA or the "
        "folder of the dataset to where it lies"
    )


def _arrays(path: Path) -> Arrays:
    if not path.is_file():
        raise missing_file(path)
    try:
        with path.open("rb") as file:  # opened here, because np.load leaves a damaged one open
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, NpzFile):
                raise _unreadable(path, "a single array")
            with archive:
                return {key: archive[key] for key in archive.files if _is_known(key)}
    except _DAMAGE as error:
        raise _unreadable(path, type(error).__name__) from None


def _unreadable(path: Path, why: str) -> DataError:
    return DataError(
        f"{path.name}: found a file that cannot be read ({why}); expected an .npz archive of "
        "plain arrays; copy or download it again, or save it without object arrays"
    )


def _is_known(key: str) -> bool:
    prefix, _, column = key.partition("_")
    known = ("images", "labels", "maps", "sites", *_PATIENT_COLUMNS)
    return key in ("classes", "train_soft") or (prefix in PREFIXES.values() and column in known)


# -- One split ------------------------------------------------------------------------


def _part(arrays: Arrays, prefix: str) -> RawPart:
    target = "maps" if f"{prefix}_maps" in arrays else "labels"
    if target == "maps" and f"{prefix}_labels" in arrays:
        raise DataError(
            f"found {prefix}_labels and {prefix}_maps; expected one of them; remove what is not to "
            "be learnt"
        )
    absent = [f"{prefix}_{key}" for key in ("images", target) if f"{prefix}_{key}" not in arrays]
    if absent:
        raise DataError(
            f"found no array {absent[0]}; expected {{train,val,test}}_{{images,labels}}; name "
            "the arrays so"
        )
    both = [f"{prefix}_{column}" for column in _PATIENT_COLUMNS if f"{prefix}_{column}" in arrays]
    if len(both) > 1:
        raise DataError(f"found {both[0]} and {both[1]}; expected one of them; remove the other")
    return RawPart(
        inputs=_images(arrays[f"{prefix}_images"], prefix),
        labels=_targets(arrays, prefix, target),
        patients=_names(arrays[both[0]], both[0]) if both else None,
        sites=_names(arrays[key], key) if (key := f"{prefix}_sites") in arrays else None,
        soft=_soft(arrays[key]) if (key := f"{prefix}_soft") in arrays else None,
    )


def _soft(array: NDArray[np.generic]) -> NDArray[np.float32]:
    if array.dtype.kind != "f":
        raise DataError(f"found train_soft of {array.dtype}; expected numbers from 0 to 1")
    return array.astype(np.float32)


def _images(array: NDArray[np.generic], prefix: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8 or array.ndim not in (3, 4, 5):
        raise DataError(
            f"found {prefix}_images of {array.dtype} {array.shape}; expected uint8 (n, height, "
            "width) or (n, height, width, channels); convert grey values to 0..255"
        )
    images = array.astype(np.uint8, copy=False)
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in CHANNELS:
        return np.ascontiguousarray(np.moveaxis(images, 3, 1))
    return images


def _targets(arrays: Arrays, prefix: str, target: str) -> Labels:
    array = arrays[f"{prefix}_{target}"]
    if target == "labels":
        return _labels(array, prefix)
    if array.dtype != np.uint8:
        raise DataError(
            f"found {prefix}_maps of {array.dtype}; expected uint8; number the classes from 0"
        )
    return array.astype(np.uint8, copy=False)


def _labels(array: NDArray[np.generic], prefix: str) -> NDArray[np.int64]:
    column = _column(array, f"{prefix}_labels")
    if column.dtype.kind not in "iu":
        raise DataError(
            f"found {prefix}_labels of {column.dtype}; expected whole numbers; number the classes "
            "from 0"
        )
    return column.astype(np.int64)


def _names(array: NDArray[np.generic], key: str) -> NDArray[np.str_]:
    column = _column(array, key)
    if column.dtype.kind not in "Uiu":
        raise DataError(
            f"found {key} of {column.dtype}; expected text or whole numbers; store identifiers "
            "as text"
        )
    return column.astype(np.str_)


def _column(array: NDArray[np.generic], key: str) -> NDArray[np.generic]:
    if array.ndim == 2 and array.shape[1] == 1:
        return array[:, 0]
    if array.ndim != 1:
        raise DataError(
            f"found {key} of shape {array.shape}; expected (n,) or (n, 1); give each record one "
            "value"
        )
    return array


# -- Class names ----------------------------------------------------------------------


def _classes(arrays: Arrays, parts: Parts) -> tuple[str, ...]:
    """Returns the names in the file, or "class 0", "class 1", ... for the labels in training."""
    if "classes" in arrays:
        return tuple(_names(arrays["classes"], "classes").tolist())
    labels = np.unique(parts["train"].labels)
    if labels.tolist() != list(range(len(labels))):
        raise DataError(
            f"found {len(labels)} different train_labels that are not 0 to {len(labels) - 1}; "
            "expected classes numbered from 0 without a gap; renumber them or add an array "
            "'classes' of their names"
        )
    return tuple(f"class {label}" for label in labels.tolist())
