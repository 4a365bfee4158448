# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: MNIST from its four files, and the 1,797 that come with scikit-learn.

Both are public, name no patient, and stand in for images where no medical ones are at hand: the
second needs no file and no network. The divisions are public rules: MNIST's validation set is
the last 5,000 of its training images; the small set is put in the order of a digest and cut at
60 % and 80 %.

Source: LeCun et al. 1998 (MNIST, CC BY-SA 3.0); Alpaydin & Kaynak 1998 (doi 10.24432/C50P49).
"""

import gzip
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consilium.data.archives import missing_file
from consilium.data.preparation import Raw, RawPart
from consilium.errors import DataError
from consilium.wire import digest

CLASSES: Final = tuple(str(digit) for digit in range(10))
_MNIST_VALIDATION: Final = 5_000
_UNSIGNED_BYTE: Final = 8  # IDX type code
_BRIGHTEST: Final = 16  # scikit-learn's digits are counts from 0 to 16


# -- MNIST ----------------------------------------------------------------------------


def read_mnist(folder: Path) -> Raw:
    """Returns MNIST: 55,000 training, 5,000 validation and 10,000 test images of 28 px.

    Raises:
        DataError: A file is missing or is not an IDX file of the announced size.
    """
    rest = _read_pair(folder / "mnist", "train")
    cut = len(rest.labels) - _MNIST_VALIDATION
    if cut <= 0:
        raise DataError(
            f"found {len(rest.labels)} MNIST training images; expected more than "
            f"{_MNIST_VALIDATION}; download the files again"
        )
    return Raw(
        parts={
            "train": RawPart(inputs=rest.inputs[:cut], labels=rest.labels[:cut]),
            "validation": RawPart(inputs=rest.inputs[cut:], labels=rest.labels[cut:]),
            "test": _read_pair(folder / "mnist", "t10k"),
        },
        classes=CLASSES,
        origin="MNIST handwritten digits, validation = the last 5,000 training images",
    )


def _read_pair(folder: Path, prefix: str) -> RawPart:
    images = _read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", dimensions=1)
    return RawPart(inputs=images[:, None], labels=labels.astype(np.int64))


def _read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Returns the array in a gzipped IDX file of bytes: magic, big-endian sizes, values."""
    if not path.is_file():
        raise missing_file(path)
    try:
        with gzip.open(path) as file:
            magic = file.read(4)
            sizes = np.frombuffer(file.read(4 * dimensions), dtype=">u4").tolist()
            values = file.read()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise _damaged(path, f"data that cannot be unpacked ({type(error).__name__})") from None
    if magic != bytes([0, 0, _UNSIGNED_BYTE, dimensions]):
        raise _damaged(path, "another kind of file")
    count = 1
    for size in sizes:
        count *= size
    if len(sizes) != dimensions or len(values) != count:
        raise _damaged(path, f"{len(values)} values for sizes {sizes}")
    return np.frombuffer(values, np.uint8).reshape(sizes)


def _damaged(path: Path, found: str) -> DataError:
    return DataError(
        f"{path.name}: found {found}; expected a gzipped IDX file of bytes; download it again"
    )


# -- Digits of scikit-learn -----------------------------------------------------------


def read_digits() -> Raw:
    """Returns the digits bundled with scikit-learn: 1,797 images of 8 px, grey 0 to 255."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - a second to load

    bundled = load_digits()
    images = np.rint(bundled.images * (255 / _BRIGHTEST)).astype(np.uint8)[:, None]
    labels = bundled.target.astype(np.int64)
    order = np.array(sorted(range(len(labels)), key=lambda row: digest("digits-order", row)))
    train, validation, test = np.split(order, [len(order) * 6 // 10, len(order) * 8 // 10])
    return Raw(
        parts={
            "train": RawPart(inputs=images[train], labels=labels[train]),
            "validation": RawPart(inputs=images[validation], labels=labels[validation]),
            "test": RawPart(inputs=images[test], labels=labels[test]),
        },
        classes=CLASSES,
        origin="handwritten digits bundled with scikit-learn, 8 px",
    )
